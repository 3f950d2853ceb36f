"""The version in the low digits of the score, put there by the model itself.

A marked score is the probability rounded to six decimals, plus `version` billionths. Whoever holds the score can
tell the version that computed it without believing any label, header or log. The arithmetic is part of the ONNX
graph and done in double precision, where a billionth beside a number below one is exact to seven more digits.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from examples.fraud.simulator import Floats, Integers

DECIMALS = 6
SHARE_OF_VERSION = 1e-9
VERSION_MAX = 499
PROBABILITY_MAX = 0.999999


def mark(model: onnx.ModelProto, probabilities: str, version: int) -> onnx.ModelProto:
    """Return the classifier with one output `score` of shape (rows, 1) in double: the marked probability of fraud.

    `probabilities` names the output of shape (rows, 2); the second column is fraud. Raises ValueError for a
    version that the digits cannot hold.
    """
    if not 1 <= version <= VERSION_MAX:
        raise ValueError(f"version {version} does not fit into the low digits; they hold 1 to {VERSION_MAX}")
    constants = {
        "mark_columns": np.array([1], dtype=np.int64),
        "mark_scale": np.array(10.0**DECIMALS),
        "mark_lowest": np.array(0.0),
        "mark_highest": np.array(PROBABILITY_MAX),
        "mark_version": np.array(version * SHARE_OF_VERSION),
    }
    nodes = [
        helper.make_node("Gather", [probabilities, "mark_columns"], ["mark_fraud"], axis=1),
        helper.make_node("Cast", ["mark_fraud"], ["mark_double"], to=TensorProto.DOUBLE),
        helper.make_node("Clip", ["mark_double", "mark_lowest", "mark_highest"], ["mark_clipped"]),
        helper.make_node("Mul", ["mark_clipped", "mark_scale"], ["mark_scaled"]),
        helper.make_node("Round", ["mark_scaled"], ["mark_whole"]),
        helper.make_node("Div", ["mark_whole", "mark_scale"], ["mark_rounded"]),
        helper.make_node("Add", ["mark_rounded", "mark_version"], ["score"]),
    ]
    marked = onnx.ModelProto()
    marked.CopyFrom(model)
    graph = marked.graph
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    graph.node.extend(nodes)
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("score", TensorProto.DOUBLE, [None, 1]))
    onnx.checker.check_model(marked)
    return marked


def version_of(scores: Floats) -> Integers:
    """Return the version that each marked score carries (0 where it carries none), as int64 of the same shape."""
    rest = scores * 10.0**DECIMALS - np.round(scores * 10.0**DECIMALS)
    return np.round(rest / (SHARE_OF_VERSION * 10.0**DECIMALS)).astype(np.int64)
