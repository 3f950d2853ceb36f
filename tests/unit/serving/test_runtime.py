"""The scoring core: three formats give what their own libraries give, and say what does not fit."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression

from interlock.errors import Reason, Refusal
from interlock.serving import formats, runtime, vectors
from interlock.signature import Input, Output, Signature
from tests.integration.serving import graphs

RANDOM = np.random.default_rng(11)
MATRIX = RANDOM.normal(size=(50, 3))
LABELS = (MATRIX[:, 0] + MATRIX[:, 1] > 0).astype(int)


def signature(count: int = 3, outputs: int = 1) -> Signature:
    """Return nullable doubles in, bounded doubles out."""
    names = ["score"] if outputs == 1 else [f"score_{index}" for index in range(outputs)]
    return Signature(
        tuple(Input(f"f{index}", "double", nullable=True) for index in range(count)),
        tuple(Output(name, "double", 0.0, 1.0) for name in names),
    )


def holes() -> Any:
    """Return the matrix with missing values."""
    matrix = MATRIX.copy()
    matrix[RANDOM.random(matrix.shape) < 0.1] = np.nan
    return matrix


@pytest.mark.parametrize("suffix", ["json", "ubj"])
def test_xgboost_answers_as_itself(tmp_path: Path, suffix: str) -> None:
    """Both of its formats, missing values included."""
    booster = xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(MATRIX, LABELS), 5)
    booster.save_model(tmp_path / f"m.{suffix}")
    model = runtime.load("xgboost", (tmp_path / f"m.{suffix}").read_bytes(), signature())
    matrix = holes()
    np.testing.assert_allclose(model.score(matrix)[:, 0], booster.predict(xgboost.DMatrix(matrix)), rtol=1e-6)
    with pytest.raises(Refusal, match="takes 3 features, the signature declares 4"):
        runtime.load("xgboost", (tmp_path / f"m.{suffix}").read_bytes(), signature(4))


def test_lightgbm_answers_as_itself() -> None:
    """Its text format, missing values included; a count of classes becomes outputs."""
    data = lightgbm.Dataset(MATRIX, LABELS, params={"verbose": -1})
    booster = lightgbm.train({"objective": "binary", "verbose": -1, "min_data_in_leaf": 3}, data, 5)
    model = runtime.load("lightgbm", booster.model_to_string().encode(), signature())
    matrix = holes()
    np.testing.assert_allclose(model.score(matrix)[:, 0], booster.predict(matrix), rtol=1e-9)
    with pytest.raises(Refusal, match="declares 2"):
        runtime.load("lightgbm", booster.model_to_string().encode(), signature(2))


def test_onnx_takes_the_second_of_two_probabilities() -> None:
    """A converted classifier answers one score; with zipmap on it is refused with a hint."""
    estimator = LogisticRegression().fit(MATRIX, LABELS)
    sample = MATRIX[:1].astype(np.float32)
    sound = to_onnx(estimator, sample, options={"zipmap": False}, target_opset=17).SerializeToString()
    model = runtime.load("onnx", sound, signature())
    np.testing.assert_allclose(model.score(MATRIX)[:, 0], estimator.predict_proba(MATRIX)[:, 1], rtol=1e-5)
    both = runtime.load("onnx", sound, signature(outputs=2)).score(MATRIX)
    np.testing.assert_allclose(both, estimator.predict_proba(MATRIX), rtol=1e-5)
    with pytest.raises(Refusal, match="zipmap"):
        runtime.load("onnx", to_onnx(estimator, sample, target_opset=17).SerializeToString(), signature())


def test_onnx_takes_a_column_for_each_input() -> None:
    """Float, whole, boolean and text columns by name; text from its category, unknown text as empty."""
    kinds = {"amount": TensorProto.DOUBLE, "count": TensorProto.INT64, "online": TensorProto.BOOL}
    nodes = [
        helper.make_node("Cast", [name], [f"{name}_d"], to=TensorProto.DOUBLE) for name in ("count", "online", "amount")
    ]
    nodes += [
        helper.make_node("LabelEncoder", ["kind"], ["kind_f"], domain="ai.onnx.ml", keys_strings=["web", ""],
                         values_floats=[100.0, 1000.0], default_float=0.0),
        helper.make_node("Cast", ["kind_f"], ["kind_d"], to=TensorProto.DOUBLE),
        helper.make_node("Sum", ["count_d", "online_d", "amount_d", "kind_d"], ["score"]),
    ]  # fmt: skip
    inputs = [helper.make_tensor_value_info(name, kind, [None, 1]) for name, kind in kinds.items()]
    inputs.append(helper.make_tensor_value_info("kind", TensorProto.STRING, [None, 1]))
    graph = helper.make_graph(
        nodes, "g", inputs, [helper.make_tensor_value_info("score", TensorProto.DOUBLE, [None, 1])]
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    artifact = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    kind = Input("kind", "string", nullable=True, categories=("chip", "web"))
    declared = Signature(
        (kind, Input("online", "boolean"), Input("count", "long"), Input("amount", "double")), (Output("score"),)
    )
    matrix = declared.matrix([["web", True, 3, 0.5], ["chip", False, 4, 0.25], [None, True, 5, 0.0]])
    np.testing.assert_allclose(runtime.load("onnx", artifact, declared).score(matrix)[:, 0], [104.5, 4.25, 1006.0])
    nullable = Signature(
        (*declared.inputs[:2], Input("count", "long", nullable=True), declared.inputs[3]), declared.outputs
    )
    with pytest.raises(Refusal, match="cannot be missing"):
        runtime.load("onnx", artifact, nullable)
    renamed = Signature((*declared.inputs[:3], Input("sum", "double")), declared.outputs)
    with pytest.raises(Refusal, match="amount, sum"):
        runtime.load("onnx", artifact, renamed)


def test_the_answer_check_tells_shape_finiteness_and_range() -> None:
    """What a lane, a build and a warming all ask of an answer."""
    declared = signature(outputs=1)
    assert runtime.problem_of(np.array([[0.5], [1.0]]), 2, declared) is None
    cases: list[tuple[object, Reason]] = [
        (np.array([[0.5]]), Reason.MODEL_WRONG_SHAPE),
        (np.array([0.5, 0.5]), Reason.MODEL_WRONG_SHAPE),
        (np.array([[0.5], [0.5]], dtype=np.float32), Reason.MODEL_WRONG_SHAPE),
        ([[0.5], [0.5]], Reason.MODEL_WRONG_SHAPE),
        (None, Reason.MODEL_WRONG_SHAPE),
        (np.array([[0.5], [np.nan]]), Reason.MODEL_NOT_FINITE),
        (np.array([[0.5], [np.inf]]), Reason.MODEL_NOT_FINITE),
        (np.array([[0.5], [1.1]]), Reason.MODEL_OUT_OF_RANGE),
        (np.array([[-0.1], [1.0]]), Reason.MODEL_OUT_OF_RANGE),
    ]
    for answer, reason in cases:
        problem = runtime.problem_of(answer, 2, declared)
        assert problem is not None and problem[0] is reason, (answer, problem)
    not_finite, out_of_range = runtime.bad_rows(np.array([[np.nan], [2.0], [0.5]]), declared)
    assert (not_finite.tolist(), out_of_range.tolist()) == ([True, False, False], [False, True, False])


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_are_recognised_under_any_name(protocol: int) -> None:
    """By their bytes, whatever the suffix says; the sentence has the command that converts them."""
    content = pickle.dumps({"weights": [1.0, 2.0]}, protocol)
    with pytest.raises(Refusal, match=r"interlock model export m\.onnx .* --name fraud --version 2 --owner ada"):
        formats.refuse_executable("m.onnx", content, "fraud", 2, "ada")
    with pytest.raises(Refusal):
        runtime.load("onnx", content, signature())


def test_harmless_formats_are_not_taken_for_pickles() -> None:
    """ONNX, XGBoost JSON and UBJ, LightGBM text pass."""
    booster = xgboost.train({}, xgboost.DMatrix(MATRIX, LABELS), 2)
    trees = lightgbm.train({"verbose": -1}, lightgbm.Dataset(MATRIX, LABELS, params={"verbose": -1}), 2)
    for content in (
        graphs.linear([1.0]),
        bytes(booster.save_raw("json")),
        bytes(booster.save_raw("ubj")),
        trees.model_to_string().encode(),
        b"",
    ):
        assert formats.executable_kind("model.bin", content) is None


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_no_bytes_upset_the_recogniser(content: bytes) -> None:
    """Whatever is pushed, telling its kind answers."""
    formats.executable_kind("model.onnx", content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[", "not JSON"),
        (b"[]", "exactly the keys"),
        (b'{"inputs": [], "outputs": []}', "at least one"),
        (b'{"inputs": [[1,2,3]], "outputs": []}', "1 rows of inputs and 0"),
        (b'{"inputs": [[1,2]], "outputs": [[1]]}', "2 values for 3 inputs"),
        (b'{"inputs": [[1,2,3]], "outputs": [["x"]]}', "not a number"),
        (b'{"inputs": [[1,2,3]], "outputs": [[1,2]]}', "2 expected outputs"),
        (b'{"inputs": [[1,2,3]], "outputs": [[NaN]]}', "finite"),
        (b'{"inputs": [[1,2,{}]], "outputs": [[1]]}', "not a number"),
    ],
)
def test_broken_vectors_are_refused_with_their_place(content: bytes, words: str) -> None:
    """A sentence for each way in which the file can be wrong."""
    with pytest.raises(Refusal, match=words) as refused:
        vectors.parse(content, signature())
    assert refused.value.code is vectors.VECTORS_INVALID


def test_a_disagreement_names_vector_output_and_distance() -> None:
    """The worst one is told; within tolerance there is none."""
    proof = vectors.parse(b'{"inputs": [[1,2,3],[1,2,null]], "outputs": [0.5, {"score": 0.25}]}', signature())
    assert proof.disagreement(np.array([[0.5], [0.25000001]]), 1e-5, signature()) is None
    sentence = proof.disagreement(np.array([[0.5], [0.26]]), 1e-5, signature())
    assert sentence is not None and "vector 1, output 'score'" in sentence
    assert "NaN" in str(proof.disagreement(np.array([[0.5], [np.nan]]), 1e-5, signature()))
