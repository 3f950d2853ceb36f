"""Boosted trees in their libraries' own data formats: XGBoost JSON or UBJ, LightGBM text."""

from __future__ import annotations

import importlib
import json
import sys
import threading
from typing import Any, Final

import numpy as np

from interlock.errors import Refusal
from interlock.serving.runtime import ARTIFACT_INVALID, ARTIFACT_SHAPE, THREADS, picked
from interlock.signature import Matrix, Signature

_LIGHTGBM_START: Final = b"tree"
#: What both libraries import for the convenience of notebooks: seconds of CPU and tens of MiB that scoring never needs.
_NOT_NEEDED: Final = ("sklearn", "pandas", "dask", "matplotlib", "graphviz", "pyarrow")
_importing = threading.Lock()


def _lean(name: str) -> Any:
    """Import a tree library without its optional companions, unless this process has them already."""
    with _importing:
        hidden = [module for module in _NOT_NEEDED if module not in sys.modules]
        # A None in sys.modules makes the import fail as if the package were not installed.
        sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None is what the import system asks for
        try:
            return importlib.import_module(name)
        finally:
            for module in hidden:
                del sys.modules[module]


class XgboostModel:
    """An XGBoost booster saved as JSON or UBJ; missing values are NaN, categories their index."""

    def __init__(self, artifact: bytes, signature: Signature, *, gpu: bool = False) -> None:
        xgboost = _lean("xgboost")

        self._signature = signature
        if artifact[:1] != b"{":
            raise Refusal(
                ARTIFACT_INVALID,
                "the artifact is neither XGBoost JSON nor UBJ: save it by save_model('model.ubj').",
            )
        if artifact.lstrip(b"{ \r\n\t")[:1] == b'"':
            _require_json(artifact)
        self._booster = xgboost.Booster(params={"nthread": THREADS})
        try:
            self._booster.load_model(bytearray(artifact))
            self._booster.set_param({"nthread": THREADS, "device": "cuda" if gpu else "cpu"})
            features = self._booster.num_features()
        except xgboost.core.XGBoostError as error:
            raise Refusal(ARTIFACT_INVALID, f"xgboost does not load the artifact: {_last_line(error)}.") from error
        _require_inputs(features, signature)

    def score(self, matrix: Matrix) -> Matrix:
        """Score float64 (rows, inputs); return float64 (rows, outputs)."""
        values = np.ascontiguousarray(matrix, dtype=np.float64)
        answer = self._booster.inplace_predict(values, missing=np.nan, validate_features=False)
        return picked(np.asarray(answer), self._signature)


class LightgbmModel:
    """A LightGBM booster saved as text; missing values are NaN, categories their index."""

    def __init__(self, artifact: bytes, signature: Signature) -> None:
        lightgbm = _lean("lightgbm")

        self._signature = signature
        if not artifact.startswith(_LIGHTGBM_START):
            raise Refusal(
                ARTIFACT_INVALID,
                "the artifact is not LightGBM text: save it by booster.save_model('model.txt').",
            )
        try:
            self._booster = lightgbm.Booster(model_str=artifact.decode("utf-8"))
        except (lightgbm.basic.LightGBMError, UnicodeDecodeError) as error:
            raise Refusal(ARTIFACT_INVALID, f"lightgbm does not load the artifact: {_last_line(error)}.") from error
        _require_inputs(self._booster.num_feature(), signature)

    def score(self, matrix: Matrix) -> Matrix:
        """Score float64 (rows, inputs); return float64 (rows, outputs)."""
        values = np.ascontiguousarray(matrix, dtype=np.float64)
        answer = self._booster.predict(values, num_threads=THREADS)
        return picked(np.asarray(answer), self._signature)


def _require_json(artifact: bytes) -> None:
    try:
        json.loads(artifact)
    except (ValueError, RecursionError) as error:
        raise Refusal(ARTIFACT_INVALID, f"the artifact is not whole JSON: {_last_line(error)}.") from error


def _require_inputs(features: int, signature: Signature) -> None:
    if features != len(signature.inputs):
        raise Refusal(
            ARTIFACT_SHAPE,
            f"the model takes {features} features, the signature declares {len(signature.inputs)} inputs.",
        )


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and "Stack trace" not in line]
    return (lines[0] if lines else type(error).__name__)[:300]
