"""ONNX artifacts, scored by onnxruntime with one thread."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import onnxruntime as ort

from interlock.errors import Refusal
from interlock.serving.runtime import ARTIFACT_INVALID, ARTIFACT_SHAPE, THREADS, picked
from interlock.signature import Input, Matrix, Signature

_FLOATS: Final[dict[str, Any]] = {"tensor(float)": np.dtype(np.float32), "tensor(double)": np.dtype(np.float64)}
_INTEGERS: Final[dict[str, Any]] = {"tensor(int64)": np.dtype(np.int64), "tensor(int32)": np.dtype(np.int32)}
_FATAL_ONLY: Final = 4
_PROBABILITIES: Final = "probabilities"


def _ort_errors() -> tuple[type[Exception], ...]:
    """Return onnxruntime's own errors, which share no base class of theirs."""
    kinds = vars(ort.capi.onnxruntime_pybind11_state).values()
    return tuple(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Exception))


_LOAD_ERRORS: Final[tuple[type[Exception], ...]] = (RuntimeError, ValueError, *_ort_errors())


class OnnxModel:
    """An ONNX graph that takes one tensor [rows, inputs], or one column tensor for each input by name.

    A category enters a single tensor as its index, a text tensor as its text (missing as ""). Answers are the
    outputs that the signature names; failing that the one floating-point output, of which a two-class
    probability gives its second column.
    """

    def __init__(self, artifact: bytes, signature: Signature, *, gpu: bool = False) -> None:
        self._signature = signature
        self._session = _session(artifact, gpu)
        nodes = self._session.get_inputs()
        self._single = self._whole_matrix(nodes)
        self._columns = None if self._single else self._by_name(nodes)
        self._names = self._answers()

    def score(self, matrix: Matrix) -> Matrix:
        """Score float64 (rows, inputs); return float64 (rows, outputs)."""
        rows = len(matrix)
        answers = self._session.run(self._names, self._feed(matrix))
        if len(answers) == 1:
            return picked(np.asarray(answers[0]), self._signature)
        columns = [np.asarray(answer, dtype=np.float64).reshape(-1) for answer in answers]
        odd = next((column for column in columns if len(column) != rows), None)
        return np.ascontiguousarray(np.column_stack(columns)) if odd is None else odd

    def _feed(self, matrix: Matrix) -> dict[str, Any]:
        if self._single:
            name, dtype = self._single
            return {name: np.ascontiguousarray(matrix, dtype=dtype)}
        assert self._columns is not None
        return {name: convert(matrix[:, index]) for name, index, convert in self._columns}

    def _whole_matrix(self, nodes: list[Any]) -> tuple[str, Any] | None:
        if len(nodes) != 1 or nodes[0].type not in _FLOATS:
            return None
        shape, expected = nodes[0].shape, len(self._signature.inputs)
        if len(shape) == 2 and (not isinstance(shape[1], int) or shape[1] == expected):
            _refuse_fixed_rows(nodes[0])
            return nodes[0].name, _FLOATS[nodes[0].type]
        if len(shape) == 2 and nodes[0].name not in {declared.name for declared in self._signature.inputs}:
            raise Refusal(
                ARTIFACT_SHAPE,
                f"the model takes {shape[1]} numbers a row, the signature declares {expected} inputs.",
            )
        return None

    def _by_name(self, nodes: list[Any]) -> list[tuple[str, int, Any]]:
        index_of = {declared.name: index for index, declared in enumerate(self._signature.inputs)}
        takes = {node.name for node in nodes}
        if takes != set(index_of):
            odd = sorted(takes ^ set(index_of))[:8]
            raise Refusal(
                ARTIFACT_SHAPE,
                f"the model's inputs ({len(takes)}) and the signature's ({len(index_of)}) have other names:"
                f" {', '.join(odd)}.",
            )
        columns = []
        for node in nodes:
            index = index_of[node.name]
            _refuse_fixed_rows(node)
            columns.append((node.name, index, _column(node, self._signature.inputs[index])))
        return columns

    def _answers(self) -> list[str]:
        nodes = {node.name: node for node in self._session.get_outputs()}
        declared = [output.name for output in self._signature.outputs]
        for node in nodes.values():
            if node.type.startswith("seq("):
                raise Refusal(
                    ARTIFACT_SHAPE,
                    f"the output {node.name!r} is a sequence of maps: export with options={{'zipmap': False}}"
                    " (`interlock model export` does).",
                )
        if all(name in nodes for name in declared):
            return declared
        floats = [name for name, node in nodes.items() if node.type in _FLOATS]
        likely = [name for name in floats if _PROBABILITIES in name.lower()] or floats
        if len(likely) != 1:
            raise Refusal(
                ARTIFACT_SHAPE,
                f"the model's outputs are {', '.join(nodes)}; none or several could be {', '.join(declared)}:"
                " name the outputs alike.",
            )
        return likely


def _session(artifact: bytes, gpu: bool) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.inter_op_num_threads = THREADS
    options.log_severity_level = _FATAL_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = ["CPUExecutionProvider"]
    if gpu and "CUDAExecutionProvider" in ort.get_available_providers():
        providers.insert(0, "CUDAExecutionProvider")
    try:
        return ort.InferenceSession(artifact, options, providers=providers)
    except _LOAD_ERRORS as error:
        sentence = str(error).strip().splitlines()[0][:400] if str(error).strip() else type(error).__name__
        raise Refusal(
            ARTIFACT_INVALID, f"onnxruntime {ort.__version__} does not load the artifact: {sentence}."
        ) from error


def _refuse_fixed_rows(node: Any) -> None:
    shape = node.shape
    if not shape or len(shape) > 2:
        raise Refusal(
            ARTIFACT_SHAPE,
            f"the model's input {node.name!r} has {len(shape)} dimensions; one or two are served.",
        )
    if isinstance(shape[0], int):
        raise Refusal(
            ARTIFACT_SHAPE,
            f"the model's input {node.name!r} takes exactly {shape[0]} rows: export it with a free first dimension.",
        )


def _column(node: Any, declared: Input) -> Any:
    """Return the function that turns one matrix column (rows,) into what the graph's input takes."""
    shape = (-1, 1) if len(node.shape) == 2 else (-1,)
    if node.type in _FLOATS:
        dtype = _FLOATS[node.type]
        return lambda values: np.ascontiguousarray(values, dtype=dtype).reshape(shape)
    if node.type == "tensor(string)":
        texts = np.array([*(declared.categories or ()), ""], dtype=object)
        return lambda values: texts[np.where(np.isnan(values), len(texts) - 1, values).astype(np.int64)].reshape(shape)
    if declared.nullable:
        raise Refusal(
            ARTIFACT_SHAPE,
            f"the input {declared.name!r} is nullable, but the model takes {node.type}, which cannot be missing.",
        )
    if node.type in _INTEGERS:
        whole = _INTEGERS[node.type]
        return lambda values: values.astype(whole).reshape(shape)
    if node.type == "tensor(bool)":
        return lambda values: (values != 0).reshape(shape)
    raise Refusal(ARTIFACT_SHAPE, f"the model's input {node.name!r} is {node.type}, which no column type becomes.")
