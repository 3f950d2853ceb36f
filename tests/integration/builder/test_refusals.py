"""Broken and hostile versions: each is refused by code and sentence, and the builder lives to build the next."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from interlock.schemas.events import BuildFailed
from tests.integration.builder.forge import Forge, Version, gate, holdout
from tests.integration.serving import graphs

ONE = {"inputs": [[1.0]], "outputs": [[0.1]]}


def _chain_of_functions(count: int = 3000) -> bytes:
    """Return a graph whose local functions call one another in a chain, which ends onnxruntime by SIGSEGV."""
    domain = "chain"
    functions = [
        helper.make_function(
            domain,
            f"f{index}",
            ["i"],
            ["o"],
            [helper.make_node(f"f{index + 1}", ["i"], ["o"], domain=domain)]
            if index + 1 < count
            else [helper.make_node("Identity", ["i"], ["o"])],
            [helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)],
        )
        for index in range(count)
    ]
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("f0", ["x"], ["score"], domain=domain)],
            "graph",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])],
            [helper.make_tensor_value_info("score", TensorProto.FLOAT, [None, 1])],
        ),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)],
        functions=functions,
        ir_version=8,
    )
    return bytes(model.SerializeToString())


def _bomb() -> bytes:
    """Return a graph of a few hundred bytes that asks for 80 GB."""
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["huge"]),
        helper.make_node("ReduceSum", ["huge"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["x", "sum"], ["score"]),
    ]
    return graphs.graph(nodes, {"shape": np.array([20_000, 1_000_000], np.int64)}, 1)


def _external() -> bytes:
    """Return a graph whose weights are said to lie in a file of the server."""
    model = helper.make_model(helper.make_graph([], "g", [], []))
    model.ParseFromString(graphs.linear([1.0, 0.0]))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../../../etc/passwd"
    return bytes(model.SerializeToString())


CASES: list[tuple[str, Version, dict[str, Any], str]] = [
    ("ARTIFACT_EXECUTES_CODE", Version(artifact=pickle.dumps({"a": 1})), {}, "interlock model export model.onnx"),
    (
        "ARTIFACT_EXECUTES_CODE",
        Version(path="m.joblib", artifact=b"\x80\x04..."),
        {},
        "interlock model export m.joblib",
    ),
    ("ARTIFACT_INVALID", Version(artifact=graphs.linear([1.0, 0.0])[:-20]), {}, "ONNX"),
    ("ARTIFACT_INVALID", Version(artifact=b"hello"), {}, "ONNX"),
    ("ARTIFACT_INVALID", Version(artifact=b'{"a": ', format="xgboost"), {}, "JSON"),
    ("ARTIFACT_INVALID", Version(artifact=b"not a tree", format="lightgbm"), {}, "LightGBM"),
    ("ARTIFACT_INVALID", Version(artifact=_external()), {}, "other files"),
    ("ARTIFACT_SHAPE", Version(artifact=graphs.linear([1.0, 2.0, 3.0])), {}, "takes 3 numbers"),
    ("VECTORS_DISAGREE", Version(vectors={"inputs": [[1.0, 2.0]], "outputs": [[9.0]]}), {}, "expected 9"),
    ("VECTORS_INVALID", Version(vectors={"inputs": [[1.0]], "outputs": [[9.0]]}), {}, "1 values for 2 inputs"),
    ("ANSWER_OUT_OF_RANGE", Version(maximum="0.5", vectors={"inputs": [[1.0, 0.0]], "outputs": [[1.0]]}), {}, "range"),
    (
        "ANSWER_NOT_FINITE",
        Version(artifact=graphs.misbehaving(), inputs=["x"], vectors={"inputs": [[-2.0]], "outputs": [[0.0]]}),
        {},
        "NaN",
    ),
    (
        "ANSWER_SHAPE",
        Version(artifact=graphs.misbehaving(), inputs=["x"], vectors={"inputs": [[500.0]], "outputs": [[0.0]]}),
        {},
        "expected 1x1",
    ),
    (
        "CHILD_RAISED",
        Version(artifact=graphs.misbehaving(), inputs=["x"], vectors={"inputs": [[-1.0]], "outputs": [[0.0]]}),
        {},
        "self-test vectors raised",
    ),
    (
        "CHILD_TIMED_OUT",
        Version(artifact=graphs.misbehaving(), inputs=["x"], vectors={"inputs": [[1e6]], "outputs": [[0.0]]}),
        {"build_seconds_max": 4.0},
        "self-test vectors took longer",
    ),
    ("CHILD_OUT_OF_MEMORY", Version(artifact=_bomb(), inputs=["x"], vectors=ONE), {}, "memory"),
    ("FILE_TOO_LARGE", Version(), {"artifact_bytes_max": 50}, "at most 50"),
    ("FILE_MISSING", Version(gates=gate()), {}, "holdout.csv"),
    ("DATA_INVALID", Version(gates=gate(), files={"holdout.csv": b"a,label\n1,0\n"}), {}, "no column b"),
    ("DATA_INVALID", Version(gates=gate(), files={"holdout.csv": b"a,b,label\n1,x,0\n"}), {}, "line 2"),
]


@pytest.mark.parametrize(
    ("code", "version", "bounds", "words"), CASES, ids=[f"{n}-{c[0]}" for n, c in enumerate(CASES)]
)
async def test_is_refused_with_its_code_and_a_sentence(
    forge: Forge, make_worker: Callable[..., Any], code: str, version: Version, bounds: dict[str, Any], words: str
) -> None:
    """BuildFailed names the code and says what is wrong, within the bounds of time and memory."""
    await forge.register(version)
    worker, stop = make_worker(**bounds)
    task = asyncio.create_task(worker.run())
    row = await forge.ended()
    stop.set()
    await task
    assert (row["state"], row["code"]) == ("failed", code), row["detail"]
    assert words in row["detail"]
    last = (await forge.said())[-1]
    assert isinstance(last, BuildFailed)
    assert (last.code, last.attempt) == (code, 1)


async def test_an_artifact_that_kills_its_loader_kills_only_the_child(
    forge: Forge, make_worker: Callable[..., Any]
) -> None:
    """A graph that crashes native code fails its version; the same builder then builds a sound one."""
    await forge.register(Version(artifact=_chain_of_functions(), inputs=["x"], vectors=ONE))
    await forge.register(Version(2, gates=gate(), files={"holdout.csv": holdout()[0]}))
    worker, stop = make_worker()
    task = asyncio.create_task(worker.run())
    hostile, sound = await forge.ended(1), await forge.ended(2)
    stop.set()
    await task
    assert hostile["state"] == "failed"
    assert hostile["code"] in ("CHILD_DIED", "ARTIFACT_INVALID"), hostile["detail"]
    assert sound["state"] == "succeeded"
