"""What the registry allows of versions and what follows from it: registration, builds, gates, proof. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from interlock.errors import Refusal
from interlock.schemas.events import (
    BuildFailed,
    BuildStarted,
    BuildSucceeded,
    GateEvaluated,
    ModelCreated,
    Verdict,
    VersionRegistered,
)
from interlock_registry import errors

NAME: Final = re.compile(r"[a-z](?:-?[a-z0-9_]){0,62}")


class State(StrEnum):
    """Where a version stands."""

    REGISTERED = "registered"
    BUILDING = "building"
    BUILT = "built"
    PROVEN = "proven"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True)
class Gate:
    """The verdict of one gate on a version, with the numbers it rests on."""

    name: str
    metric: str
    verdict: str
    value: float | None
    bound: float | None
    champion_version: int | None
    champion_value: float | None
    margin: float | None
    rows: int
    detail: str

    def sentence(self) -> str:
        """Return the verdict as a person reads it, with the numbers it rests on."""
        verdict = self.verdict.replace("_", " ")
        if self.value is None or self.verdict == Verdict.NOT_ENOUGH_EVIDENCE:
            return f"gate {self.name}: {self.detail} {verdict}"
        said = f"gate {self.name}: {self.metric} {_shown(self.value, self.bound, self.champion_value)}"
        if self.bound is not None:
            bound = _shown(self.bound, self.value)
            said += f" {_relation(self.value, self.bound, passed=self.verdict == Verdict.PASS)} {bound}"
        if self.champion_value is not None:
            said += f", champion version {self.champion_version} has {_shown(self.champion_value, self.value)}"
            said += "" if self.margin is None else f" (margin {self.margin:+g})"
        return f"{said} {verdict}"


def _relation(value: float, bound: float, *, passed: bool) -> str:
    """Return how a value stands to its bound; the event does not say whether the bound is the least or the most."""
    if passed:
        return ">=" if value >= bound else "<="
    return "<" if value < bound else ">"


def _shown(value: float, *others: float | None) -> str:
    """Return a number with three decimals, or as many more as tell it from the numbers beside it."""
    for decimals in range(3, 9):
        text = f"{value:.{decimals}f}"
        if all(other is None or other == value or f"{other:.{decimals}f}" != text for other in others):
            return text
    return repr(value)


@dataclass(frozen=True)
class Approval:
    """A person's consent to one digest and its evidence on one endpoint."""

    endpoint: str
    approver: str
    evidence_digest: str
    note: str
    at: datetime


@dataclass(frozen=True)
class Version:
    """One immutable version of a model, and what has become of it so far."""

    model: str
    version: int
    digest: str
    manifest: str
    manifest_digest: str
    artifact_digest: str
    artifact_format: str
    artifact_bytes: int
    files: Mapping[str, str]
    commit: str
    author: str
    registered_at: datetime
    state: State = State.REGISTERED
    attempt: int = 0
    vectors: int | None = None
    evidence_digest: str | None = None
    profile_digest: str | None = None
    gates_expected: tuple[str, ...] = ()
    gates: tuple[Gate, ...] = ()
    approvals: tuple[Approval, ...] = ()
    failure: str | None = None

    @property
    def settled(self) -> bool:
        """Whether nothing more is to come from the builder."""
        heard = {gate.name for gate in self.gates}
        return self.state is State.FAILED or (self.evidence_digest is not None and heard >= set(self.gates_expected))

    def approved_for(self, endpoint: str) -> bool:
        """Whether somebody has approved exactly this evidence for the endpoint."""
        return any(a.endpoint == endpoint and a.evidence_digest == self.evidence_digest for a in self.approvals)


@dataclass(frozen=True)
class Pushed:
    """What a push brings: the manifest, and the digests of everything it names."""

    model: str
    owner: str
    version: int
    digest: str
    manifest: str
    manifest_digest: str
    artifact_digest: str
    artifact_format: str
    artifact_bytes: int
    commit: str
    author: str
    files: Mapping[str, str] = field(default_factory=dict)


def named(name: str, what: str) -> str:
    """Return a model's or endpoint's name; raises Refusal(NAME_INVALID)."""
    if NAME.fullmatch(name) is None:
        raise Refusal(errors.NAME_INVALID, f"{name[:80]!r} cannot be the name of {what}.")
    return name


def register(
    pushed: Pushed, known: Version | None, *, model_exists: bool, at: datetime
) -> list[ModelCreated | VersionRegistered]:
    """Decide on a pushed version: no events where it is known already, byte for byte.

    Raises Refusal(VERSION_TAKEN) where the number stands for other bytes, be it only in a data file.
    """
    if known is not None:
        changed = _differences(pushed, known)
        if not changed:
            return []
        raise Refusal(
            errors.VERSION_TAKEN,
            f"{pushed.model} version {pushed.version} is already registered with other bytes"
            f" ({', '.join(changed)} {'differs' if len(changed) == 1 else 'differ'}).",
            registered_digest=known.digest,
            pushed_digest=pushed.digest,
            differs=changed,
        )
    events: list[ModelCreated | VersionRegistered] = []
    if not model_exists:
        events.append(ModelCreated(model=pushed.model, owner=pushed.owner, created_by=pushed.author, at=at))
    events.append(
        VersionRegistered(
            model=pushed.model,
            version=pushed.version,
            digest=pushed.digest,
            manifest=pushed.manifest,
            manifest_digest=pushed.manifest_digest,
            artifact_digest=pushed.artifact_digest,
            artifact_format=pushed.artifact_format,
            artifact_bytes=pushed.artifact_bytes,
            files=dict(pushed.files),
            commit=pushed.commit,
            author=pushed.author,
            at=at,
        )
    )
    return events


def _differences(pushed: Pushed, known: Version) -> list[str]:
    changed = ["interlock.toml"] if pushed.manifest_digest != known.manifest_digest else []
    paths = sorted(set(pushed.files) | set(known.files))
    return changed + [path for path in paths if pushed.files.get(path) != known.files.get(path)]


def registered(event: VersionRegistered) -> Version:
    """Return the version that a registration begins."""
    return Version(
        model=event.model,
        version=event.version,
        digest=event.digest,
        manifest=event.manifest,
        manifest_digest=event.manifest_digest,
        artifact_digest=event.artifact_digest,
        artifact_format=event.artifact_format,
        artifact_bytes=event.artifact_bytes,
        files=dict(event.files),
        commit=event.commit,
        author=event.author,
        registered_at=event.at,
    )


def build_started(version: Version, event: BuildStarted) -> Version:
    """Fold the start of a build; a late start, or one after the evidence is there, changes nothing."""
    if event.digest != version.digest or event.attempt <= version.attempt or version.evidence_digest is not None:
        return version
    return replace(version, state=State.BUILDING, attempt=event.attempt, failure=None)


def build_succeeded(version: Version, event: BuildSucceeded) -> Version:
    """Fold a build that ended well; with its gates all passed the version is proven."""
    if event.digest != version.digest or event.attempt < version.attempt or version.evidence_digest is not None:
        return version
    built = replace(
        version,
        attempt=event.attempt,
        state=State.BUILT,
        vectors=event.vectors,
        evidence_digest=event.evidence_digest,
        profile_digest=event.profile_digest,
        gates_expected=tuple(event.gates),
        failure=None,
    )
    return _weighed(built)


def build_failed(version: Version, event: BuildFailed) -> Version:
    """Fold a build that failed; nothing that was proven is unproven by a late failure of another attempt."""
    if event.digest != version.digest or event.attempt < version.attempt or version.evidence_digest is not None:
        return version
    return replace(version, attempt=event.attempt, state=State.FAILED, failure=f"{event.code}: {event.detail}")


def gate_of(event: GateEvaluated) -> Gate:
    """Return the verdict that an event carries."""
    return Gate(
        name=event.gate,
        metric=event.metric,
        verdict=event.verdict.value,
        value=event.value,
        bound=event.bound,
        champion_version=event.champion_version,
        champion_value=event.champion_value,
        margin=event.margin,
        rows=event.rows,
        detail=event.detail,
    )


def gate_evaluated(version: Version, event: GateEvaluated) -> Version:
    """Fold one gate's verdict; the first one stands."""
    known = {gate.name for gate in version.gates}
    if event.digest != version.digest or event.gate in known:
        return version
    return _weighed(replace(version, gates=(*version.gates, gate_of(event))))


def _weighed(version: Version) -> Version:
    """Return the version with the state that its gates give it: one failure refuses, all passed prove."""
    if version.evidence_digest is None:
        return version
    verdicts = {gate.name: gate.verdict for gate in version.gates}
    if Verdict.FAIL in verdicts.values():
        return replace(version, state=State.REFUSED)
    if all(verdicts.get(name) == Verdict.PASS for name in version.gates_expected):
        return replace(version, state=State.PROVEN)
    return version


def require_proven(version: Version) -> str:
    """Return the digest of the evidence; raises Refusal(NOT_PROVEN) that says with numbers what is missing."""
    if version.state is State.PROVEN and version.evidence_digest is not None:
        return version.evidence_digest
    name = f"{version.model} version {version.version}"
    short = [gate for gate in version.gates if gate.verdict != Verdict.PASS]
    if version.state is State.FAILED:
        why = f"{name} did not build: {version.failure}."
    elif short:
        why = f"{name} did not pass: " + "; ".join(gate.sentence() for gate in short) + "."
    elif version.state is State.BUILT:
        waiting = [name for name in version.gates_expected if name not in {gate.name for gate in version.gates}]
        why = f"{name} still waits for its gates: {', '.join(waiting)}."
    else:
        why = f"{name} is {version.state.value}: the builder has not proven it yet."
    raise Refusal(errors.NOT_PROVEN, why, state=version.state.value, gates=[gate.sentence() for gate in version.gates])
