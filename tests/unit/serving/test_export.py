"""`interlock model export`: what it writes loads, agrees, and is a valid repository; what it cannot do it says."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import joblib  # type: ignore[import-untyped]  # ships no annotations
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC

from interlock.errors import Refusal
from interlock.export import export
from interlock.manifest import Manifest
from interlock.serving import runtime, vectors

ROWS = 60


def _frame() -> pd.DataFrame:
    random = np.random.default_rng(5)
    frame = pd.DataFrame(random.normal(size=(ROWS, 3)).astype(np.float32), columns=["amount", "age", "limit"])
    return frame.round(4)


def _exported(
    estimator: Any, frame: pd.DataFrame, folder: Path
) -> tuple[Manifest, runtime.LoadedModel, vectors.Vectors]:
    joblib.dump(estimator, folder / "model.joblib")
    frame.to_csv(folder / "sample.csv", index=False)
    out = folder / "repository"
    export(folder / "model.joblib", out, name="credit", version=3, owner="ada", data=folder / "sample.csv")
    manifest = Manifest.parse((out / "interlock.toml").read_bytes())
    model = runtime.load("onnx", (out / manifest.artifact.path).read_bytes(), manifest.signature)
    proof = vectors.parse((out / manifest.vectors.path).read_bytes(), manifest.signature)
    assert proof.disagreement(model.score(proof.inputs), manifest.vectors.tolerance, manifest.signature) is None
    return manifest, model, proof


def test_a_binary_classifier_has_one_score_between_0_and_1(tmp_path: Path) -> None:
    """The probability of the second class is the output `score`, and the ONNX model gives it."""
    frame = _frame()
    estimator = LogisticRegression().fit(frame, frame.amount > 0)
    manifest, model, _ = _exported(estimator, frame, tmp_path)
    (output,) = manifest.outputs
    assert (output.name, output.minimum, output.maximum) == ("score", 0.0, 1.0)
    assert [declared.name for declared in manifest.inputs] == ["amount", "age", "limit"]
    np.testing.assert_allclose(
        model.score(frame.to_numpy(float))[:, 0], estimator.predict_proba(frame)[:, 1], atol=1e-5
    )


def test_each_class_of_several_has_its_output(tmp_path: Path) -> None:
    """Three classes give three outputs, in the estimator's order."""
    frame = _frame()
    estimator = RandomForestClassifier(5, random_state=1).fit(frame, np.digitize(frame.amount, [-0.5, 0.5]))
    manifest, model, _ = _exported(estimator, frame, tmp_path)
    assert [declared.name for declared in manifest.outputs] == ["score_0", "score_1", "score_2"]
    np.testing.assert_allclose(model.score(frame.to_numpy(float)), estimator.predict_proba(frame), atol=1e-5)


def test_a_regressor_and_missing_values(tmp_path: Path) -> None:
    """A regressor answers one unbounded number; an estimator that takes missing values has nullable inputs."""
    frame = _frame()
    regressor = RandomForestRegressor(5, random_state=1).fit(frame, frame.amount * 3)
    (tmp_path / "r").mkdir()
    manifest, _, _ = _exported(regressor, frame, tmp_path / "r")
    assert (manifest.outputs[0].minimum, manifest.outputs[0].maximum) == (None, None)
    holes = frame.mask(np.random.default_rng(2).random(frame.shape) < 0.2)
    boosting = HistGradientBoostingClassifier(max_iter=10).fit(holes, frame.amount > 0)
    (tmp_path / "h").mkdir()
    manifest, model, _ = _exported(boosting, holes, tmp_path / "h")
    assert all(declared.nullable for declared in manifest.inputs)
    np.testing.assert_allclose(model.score(holes.to_numpy(float))[:, 0], boosting.predict_proba(holes)[:, 1], atol=1e-5)


def test_text_columns_become_categories(tmp_path: Path) -> None:
    """A pipeline that one-hot encodes text is exported with an input for each column and answers alike by category."""
    frame = _frame().assign(kind=np.random.default_rng(9).choice(["car", "house"], ROWS))
    encode = ColumnTransformer([("text", OneHotEncoder(handle_unknown="ignore"), ["kind"])], remainder=StandardScaler())
    estimator = make_pipeline(encode, LogisticRegression()).fit(frame, frame.amount + (frame.kind == "car") > 0)
    manifest, model, _ = _exported(estimator, frame, tmp_path)
    assert manifest.inputs[3].categories == ("car", "house")
    matrix = manifest.signature.matrix(frame.to_dict("records"))
    np.testing.assert_allclose(model.score(matrix)[:, 0], estimator.predict_proba(frame)[:, 1], atol=1e-5)


def test_gates_of_the_manifest_that_was_there_are_kept(tmp_path: Path) -> None:
    """Exporting the next version into the same repository changes version and signature, not the author's gates."""
    frame = _frame()
    _exported(LogisticRegression().fit(frame, frame.amount > 0), frame, tmp_path)
    path = tmp_path / "repository" / "interlock.toml"
    gate = '\n[[gates]]\nname = "good"\nmetric = "auc"\ndata = "h.csv"\nlabel = "y"\nminimum = 0.9\n'
    path.write_text(path.read_text() + gate)
    manifest, _, _ = _exported(LogisticRegression(C=0.1).fit(frame, frame.amount > 0), frame, tmp_path)
    assert [kept.name for kept in manifest.gates] == ["good"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a,b\n1,2\n", "does not unpickle"),
        (pickle.dumps({"a": 1}), "has no predict"),
        (pickle.dumps(LinearSVC()), "n_features|how many features"),
    ],
)
def test_what_cannot_be_exported_is_said(tmp_path: Path, content: bytes, words: str) -> None:
    """A sentence, not a traceback, for what is no estimator or not a fitted one."""
    (tmp_path / "model.pkl").write_bytes(content)
    with pytest.raises(Refusal, match=words):
        export(tmp_path / "model.pkl", tmp_path / "out", name="m", version=1, owner="ada")
    assert not (tmp_path / "out").exists()


def test_a_sample_in_another_order_is_refused(tmp_path: Path) -> None:
    """Columns in another order than trained on would silently score nonsense."""
    frame = _frame()
    with pytest.raises(Refusal, match="in this order"):
        _exported(LogisticRegression().fit(frame, frame.amount > 0), frame[["age", "amount", "limit"]], tmp_path)
