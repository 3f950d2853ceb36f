"""A model repository for the kill tests: version V answers request number N with `V * 10^9 + N`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.fault.load import VERSION_STEP

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
