"""A model's way from a folder to live traffic, as its people walk it: pushed, approved by another, promoted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from examples.fraud.push import Repository
from interlock.client.session import Interlock, connect
from interlock.embedded.home import Home
from interlock.embedded.services import token

STEP_SECONDS_MAX = 60.0
POLL_SECONDS = 0.2
TOKEN_SECONDS = 3600


@dataclass
class People:
    """Alice pushes, Bob approves, Olga operates; each has a token of his own role only."""

    alice: Interlock
    bob: Interlock
    olga: Interlock


def session_of(stack: Mapping[str, str], subject: str, *roles: str) -> Interlock:
    """Return a session of somebody with these roles."""
    return connect(
        stack["INTERLOCK_URL"],
        token=token(Home(Path(stack["INTERLOCK_HOME"])), subject, roles, TOKEN_SECONDS),
        bootstrap=stack["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"],
        schema_registry=stack["INTERLOCK_SCHEMA_REGISTRY_URL"],
        monitor=stack["INTERLOCK_MONITOR_URL"],
        auditor=stack["INTERLOCK_AUDITOR_URL"],
    )


@asynccontextmanager
async def people(stack: Mapping[str, str]) -> AsyncIterator[People]:
    """Open a session for each of the three."""
    async with AsyncExitStack() as sessions:
        alice = await sessions.enter_async_context(session_of(stack, "alice", "author"))
        bob = await sessions.enter_async_context(session_of(stack, "bob", "approver"))
        olga = await sessions.enter_async_context(session_of(stack, "olga", "operator"))
        yield People(alice, bob, olga)


async def push(stack: Mapping[str, str], tree: Path, model: str, message: str) -> tuple[bool, list[str]]:
    """Push a tree as Alice; return whether it was accepted and what came back."""
    secret = token(Home(Path(stack["INTERLOCK_HOME"])), "alice", ("author",), TOKEN_SECONDS)
    lines: list[str] = []
    copy = Repository(tree.parent / f"{tree.name}.clone", f"{stack['INTERLOCK_URL']}/git/{model}.git", "alice", secret)
    return await copy.push(tree, message, lines.append), lines


async def until(ask: Any, what: str) -> Any:
    """Ask until the answer is true; fails with `what` after a bound."""
    deadline = asyncio.get_running_loop().time() + STEP_SECONDS_MAX
    while not (answer := await ask()):
        assert asyncio.get_running_loop().time() < deadline, what
        await asyncio.sleep(POLL_SECONDS)
    return answer


async def approve(stack: Mapping[str, str], crew: People, tree: Path, model: str, version: int = 1) -> None:
    """Have one version pushed, proven, and approved for an endpoint of the model's name."""
    accepted, lines = await push(stack, tree, model, f"{model} {version}")
    assert accepted, lines

    async def proven() -> bool:
        found = await crew.olga.version(model, version)
        assert found["state"] not in ("refused", "failed"), found
        return bool(found["state"] == "proven")

    await until(proven, "the version is not proven")
    if model not in [each["name"] for each in await crew.olga.endpoints()]:
        await crew.olga.create_endpoint(model, model, 2)
    await crew.bob.approve(model, version, model, "for the test")


async def serve(stack: Mapping[str, str], crew: People, tree: Path, model: str, version: int = 1) -> dict[str, Any]:
    """Bring one version to live traffic behind an endpoint of the model's name; return the endpoint's details."""
    await approve(stack, crew, tree, model, version)
    await crew.olga.promote(model, version)

    async def serving() -> dict[str, Any] | None:
        details = await crew.olga.endpoint_details(model)
        assert not details["failure"], details
        return details if (details["champion"] or {}).get("version") == version else None

    details: dict[str, Any] = await until(serving, "the version does not serve")
    return details


def small_model(folder: Path, model: str, version: int = 1) -> Path:
    """Write a model repository whose score is `1 / (1 + exp(-(amount / 100 - night)))`, in a few hundred bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = numpy_helper.from_array(np.array([[0.01], [-1.0]]), "weights")
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["features", "weights"], ["margin"]),
            helper.make_node("Sigmoid", ["margin"], ["score"]),
        ],
        "small",
        [helper.make_tensor_value_info("features", TensorProto.DOUBLE, [None, 2])],
        [helper.make_tensor_value_info("score", TensorProto.DOUBLE, [None, 1])],
        [weights],
    )
    artifact = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    (folder / "model.onnx").write_bytes(artifact.SerializeToString())
    rows: list[tuple[float, bool]] = [(100.0, False), (0.0, True)]
    vectors = {"inputs": rows, "outputs": [[small_score(*row)] for row in rows]}
    (folder / "vectors.json").write_text(json.dumps(vectors))
    (folder / "interlock.toml").write_text(MANIFEST.format(model=model, version=version))
    return folder


def small_score(amount: float, night: float) -> float:
    """What the small model answers."""
    return float(1 / (1 + np.exp(-(amount / 100 - night))))


MANIFEST = """
[model]
name = "{model}"
version = {version}
owner = "tests"

[artifact]
path = "model.onnx"
format = "onnx"

[[inputs]]
name = "amount"
type = "double"

[[inputs]]
name = "night"
type = "boolean"

[[outputs]]
name = "score"
type = "double"
minimum = 0.0
maximum = 1.0

[vectors]
path = "vectors.json"
"""


@pytest.fixture(scope="session")
def small(stack: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """An endpoint `small`, answered by version 1 of the small model; the endpoint's details."""

    async def bring(folder: Path) -> dict[str, Any]:
        async with people(stack) as crew:
            known = [each for each in await crew.olga.endpoints() if each["name"] == "small" and each["champion"]]
            return known[0] if known else await serve(stack, crew, folder, "small")

    return asyncio.run(bring(small_model(tmp_path_factory.mktemp("small") / "tree", "small")))
