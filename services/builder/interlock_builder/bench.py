"""The build itself, inside the confined child: load, prove by vectors, measure, judge, profile.

Everything in here may be killed by a hostile artifact; nothing in here holds anything worth stealing.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from interlock.errors import Refusal
from interlock.ids import digest_of, version_digest
from interlock.manifest import Gate, Manifest
from interlock.measures import measure
from interlock.serving import formats, runtime, vectors
from interlock.serving.runtime import LoadedModel
from interlock.serving.sandbox import enter_phase
from interlock.signature import Matrix, Signature
from interlock_builder import dataset
from interlock_builder.errors import BY_REASON, DATA_INVALID, DIGEST_MISMATCH, FILE_MISSING
from interlock_builder.gates import Champion, Judgement, Measured, judge
from interlock_builder.profile import profile

TARGET: Final = "interlock_builder.bench:build"
_LIBRARIES: Final = ("onnxruntime", "onnx", "xgboost-cpu", "lightgbm", "numpy", "interlock")
_ROWS_AT_ONCE: Final = 4096


class ChampionFiles(msgspec.Struct, frozen=True):
    """The champion to be measured beside the version: which it is, and where its bytes lie."""

    version: int
    digest: str
    manifest: str
    artifact: str


class Order(msgspec.Struct, frozen=True):
    """What to build: the manifest's text, the registered digest, and every file by its path in the tree."""

    digest: str
    manifest: str
    files: dict[str, str]
    digests: dict[str, str]
    champion: ChampionFiles | None
    data_rows_max: int


class Built(msgspec.Struct, frozen=True):
    """What a sound build found; plain values throughout, as it travels as JSON."""

    artifact_digest: str
    artifact_bytes: int
    vectors: int
    largest_difference: float
    gates: list[Judgement]
    profile: dict[str, Any]
    libraries: dict[str, str]


def build(argument: Any) -> Any:
    """Carry out an `Order`; return `Built`, both as JSON-able values. Raises Refusal saying what is wrong."""
    order = msgspec.convert(argument, Order)
    manifest = Manifest.parse(order.manifest)
    files = _Files(order)
    enter_phase("loading the artifact")
    artifact = files.read(manifest.artifact.path)
    if version_digest(order.manifest.encode(), artifact) != order.digest:
        raise Refusal(DIGEST_MISMATCH, f"manifest and artifact do not make up {order.digest}.")
    formats.refuse_executable(manifest.artifact.path, artifact, manifest.name, manifest.version, manifest.owner)
    model = _load(manifest, artifact)
    proof, difference = _prove(manifest, model, files)
    judgements, reference = _Measuring(manifest, model, files, order).all(proof)
    built = Built(
        artifact_digest=digest_of(artifact),
        artifact_bytes=len(artifact),
        vectors=len(proof.inputs),
        largest_difference=difference,
        gates=judgements,
        profile=reference,
        libraries={"python": platform.python_version(), **_versions()},
    )
    return msgspec.to_builtins(built)


class _Files:
    """The version's files; each is checked against its digest as it is read."""

    def __init__(self, order: Order) -> None:
        self._order = order

    def read(self, path: str) -> bytes:
        if path not in self._order.files:
            raise Refusal(FILE_MISSING, f"{path} is not in the version.")
        content = Path(self._order.files[path]).read_bytes()
        if digest_of(content) != self._order.digests[path]:
            raise Refusal(DIGEST_MISMATCH, f"{path} has other bytes than were registered.")
        return content


def _load(manifest: Manifest, artifact: bytes) -> LoadedModel:
    if manifest.artifact.format == "onnx":
        _check_onnx(artifact)
    return runtime.load(manifest.artifact.format, artifact, manifest.signature)


def _check_onnx(artifact: bytes) -> None:
    """Have the official checker see the graph first, and refuse weights that lie in other files."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # ships no annotations

    try:
        model = onnx.load_from_string(artifact)
        if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
            raise Refusal(runtime.ARTIFACT_INVALID, "the graph keeps weights in other files: save it as one file.")
        onnx.checker.check_model(artifact)
    except (DecodeError, onnx.checker.ValidationError, ValueError) as error:
        sentence = (str(error).strip() or type(error).__name__).splitlines()[0][:400]
        raise Refusal(runtime.ARTIFACT_INVALID, f"the artifact is no valid ONNX: {sentence}.") from error


def _score(model: LoadedModel, matrix: Matrix, signature: Signature, what: str) -> Matrix:
    """Score in pieces and check each answer as a lane does. Raises Refusal by what is wrong with it."""
    answers = []
    for start in range(0, len(matrix), _ROWS_AT_ONCE):
        piece = matrix[start : start + _ROWS_AT_ONCE]
        answer = model.score(piece)
        problem = runtime.problem_of(answer, len(piece), signature)
        if problem is not None:
            raise Refusal(BY_REASON[problem[0]], f"{what}: {problem[1]}.")
        answers.append(answer)
    return np.concatenate(answers) if answers else np.empty((0, len(signature.outputs)))


def _prove(manifest: Manifest, model: LoadedModel, files: _Files) -> tuple[vectors.Vectors, float]:
    enter_phase("scoring the self-test vectors")
    proof = vectors.parse(files.read(manifest.vectors.path), manifest.signature)
    answer = _score(model, proof.inputs, manifest.signature, manifest.vectors.path)
    disagreement = proof.disagreement(answer, manifest.vectors.tolerance, manifest.signature)
    if disagreement is not None:
        raise Refusal(vectors.VECTORS_DISAGREE, f"{manifest.vectors.path}: {disagreement}.")
    return proof, float(np.abs(answer - proof.outputs).max())


class _Measuring:
    """All gates of one version; every data set is read and scored once, however many gates use it."""

    def __init__(self, manifest: Manifest, model: LoadedModel, files: _Files, order: Order) -> None:
        self._manifest = manifest
        self._model = model
        self._files = files
        self._order = order
        self._tables: dict[str, dataset.Table] = {}
        self._answers: dict[str, tuple[Matrix, Matrix]] = {}
        self._champion: tuple[Manifest, LoadedModel] | None = None
        self._champion_answers: dict[str, Matrix | str] = {}

    def all(self, proof: vectors.Vectors) -> tuple[list[Judgement], dict[str, Any]]:
        """Return every gate's judgement and the reference profile.

        It is taken on the data that the manifest names for it, else on the gates' largest, else on the vectors.
        """
        judgements = [self._gate(gate) for gate in self._manifest.gates]
        enter_phase("profiling")
        if self._manifest.profile is not None:
            path = self._manifest.profile.data
            inputs, outputs = self._answered(path, self._table(path))
            if not len(inputs):
                raise Refusal(DATA_INVALID, f"{path} has no rows to take a reference profile from.")
            return judgements, profile(self._manifest.signature, inputs, outputs, path)
        source, inputs, outputs = self._manifest.vectors.path, proof.inputs, proof.outputs
        for path, (matrix, answer) in self._answers.items():
            if source not in self._answers or len(matrix) > len(inputs):
                source, inputs, outputs = path, matrix, answer
        return judgements, profile(self._manifest.signature, inputs, outputs, source)

    def _gate(self, gate: Gate) -> Judgement:
        enter_phase(f"evaluating gate {gate.name}")
        table = self._table(gate.data)
        labels = table.labels(gate.label)
        _, answer = self._answered(gate.data, table)
        column = self._output(self._manifest, gate)
        value, why = measure(gate.metric, labels, answer[:, column or 0], gate.threshold)
        champion = self._champion_on(gate, table, labels) if self._order.champion and gate.margin is not None else None
        return judge(gate, table.rows, Measured(value, why), champion)

    def _table(self, path: str) -> dataset.Table:
        if path not in self._tables:
            self._tables[path] = dataset.read(path, self._files.read(path), self._order.data_rows_max)
        return self._tables[path]

    def _answered(self, path: str, table: dataset.Table) -> tuple[Matrix, Matrix]:
        if path not in self._answers:
            matrix = table.matrix(self._manifest.signature)
            self._answers[path] = matrix, _score(self._model, matrix, self._manifest.signature, path)
        return self._answers[path]

    def _champion_on(self, gate: Gate, table: dataset.Table, labels: Any) -> Champion:
        assert self._order.champion is not None
        enter_phase(f"measuring the champion for gate {gate.name}")
        version = self._order.champion.version
        answer = self._champion_answer(gate.data, table)
        if isinstance(answer, str):
            return Champion(version, Measured(None, answer))
        assert self._champion is not None
        column = self._output(self._champion[0], gate)
        if column is None:
            return Champion(version, Measured(None, f"it has no output {gate.output!r}"))
        value, why = measure(gate.metric, labels, answer[:, column], gate.threshold)
        return Champion(version, Measured(value, why))

    def _champion_answer(self, path: str, table: dataset.Table) -> Matrix | str:
        """Return the champion's answer on a data set, or why there is none: data may have lost a column it needs."""
        if path not in self._champion_answers:
            manifest, model = self._load_champion()
            lacks = table.lacks(manifest.signature)
            if lacks:
                answer: Matrix | str = f"{path} has no column {', '.join(lacks[:8])}, which it needs"
            else:
                try:
                    matrix = table.matrix(manifest.signature)
                    answer = _score(model, matrix, manifest.signature, path)
                except Refusal as refusal:
                    answer = refusal.detail
            self._champion_answers[path] = answer
        return self._champion_answers[path]

    def _load_champion(self) -> tuple[Manifest, LoadedModel]:
        if self._champion is None:
            assert self._order.champion is not None
            text = Path(self._order.champion.manifest).read_bytes()
            artifact = Path(self._order.champion.artifact).read_bytes()
            if version_digest(text, artifact) != self._order.champion.digest:
                raise Refusal(DIGEST_MISMATCH, f"the champion's bytes are not {self._order.champion.digest}.")
            manifest = Manifest.parse(text)
            self._champion = manifest, runtime.load(manifest.artifact.format, artifact, manifest.signature)
        return self._champion

    @staticmethod
    def _output(manifest: Manifest, gate: Gate) -> int | None:
        names = [output.name for output in manifest.outputs]
        if gate.output is None:
            return 0
        return names.index(gate.output) if gate.output in names else None


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def as_json(value: Any) -> bytes:
    """Return JSON-able values as bytes that are the same for the same values, for people to read."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode()
