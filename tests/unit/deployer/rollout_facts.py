"""Facts about a rollout, in short: the events the deployer hears, and what warming finds out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from interlock.cause import Cause
from interlock.schemas.events import EndpointCreated, RollbackOrdered, VersionApproved, VersionPromoted
from interlock_deployer.rollout import Limits, Proof

START = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
ORIGIN = Cause(event_id="0190-event", correlation_id="0190-correlation", actor="olga")
LIMITS = Limits(warm_versions_max=4, route_drain_seconds=10.0, deploy_retry_seconds=2.0, deploy_retry_seconds_max=60.0)
SHADOWED = replace(LIMITS, shadow_approved=True)


def later(seconds: float) -> datetime:
    """Return an instant that many seconds after the beginning."""
    return START + timedelta(seconds=seconds)


def digest(version: int) -> str:
    """Return the digest that a version of the test model has."""
    return "sha256:" + f"{version:02d}" * 32


def application(version: int) -> str:
    """Return the application that runs a version of the test model."""
    return f"fraud--v{version}--{f'{version:02d}' * 6}"


def proof(version: int) -> Proof:
    """Return what warming a version of the test model found out."""
    return Proof(
        signature='{"inputs":[],"outputs":[]}',
        result_schema=f'{{"of":{version}}}',
        result_schema_id=1000 + version,
        vectors=8,
        seconds=0.5,
    )


def created(partitions: int = 4) -> EndpointCreated:
    """The endpoint fraud was created."""
    return EndpointCreated(endpoint="fraud", model="fraud", partitions=partitions, created_by="olga", at=START)


def approved(version: int, with_digest: str | None = None) -> VersionApproved:
    """A version was approved for fraud."""
    return VersionApproved(
        model="fraud",
        version=version,
        digest=with_digest or digest(version),
        endpoint="fraud",
        evidence_digest="sha256:" + "ee" * 32,
        approver="rita",
        note="",
        at=START,
    )


def promoted(version: int, promotion: int, previous: int | None = None) -> VersionPromoted:
    """A version was ordered to become champion of fraud."""
    return VersionPromoted(
        endpoint="fraud",
        model="fraud",
        version=version,
        digest=digest(version),
        promotion=promotion,
        actor="olga",
        previous_version=previous,
        at=START,
    )


def rollback(from_version: int, to_version: int, promotion: int) -> RollbackOrdered:
    """Fraud was ordered back."""
    return RollbackOrdered(
        endpoint="fraud",
        model="fraud",
        promotion=promotion,
        from_version=from_version,
        to_version=to_version,
        to_digest=digest(to_version),
        actor="olga",
        reason="",
        at=START,
    )
