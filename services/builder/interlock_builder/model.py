"""What a build is, what may be built, and which events follow from how it ended."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from interlock.cause import Cause
from interlock.errors import Refusal
from interlock.schemas.events import BuildFailed, BuildStarted, BuildSucceeded, GateEvaluated, Verdict
from interlock_builder.bench import Built
from interlock_builder.errors import BUILD_ABANDONED, FILE_TOO_LARGE
from interlock_builder.gates import Judgement

EVIDENCE_FORMAT: Final = "interlock.evidence.v1"
DETAIL_CHARACTERS_MAX: Final = 4000


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to build one version."""

    model: str
    version: int
    digest: str
    manifest: str
    manifest_digest: str
    artifact_digest: str
    files: dict[str, str]
    cause: Cause
    attempt: int


class ChampionBuild(msgspec.Struct, frozen=True, kw_only=True):
    """The version now promoted, which a margin is measured against."""

    version: int
    digest: str
    manifest_digest: str
    artifact_digest: str


def refuse_abandoned(build: Build, attempts_max: int) -> None:
    """Raise Refusal(BUILD_ABANDONED) when earlier attempts all died."""
    if build.attempt > attempts_max:
        raise Refusal(BUILD_ABANDONED, f"{attempts_max} builders began this build and none came to its end.")


def refuse_large(sizes: dict[str, int], artifact: str, artifact_bytes_max: int, data_bytes_max: int) -> None:
    """Raise Refusal(FILE_TOO_LARGE) for the first file above its bound; sizes are bytes by path."""
    for path, size in sizes.items():
        bound = artifact_bytes_max if path == artifact else data_bytes_max
        if size > bound:
            raise Refusal(FILE_TOO_LARGE, f"{path} has {size} bytes; at most {bound} are accepted.")


def started(build: Build, at: datetime) -> BuildStarted:
    """An attempt has begun."""
    return BuildStarted(model=build.model, version=build.version, digest=build.digest, attempt=build.attempt, at=at)


def failed(build: Build, refusal: Refusal, at: datetime) -> BuildFailed:
    """The version cannot be built."""
    return BuildFailed(
        model=build.model,
        version=build.version,
        digest=build.digest,
        attempt=build.attempt,
        code=refusal.code.id,
        detail=str(refusal)[:DETAIL_CHARACTERS_MAX],
        at=at,
    )


def succeeded(
    build: Build, built: Built, evidence_digest: str, profile_digest: str, seconds: float, at: datetime
) -> list[BuildSucceeded | GateEvaluated]:
    """The version is built: this is said first, then each gate's verdict in the manifest's order."""
    first = BuildSucceeded(
        model=build.model,
        version=build.version,
        digest=build.digest,
        attempt=build.attempt,
        evidence_digest=evidence_digest,
        profile_digest=profile_digest,
        vectors=built.vectors,
        gates=tuple(judgement.gate for judgement in built.gates),
        seconds=seconds,
        at=at,
    )
    return [first, *(_evaluated(build, judgement, at) for judgement in built.gates)]


def _evaluated(build: Build, judgement: Judgement, at: datetime) -> GateEvaluated:
    numbers = msgspec.structs.asdict(judgement)
    verdict = Verdict(numbers.pop("verdict"))
    return GateEvaluated(
        model=build.model, version=build.version, digest=build.digest, verdict=verdict, at=at, **numbers
    )


def evidence(
    build: Build,
    built: Built,
    champion: ChampionBuild | None,
    confinement: dict[str, str],
    profile_digest: str,
    seconds: float,
    at: datetime,
) -> dict[str, Any]:
    """Return all that the verdicts rest on, as JSON-able values: digests, numbers, library versions, confinement."""
    return {
        "format": EVIDENCE_FORMAT,
        "model": build.model,
        "version": build.version,
        "digest": build.digest,
        "attempt": build.attempt,
        "manifest_digest": build.manifest_digest,
        "artifact_digest": built.artifact_digest,
        "artifact_bytes": built.artifact_bytes,
        "files": build.files,
        "vectors": {"count": built.vectors, "largest_difference": built.largest_difference},
        "gates": msgspec.to_builtins(built.gates),
        "champion": msgspec.to_builtins(champion),
        "profile_digest": profile_digest,
        "libraries": built.libraries,
        "confinement": confinement,
        "seconds": seconds,
        "finished_at": at.isoformat(),
    }
