"""The manifest `interlock.toml`: what a model repository says about the version it holds."""

from __future__ import annotations

import tomllib
from typing import Final, Literal

import msgspec

from interlock.errors import Code, Refusal
from interlock.manifest_reading import FORMATS, METRICS, Problem, read
from interlock.signature import Input, Output, Signature

__all__ = [
    "FORMATS",
    "MANIFEST_BYTES_MAX",
    "MANIFEST_FILE",
    "MANIFEST_INVALID",
    "METRICS",
    "Artifact",
    "Gate",
    "Manifest",
    "Problem",
    "ProfileData",
    "Resources",
    "VectorsFile",
]

MANIFEST_FILE: Final = "interlock.toml"
MANIFEST_BYTES_MAX: Final = 256 * 1024
MANIFEST_INVALID = Code(
    "MANIFEST_INVALID",
    422,
    "The manifest interlock.toml is not valid",
    "Correct the lines named and push again; the builder's README lists every key.",
)

ArtifactFormat = Literal["onnx", "xgboost", "lightgbm"]


class Artifact(msgspec.Struct, frozen=True):
    """The model file: its path in the tree and its format."""

    path: str
    format: ArtifactFormat


class VectorsFile(msgspec.Struct, frozen=True):
    """The self-test vectors: a JSON file of inputs and expected outputs, and how far an answer may be off."""

    path: str
    tolerance: float = 1e-5


class Gate(msgspec.Struct, frozen=True):
    """One check of the version: a metric on a data set of the tree, against a bound or against the champion.

    `margin` is how much better than the champion the version must be (a negative one allows that much worse).
    `threshold` turns the score into a class for accuracy, precision, recall and f1.
    """

    name: str
    metric: str
    data: str
    label: str
    minimum: float | None = None
    maximum: float | None = None
    margin: float | None = None
    rows_minimum: int = 1
    output: str | None = None
    threshold: float = 0.5


class Resources(msgspec.Struct, frozen=True):
    """What a replica reserves: CPU and GPU fractions for placement, and MiB of memory where given."""

    cpus: float = 0.1
    gpus: float = 0.0
    memory_mib: int | None = None


class ProfileData(msgspec.Struct, frozen=True):
    """The data set that live traffic is compared with: rows as they are to be expected, labels not needed."""

    data: str


class Manifest(msgspec.Struct, frozen=True):
    """A valid manifest; build one with `Manifest.parse` only."""

    name: str
    version: int
    owner: str
    description: str
    artifact: Artifact
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    vectors: VectorsFile
    gates: tuple[Gate, ...]
    resources: Resources
    profile: ProfileData | None = None

    @property
    def signature(self) -> Signature:
        """The declared inputs and outputs."""
        return Signature(self.inputs, self.outputs)

    @property
    def files(self) -> tuple[str, ...]:
        """The paths in the tree that the manifest names, each once, the artifact first."""
        names = [self.artifact.path, self.vectors.path, *(gate.data for gate in self.gates)]
        if self.profile is not None:
            names.append(self.profile.data)
        return tuple(dict.fromkeys(names))

    @classmethod
    def parse(cls, text: str | bytes, file: str = MANIFEST_FILE) -> Manifest:
        """Read a manifest.

        Raises Refusal(MANIFEST_INVALID) with fields `file`, `line` (of the first problem) and `problems`: every
        problem at once, each a dict of file, line and message.
        """
        problems: list[Problem] = []
        source = _text_of(text, file, problems)
        document = _toml_of(source, file, problems) if source is not None else None
        if source is not None and document is not None:
            fields = read(source, document, file, problems)
            if not problems:
                return msgspec.convert(fields, cls)
        ordered = sorted(problems, key=lambda problem: problem.line)
        raise Refusal(
            MANIFEST_INVALID,
            "\n".join(str(problem) for problem in ordered),
            file=file,
            line=ordered[0].line,
            problems=[msgspec.to_builtins(problem) for problem in ordered],
        )


def _text_of(text: str | bytes, file: str, problems: list[Problem]) -> str | None:
    if len(text) > MANIFEST_BYTES_MAX:
        problems.append(Problem(file, 1, f"is longer than {MANIFEST_BYTES_MAX // 1024} KiB"))
        return None
    if isinstance(text, str):
        return text.replace("\r\n", "\n")
    try:
        return text.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = text[: error.start].count(b"\n") + 1
        problems.append(Problem(file, line, "is not UTF-8 text"))
        return None


def _toml_of(source: str, file: str, problems: list[Problem]) -> dict[str, object] | None:
    try:
        return tomllib.loads(source)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        message = str(error) or "nested too deep"
        line, reason = _line_in(message, source)
        problems.append(Problem(file, line, f"not TOML: {reason}"))
        return None


def _line_in(message: str, source: str) -> tuple[int, str]:
    """Take the line out of tomllib's message, which ends with `(at line 3, column 4)` or `(at end of document)`."""
    reason, _, place = message.rpartition(" (at ")
    if place.startswith("line "):
        return int(place.removeprefix("line ").split(",")[0]), reason
    return max(1, source.count("\n")), reason or message
