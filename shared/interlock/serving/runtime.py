"""The scoring core: loads an artifact of any allowed format and scores a matrix with it.

Live replicas, builds, gates and replays all score through here, so that the same version gives the same numbers
everywhere. Nothing here reads a file, opens a connection or executes code that came with the artifact.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from interlock.errors import Code, Reason, Refusal
from interlock.signature import Matrix, Signature

ARTIFACT_INVALID = Code(
    "ARTIFACT_INVALID",
    422,
    "The artifact does not load",
    "Check that artifact.format names the format that the file has.",
)
ARTIFACT_SHAPE = Code(
    "ARTIFACT_SHAPE",
    422,
    "The artifact has another shape than the signature",
    "Make [[inputs]] and [[outputs]] of interlock.toml name what the model takes and gives, in its order.",
)

THREADS: Final = 1

Mask = NDArray[np.bool_]


class LoadedModel(Protocol):
    """An artifact in memory, ready to score."""

    def score(self, matrix: Matrix) -> Matrix:
        """Score float64 (rows, inputs), NaN = missing; return float64 (rows, outputs) if the model is sound.

        The caller checks the answer by `problem_of`. Raises whatever the model's own library raises.
        """
        ...


def load(format: str, artifact: bytes, signature: Signature, *, gpu: bool = False) -> LoadedModel:
    """Load an artifact (`onnx`, `xgboost` or `lightgbm`) with one thread; on a GPU where asked and there is one.

    Raises Refusal: ARTIFACT_INVALID when it does not load, ARTIFACT_SHAPE when it does not fit the signature,
    ARTIFACT_EXECUTES_CODE when it is a pickle in disguise.
    """
    from interlock.serving import formats

    formats.refuse_executable("", artifact)
    if format == "onnx":
        from interlock.serving import onnx

        return onnx.OnnxModel(artifact, signature, gpu=gpu)
    if format == "xgboost":
        from interlock.serving import trees

        return trees.XgboostModel(artifact, signature, gpu=gpu)
    if format == "lightgbm":
        from interlock.serving import trees

        return trees.LightgbmModel(artifact, signature)
    raise Refusal(ARTIFACT_INVALID, f"there is no artifact format {format!r}.")


def picked(answer: NDArray[Any], signature: Signature) -> Matrix:
    """Return a library's answer as float64 (rows, outputs), taking the second of two class probabilities.

    An answer that cannot be brought to that shape is returned as it is: `problem_of` names what is wrong with it.
    """
    table = answer.reshape(-1, 1) if answer.ndim == 1 else answer
    if len(signature.outputs) == 1 and table.ndim == 2 and table.shape[1] == 2:
        table = table[:, 1:]
    return np.ascontiguousarray(table, dtype=np.float64)


def problem_of(outputs: object, rows: int, signature: Signature) -> tuple[Reason, str] | None:
    """Check a whole answer as every caller must: None if it is sound, else the reason and a sentence.

    A wrong shape concerns every row; of the others `bad_rows` tells which.
    """
    expected = (rows, len(signature.outputs))
    if not isinstance(outputs, np.ndarray) or outputs.dtype != np.float64 or outputs.shape != expected:
        return (
            Reason.MODEL_WRONG_SHAPE,
            f"the model answered {_shape(outputs)}, expected {expected[0]}x{expected[1]} numbers",
        )
    not_finite, out_of_range = bad_rows(outputs, signature)
    if not_finite.any():
        return (
            Reason.MODEL_NOT_FINITE,
            f"{int(not_finite.sum())} of {rows} rows are answered with NaN or infinity",
        )
    if out_of_range.any():
        row = int(np.argmax(out_of_range))
        return (
            Reason.MODEL_OUT_OF_RANGE,
            f"row {row} is answered with {outputs[row].tolist()}, outside the declared range",
        )
    return None


def bad_rows(outputs: Matrix, signature: Signature) -> tuple[Mask, Mask]:
    """Return two boolean masks over the rows of a well-shaped answer: not finite; finite but out of range."""
    not_finite: Mask = np.logical_not(np.isfinite(outputs).all(axis=1))
    out_of_range: Mask = np.zeros(len(outputs), dtype=bool)
    for column, declared in enumerate(signature.outputs):
        values = outputs[:, column]
        if declared.minimum is not None:
            out_of_range |= values < declared.minimum
        if declared.maximum is not None:
            out_of_range |= values > declared.maximum
    return not_finite, out_of_range & ~not_finite


def _shape(answer: object) -> str:
    if isinstance(answer, np.ndarray):
        return "x".join(str(size) for size in answer.shape) + f" of {answer.dtype}" if answer.ndim else "one number"
    return f"a {type(answer).__name__}"
