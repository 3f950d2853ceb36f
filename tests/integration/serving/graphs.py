"""Small ONNX models that behave and misbehave on command, made with the onnx helper alone."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from interlock.blobs import Blobs
from interlock.ids import version_digest
from interlock.manifest import Manifest

_OPSET = 17


def graph(nodes: list[NodeProto], constants: dict[str, np.ndarray], inputs: int, output: str = "score") -> bytes:
    """Return a model that takes `x` float [rows, inputs] and gives `output` float [rows, 1]."""
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    model: ModelProto = helper.make_model(
        helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, inputs])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, [None, None])],
            initializers,
        ),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=8,
    )
    return bytes(model.SerializeToString())


def linear(weights: list[float], bias: float = 0.0) -> bytes:
    """Return the model score = x @ weights + bias."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Add", ["product", "b"], ["score"]),
    ]
    constants = {"w": np.array(weights, np.float32).reshape(-1, 1), "b": np.array([bias], np.float32)}
    return graph(nodes, constants, len(weights))


def misbehaving() -> bytes:
    """Return a model of one input: x = 0..9 answers x/10; 1e6 hangs; -1 raises; -2 gives NaN; 500 drops the row.

    One value in a batch decides for the whole batch (the largest magnitude), as real models fail.
    """
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["condition_in"], ["condition_out"]),
            helper.make_node("Add", ["carried_in", "one"], ["carried_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("iteration", TensorProto.INT64, []),
            helper.make_tensor_value_info("condition_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried_in", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("condition_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried_out", TensorProto.FLOAT, [1]),
        ],
    )
    constants = {
        "one": np.array([1], np.float32),
        "zero": np.array([0], np.float32),
        "true": np.array([True]).reshape(()),
        "hang_from": np.array(9e5, np.float32),
        "many": np.array(1e15, np.float32),
        "tenth": np.array([0.1], np.float32),
        "table": np.array([0.0, 0.0], np.float32),
        "minus_one": np.array([-1], np.float32),
        "minus_two": np.array([-2], np.float32),
        "five_hundred": np.array([500], np.float32),
        "seven": np.array(7, np.int64),
        "flat": np.array([-1], np.int64),
        "nan": np.array([np.nan], np.float32),
        "column": np.array([-1, 1], np.int64),
    }
    nodes = [
        # Hang: as many turns as the largest value times a great number, if it is large.
        helper.make_node("ReduceMax", ["x"], ["top"], keepdims=0),
        helper.make_node("Greater", ["top", "hang_from"], ["hangs"]),
        helper.make_node("Cast", ["hangs"], ["hangs_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["hangs_float", "many"], ["turns_float"]),
        helper.make_node("Cast", ["turns_float"], ["turns"], to=TensorProto.INT64),
        helper.make_node("Loop", ["turns", "true", "zero"], ["counted"], body=body),
        helper.make_node("Mul", ["counted", "zero"], ["nothing"]),
        # Raise: index 7 of a table of two where any value is -1.
        helper.make_node("Reshape", ["x", "flat"], ["row_values"]),
        helper.make_node("Equal", ["row_values", "minus_one"], ["is_minus_one"]),
        helper.make_node("Cast", ["is_minus_one"], ["bad_index"], to=TensorProto.INT64),
        helper.make_node("Mul", ["bad_index", "seven"], ["index"]),
        helper.make_node("Gather", ["table", "index"], ["looked_up"]),
        # Answer, NaN where the value is -2, without the rows where it is 500.
        helper.make_node("Mul", ["row_values", "tenth"], ["scaled"]),
        helper.make_node("Equal", ["row_values", "minus_two"], ["is_minus_two"]),
        helper.make_node("Where", ["is_minus_two", "nan", "scaled"], ["with_nan"]),
        helper.make_node("Add", ["with_nan", "looked_up"], ["sum"]),
        helper.make_node("Add", ["sum", "nothing"], ["all_rows"]),
        helper.make_node("Equal", ["row_values", "five_hundred"], ["dropped"]),
        helper.make_node("Not", ["dropped"], ["kept"]),
        helper.make_node("Compress", ["all_rows", "kept"], ["short"], axis=0),
        helper.make_node("Reshape", ["short", "column"], ["score"]),
    ]
    return graph(nodes, constants, 1)


def manifest_text(
    name: str,
    version: int,
    inputs: list[str],
    *,
    artifact: str = "model.onnx",
    format: str = "onnx",
    gates: str = "",
    minimum: str = "",
    maximum: str = "",
) -> str:
    """Return a manifest for a model of nullable double inputs and one output `score`."""
    columns = "\n".join(f'[[inputs]]\nname = "{column}"\ntype = "double"\nnullable = true\n' for column in inputs)
    bounds = (f"minimum = {minimum}\n" if minimum else "") + (f"maximum = {maximum}\n" if maximum else "")
    text = (
        f'[model]\nname = "{name}"\nversion = {version}\nowner = "ada"\n\n'
        f'[artifact]\npath = "{artifact}"\nformat = "{format}"\n\n{columns}\n'
        f'[[outputs]]\nname = "score"\ntype = "double"\n{bounds}\n[vectors]\npath = "vectors.json"\n\n{gates}'
    )
    Manifest.parse(text)
    return text


def stored(blobs: Blobs, manifest: str, artifact: bytes) -> tuple[str, str, str]:
    """Put both into the store; return the digests of version, manifest and artifact."""
    manifest_digest, artifact_digest = blobs.put(manifest.encode()), blobs.put(artifact)
    return version_digest(manifest.encode(), artifact), manifest_digest, artifact_digest
