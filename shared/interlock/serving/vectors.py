"""Self-test vectors: inputs with the outputs they must give, by which a version is proved before it serves."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec
import numpy as np

from interlock.errors import Code, Refusal
from interlock.serving.runtime import problem_of
from interlock.signature import Matrix, Signature

VECTORS_INVALID = Code(
    "VECTORS_INVALID",
    422,
    "The self-test vectors cannot be read",
    'The file must be JSON: {"inputs": [[...], ...], "outputs": [[...], ...]}, rows in the order of the signature.',
)
VECTORS_DISAGREE = Code(
    "VECTORS_DISAGREE",
    422,
    "The artifact answers its self-test vectors otherwise than they say",
    "Write the vectors anew from the artifact that you push, or raise vectors.tolerance.",
)
VECTORS_MAX: Final = 10_000


class Vectors(msgspec.Struct, frozen=True):
    """Inputs float64 (vectors, inputs) and the outputs expected, float64 (vectors, outputs)."""

    inputs: Matrix
    outputs: Matrix

    def disagreement(self, answer: object, tolerance: float, signature: Signature) -> str | None:
        """Return None if the answer is sound and within tolerance (absolute or relative), else a sentence."""
        problem = problem_of(answer, len(self.inputs), signature)
        if problem is not None or not isinstance(answer, np.ndarray):
            return problem[1] if problem else "the answer is no array"
        difference = np.abs(answer - self.outputs)
        excess = difference - tolerance * np.maximum(1.0, np.abs(self.outputs))
        if not (excess > 0).any():
            return None
        row, column = (int(place) for place in np.unravel_index(int(np.argmax(excess)), excess.shape))
        name = signature.outputs[column].name
        return (
            f"vector {row}, output {name!r}: expected {self.outputs[row, column]:.9g},"
            f" the model answers {answer[row, column]:.9g}; the difference {difference[row, column]:.3g}"
            f" is above the tolerance {tolerance:g}"
        )


def parse(content: bytes, signature: Signature) -> Vectors:
    """Read a vectors file. Raises Refusal(VECTORS_INVALID) saying which row and column is wrong."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Refusal(VECTORS_INVALID, f"the vectors are not JSON: {error}.") from error
    inputs, outputs = _lists(document)
    try:
        matrix = signature.matrix(inputs)
        expected = np.array([_row(index, row, signature) for index, row in enumerate(outputs)], dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise Refusal(VECTORS_INVALID, f"{error}.") from error
    if not np.isfinite(expected).all():
        raise Refusal(VECTORS_INVALID, "an expected output is not a finite number.")
    return Vectors(matrix, expected)


def _lists(document: Any) -> tuple[list[Any], list[Any]]:
    if not isinstance(document, dict) or set(document) != {"inputs", "outputs"}:
        raise Refusal(VECTORS_INVALID, "the vectors must be an object with exactly the keys inputs and outputs.")
    inputs, outputs = document["inputs"], document["outputs"]
    if not isinstance(inputs, list) or not isinstance(outputs, list) or not inputs:
        raise Refusal(VECTORS_INVALID, "inputs and outputs must be lists, and there must be at least one vector.")
    if len(inputs) != len(outputs):
        raise Refusal(VECTORS_INVALID, f"there are {len(inputs)} rows of inputs and {len(outputs)} of outputs.")
    if len(inputs) > VECTORS_MAX:
        raise Refusal(VECTORS_INVALID, f"there are {len(inputs)} vectors; at most {VECTORS_MAX} are read.")
    return inputs, outputs


def _row(index: int, row: Any, signature: Signature) -> list[float]:
    values: Any = [row.get(output.name) for output in signature.outputs] if isinstance(row, dict) else row
    if not isinstance(values, list):
        values = [values]
    if len(values) != len(signature.outputs):
        raise ValueError(
            f"row {index}: {len(values)} expected outputs, the signature declares {len(signature.outputs)}"
        )
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        raise ValueError(f"row {index}: an expected output is not a number")
    return [float(value) for value in values]
