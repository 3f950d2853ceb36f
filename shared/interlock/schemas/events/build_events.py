"""The events of `interlock.build.events`: what building and gating a version yielded.

Generated from schemas/ by `make generate`; not written by hand.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from interlock.schemas.event import Event


class BuildStarted(Event, frozen=True, kw_only=True):
    """A builder took a version in hand."""

    SCHEMA_ID: ClassVar[int] = 7
    TOPIC: ClassVar[str] = "interlock.build.events"
    TYPE: ClassVar[str] = "io.interlock.build_started.v1"
    KEY: ClassVar[str] = "model"
    SCHEMA: ClassVar[str] = (
        '{"type":"record","namespace":"io.interlock","name":"BuildStarted","doc":"A builder took a version in'
        ' hand.","fields":[{"name":"model","type":"string","doc":"The model\'s name."}'
        ',{"name":"version","type":"int","doc":"The version\'s number within its model, from 1."}'
        ',{"name":"digest","type":"string","doc":"The version\'s identity: `sha256:` and 64 hexadecimal digits'
        ' over manifest and artifact."}'
        ',{"name":"attempt","type":"long","doc":"The number of this attempt to build it; it only rises, and r'
        'esults of older attempts are refused."}'
        ',{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"When it happened, in UT'
        'C."}]}'
    )

    model: str
    """The model's name."""
    version: int
    """The version's number within its model, from 1."""
    digest: str
    """The version's identity: `sha256:` and 64 hexadecimal digits over manifest and artifact."""
    attempt: int
    """The number of this attempt to build it; it only rises, and results of older attempts are refused."""
    at: datetime
    """When it happened, in UTC."""


class BuildSucceeded(Event, frozen=True, kw_only=True):
    """The version was built, its vectors scored and its gates evaluated; the named gates follow one by one."""

    SCHEMA_ID: ClassVar[int] = 8
    TOPIC: ClassVar[str] = "interlock.build.events"
    TYPE: ClassVar[str] = "io.interlock.build_succeeded.v1"
    KEY: ClassVar[str] = "model"
    SCHEMA: ClassVar[str] = (
        '{"type":"record","namespace":"io.interlock","name":"BuildSucceeded","doc":"The version was built, it'
        's vectors scored and its gates evaluated; the named gates follow one by one.","fields":[{"name":"mod'
        'el","type":"string","doc":"The model\'s name."}'
        ',{"name":"version","type":"int","doc":"The version\'s number within its model, from 1."}'
        ',{"name":"digest","type":"string","doc":"The version\'s identity: `sha256:` and 64 hexadecimal digits'
        ' over manifest and artifact."}'
        ',{"name":"attempt","type":"long","doc":"The number of this attempt to build it; it only rises, and r'
        'esults of older attempts are refused."}'
        ',{"name":"evidence_digest","type":"string","doc":"The content address of the evidence: what was buil'
        "t from what, and every gate's numbers.\"}"
        ',{"name":"profile_digest","type":"string","doc":"The content address of the reference profile of eve'
        'ry feature and of the score."}'
        ',{"name":"vectors","type":"int","doc":"How many self-test vectors were scored."}'
        ',{"name":"gates","type":{"type":"array","items":"string"},"doc":"The names of the gates that follow '
        'as GateEvaluated; empty if the manifest has none."}'
        ',{"name":"seconds","type":"double","doc":"How long the build took, in seconds."}'
        ',{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"When it happened, in UT'
        'C."}]}'
    )

    model: str
    """The model's name."""
    version: int
    """The version's number within its model, from 1."""
    digest: str
    """The version's identity: `sha256:` and 64 hexadecimal digits over manifest and artifact."""
    attempt: int
    """The number of this attempt to build it; it only rises, and results of older attempts are refused."""
    evidence_digest: str
    """The content address of the evidence: what was built from what, and every gate's numbers."""
    profile_digest: str
    """The content address of the reference profile of every feature and of the score."""
    vectors: int
    """How many self-test vectors were scored."""
    gates: tuple[str, ...]
    """The names of the gates that follow as GateEvaluated; empty if the manifest has none."""
    seconds: float
    """How long the build took, in seconds."""
    at: datetime
    """When it happened, in UTC."""


class BuildFailed(Event, frozen=True, kw_only=True):
    """The version cannot be built; it will never serve."""

    SCHEMA_ID: ClassVar[int] = 9
    TOPIC: ClassVar[str] = "interlock.build.events"
    TYPE: ClassVar[str] = "io.interlock.build_failed.v1"
    KEY: ClassVar[str] = "model"
    SCHEMA: ClassVar[str] = (
        '{"type":"record","namespace":"io.interlock","name":"BuildFailed","doc":"The version cannot be built;'
        ' it will never serve.","fields":[{"name":"model","type":"string","doc":"The model\'s name."}'
        ',{"name":"version","type":"int","doc":"The version\'s number within its model, from 1."}'
        ',{"name":"digest","type":"string","doc":"The version\'s identity: `sha256:` and 64 hexadecimal digits'
        ' over manifest and artifact."}'
        ',{"name":"attempt","type":"long","doc":"The number of this attempt to build it; it only rises, and r'
        'esults of older attempts are refused."}'
        ',{"name":"code","type":"string","doc":"The id of the refusal, as in the reference of errors."}'
        ',{"name":"detail","type":"string","doc":"What failed, in words for the author."}'
        ',{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"When it happened, in UT'
        'C."}]}'
    )

    model: str
    """The model's name."""
    version: int
    """The version's number within its model, from 1."""
    digest: str
    """The version's identity: `sha256:` and 64 hexadecimal digits over manifest and artifact."""
    attempt: int
    """The number of this attempt to build it; it only rises, and results of older attempts are refused."""
    code: str
    """The id of the refusal, as in the reference of errors."""
    detail: str
    """What failed, in words for the author."""
    at: datetime
    """When it happened, in UTC."""


class Verdict(StrEnum):
    """What a gate can say."""

    PASS = "PASS"
    FAIL = "FAIL"
    NOT_ENOUGH_EVIDENCE = "NOT_ENOUGH_EVIDENCE"


class GateEvaluated(Event, frozen=True, kw_only=True):
    """One gate gave its verdict on a version, with the numbers it rests on."""

    SCHEMA_ID: ClassVar[int] = 10
    TOPIC: ClassVar[str] = "interlock.build.events"
    TYPE: ClassVar[str] = "io.interlock.gate_evaluated.v1"
    KEY: ClassVar[str] = "model"
    SCHEMA: ClassVar[str] = (
        '{"type":"record","namespace":"io.interlock","name":"GateEvaluated","doc":"One gate gave its verdict '
        'on a version, with the numbers it rests on.","fields":[{"name":"model","type":"string","doc":"The mo'
        "del's name.\"}"
        ',{"name":"version","type":"int","doc":"The version\'s number within its model, from 1."}'
        ',{"name":"digest","type":"string","doc":"The version\'s identity: `sha256:` and 64 hexadecimal digits'
        ' over manifest and artifact."}'
        ',{"name":"gate","type":"string","doc":"The gate\'s name in the manifest."}'
        ',{"name":"metric","type":"string","doc":"The metric that was computed."}'
        ',{"name":"verdict","type":{"type":"enum","name":"Verdict","doc":"What a gate can say.","symbols":["P'
        'ASS","FAIL","NOT_ENOUGH_EVIDENCE"]},"doc":"What the gate says."}'
        ',{"name":"value","type":["null","double"],"default":null,"doc":"The metric\'s value for this version,'
        ' or null where it could not be computed."}'
        ',{"name":"bound","type":["null","double"],"default":null,"doc":"The bound that the value was held ag'
        'ainst, or null where the gate has none of its own."}'
        ',{"name":"champion_version","type":["null","int"],"default":null,"doc":"The version that was champio'
        'n at the time, or null where there was none or the gate has no margin."}'
        ',{"name":"champion_value","type":["null","double"],"default":null,"doc":"The metric\'s value for the '
        'champion on the same rows."}'
        ',{"name":"margin","type":["null","double"],"default":null,"doc":"By how much the version must beat t'
        'he champion (below zero: may fall behind it)."}'
        ',{"name":"rows","type":"int","doc":"On how many rows the metric was computed."}'
        ',{"name":"detail","type":"string","doc":"The verdict in a sentence, with its numbers."}'
        ',{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"When it happened, in UT'
        'C."}]}'
    )

    model: str
    """The model's name."""
    version: int
    """The version's number within its model, from 1."""
    digest: str
    """The version's identity: `sha256:` and 64 hexadecimal digits over manifest and artifact."""
    gate: str
    """The gate's name in the manifest."""
    metric: str
    """The metric that was computed."""
    verdict: Verdict
    """What the gate says."""
    value: float | None = None
    """The metric's value for this version, or null where it could not be computed."""
    bound: float | None = None
    """The bound that the value was held against, or null where the gate has none of its own."""
    champion_version: int | None = None
    """The version that was champion at the time, or null where there was none or the gate has no margin."""
    champion_value: float | None = None
    """The metric's value for the champion on the same rows."""
    margin: float | None = None
    """By how much the version must beat the champion (below zero: may fall behind it)."""
    rows: int
    """On how many rows the metric was computed."""
    detail: str
    """The verdict in a sentence, with its numbers."""
    at: datetime
    """When it happened, in UTC."""
