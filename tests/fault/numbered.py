"""A model repository for the kill tests: version V answers request number N with `V * 10^9 + N`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from interlock.schemas.event import Event
from interlock.schemas.events import VersionWarmed
from tests.fault.load import VERSION_STEP
from tests.integration.client.journey import People, push, serve, until

MANIFEST = """
[model]
name = "{model}"
version = {version}
owner = "tests"

[artifact]
path = "model.onnx"
format = "onnx"

[[inputs]]
name = "number"
type = "double"

[[outputs]]
name = "score"
type = "double"
minimum = 0.0

[vectors]
path = "vectors.json"
"""
GATE = """
[[gates]]
name = "large"
metric = "auc"
data = "holdout.csv"
label = "truth"
rows_minimum = 1
minimum = 0.4
"""


def write(folder: Path, model: str, version: int, holdout_rows: int = 0) -> Path:
    """Write the repository; a gate over `holdout_rows` rows makes its build take a while."""
    folder.mkdir(parents=True, exist_ok=True)
    base = numpy_helper.from_array(np.array([float(version * VERSION_STEP)]), "base")
    graph = helper.make_graph(
        [helper.make_node("Add", ["features", "base"], ["score"])],
        "numbered",
        [helper.make_tensor_value_info("features", TensorProto.DOUBLE, [None, 1])],
        [helper.make_tensor_value_info("score", TensorProto.DOUBLE, [None, 1])],
        [base],
    )
    artifact = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    (folder / "model.onnx").write_bytes(artifact.SerializeToString())
    numbers = [0.0, 7.0, 123_456.0]
    vectors = {"inputs": [[number] for number in numbers], "outputs": [[version * VERSION_STEP + n] for n in numbers]}
    (folder / "vectors.json").write_text(json.dumps(vectors))
    text = MANIFEST.format(model=model, version=version)
    if holdout_rows:
        rows = "\n".join(f"{number},{number * 7919 % 2}" for number in range(holdout_rows))
        (folder / "holdout.csv").write_text(f"number,truth\n{rows}\n")
        text += GATE
    (folder / "interlock.toml").write_text(text)
    return folder


async def two_versions(stack: Mapping[str, str], crew: People, folder: Path, model: str) -> dict[str, Any]:
    """Bring version 1 to live traffic and keep version 2 warm beside it; return the endpoint's details."""
    details = await serve(stack, crew, write(folder / "tree", model, 1), model)
    accepted, lines = await push(stack, write(folder / "tree", model, 2), model, "2")
    assert accepted, lines
    await until(lambda: is_proven(crew, model, 2), "version 2 is not proven")
    await crew.bob.approve(model, 2, model, "for the test")

    async def warm() -> bool:
        return any(each["version"] == 2 for each in await heard(crew, VersionWarmed, endpoint=model))

    await until(warm, "version 2 is not warm")
    return details


async def is_proven(crew: People, model: str, version: int) -> bool:
    """Say whether a version is built and its gates have passed."""
    found = await crew.olga.version(model, version)
    assert found["state"] not in ("refused", "failed"), found
    return bool(found["state"] == "proven")


async def heard(
    crew: People, kind: type[Event], *, model: str | None = None, endpoint: str | None = None
) -> list[dict[str, Any]]:
    """Return the events of a kind that the registry wrote or heard about a model or an endpoint, in order."""
    page = await crew.olga.timeline_page(model=model, endpoint=endpoint)
    return [each["event"] for each in page["entries"] if each["type"] == kind.__name__]
