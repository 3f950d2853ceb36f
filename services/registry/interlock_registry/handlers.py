"""What happens on each message and command: load, let the model decide, keep, say; the table stands at the foot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from interlock import semconv, telemetry
from interlock.errors import Refusal
from interlock.manifest import Manifest
from interlock.postgres.journal import Unit
from interlock.postgres.pool import Connection
from interlock.schemas import Event
from interlock.schemas.events import (
    BuildFailed,
    BuildStarted,
    BuildSucceeded,
    DeployFailed,
    DriftCleared,
    DriftDetected,
    GateEvaluated,
    ModelCreated,
    RolledBack,
    RouteChanged,
    VersionDrained,
    VersionServing,
    VersionWarmed,
    WitnessLost,
    WitnessReturned,
)
from interlock.schemas.topics import AUDIT_CHECKPOINTS, BUILD_EVENTS, DEPLOY_EVENTS, MONITOR_EVENTS
from interlock_registry import approvals, errors, model, promotions, schema_registry, store, store_timeline
from interlock_registry.model import Pushed, Version
from interlock_registry.promotions import Endpoint

Built = TypeVar("Built", BuildStarted, BuildSucceeded, BuildFailed, GateEvaluated)


async def register(pushed: Pushed, unit: Unit) -> bool:
    """Register a pushed version; say whether it is new. Raises Refusal(VERSION_TAKEN)."""
    connection = await store.begin(unit)
    known = await store.version(connection, pushed.model, pushed.version)
    exists = bool(await store.models(connection, pushed.model))
    events = model.register(pushed, known, model_exists=exists, at=unit.clock.now())
    for event in events:
        if isinstance(event, ModelCreated):
            await store.keep_model(connection, event)
        else:
            version = model.registered(event)
            await store.keep_version(connection, version)
            for endpoint in await store.endpoints(connection, pushed.model):
                if not await _settled(connection, endpoint):
                    await _agree(connection, endpoint, version, replace=True)
        await _say(unit, event, pushed.model)
    return bool(events)


async def approve(name: str, number: int, endpoint_name: str, note: str, unit: Unit) -> Version:
    """Approve a version for an endpoint and return it as it then stands."""
    connection = await store.begin(unit)
    version = await find_version(connection, name, number)
    endpoint = await find_endpoint(connection, endpoint_name)
    actor, now = unit.cause.actor, unit.clock.now()
    await _go_on_with(version, "approve", unit)
    for event in approvals.approve(version, endpoint, approver=actor, note=note, at=now):
        await _agree(connection, endpoint, version, replace=not await _settled(connection, endpoint))
        version = approvals.version_approved(version, event)
        await store.keep_version(connection, version)
        await _say(unit, event, name)
    return version


async def create_endpoint(name: str, model_name: str, partitions: int, unit: Unit) -> Endpoint:
    """Create an endpoint, its subjects included, and return it."""
    connection = await store.begin(unit)
    if not await store.models(connection, model_name):
        raise Refusal(errors.MODEL_UNKNOWN, f"There is no model {model_name[:80]}.")
    known = await store.endpoint(connection, name)
    actor, now = unit.cause.actor, unit.clock.now()
    events = promotions.create_endpoint(name, model_name, partitions, known, actor=actor, at=now)
    for event in events:
        endpoint = promotions.endpoint_created(event)
        await store.keep_endpoint(connection, endpoint)
        await schema_registry.open_endpoint(connection, name, partitions)
        versions = await store.versions(connection, model_name)
        if versions:
            await _agree(connection, endpoint, versions[-1], replace=True)
        await _say(unit, event, model_name)
    return await find_endpoint(connection, name)


async def promote(endpoint_name: str, number: int, unit: Unit) -> dict[str, Any]:
    """Promote a version on an endpoint and return the promotion."""
    connection = await store.begin(unit)
    endpoint = await find_endpoint(connection, endpoint_name)
    version = await find_version(connection, endpoint.model, number)
    await _go_on_with(version, "promote", unit)
    promotions.require_witness(await store.lost_witness(connection))
    event = promotions.promote(endpoint, version, actor=unit.cause.actor, at=unit.clock.now())
    await store.keep_endpoint(connection, promotions.version_promoted(endpoint, event))
    await _say(unit, event, endpoint.model)
    return {
        "endpoint": event.endpoint,
        "model": event.model,
        "version": event.version,
        "digest": event.digest,
        "previous_version": event.previous_version,
        "promotion": event.promotion,
        "actor": event.actor,
        "at": event.at,
    }


async def roll_back(endpoint_name: str, reason: str, to_version: int | None, unit: Unit) -> dict[str, Any]:
    """Order a rollback on an endpoint and return it."""
    connection = await store.begin(unit)
    endpoint = await find_endpoint(connection, endpoint_name)
    target = await find_version(connection, endpoint.model, promotions.way_back(endpoint, to_version))
    event = promotions.roll_back(endpoint, target, reason=reason, actor=unit.cause.actor, at=unit.clock.now())
    await store.keep_endpoint(connection, promotions.rollback_ordered(endpoint, event))
    await _say(unit, event, endpoint.model)
    return {
        "endpoint": event.endpoint,
        "model": event.model,
        "from_version": event.from_version,
        "version": event.to_version,
        "digest": event.to_digest,
        "promotion": event.promotion,
        "actor": event.actor,
        "reason": event.reason,
        "at": event.at,
    }


async def on_build_started(event: BuildStarted, unit: Unit) -> None:
    """Show the version as being built."""
    await _fold_version(event, unit, model.build_started)


async def on_build_succeeded(event: BuildSucceeded, unit: Unit) -> None:
    """Show the version as built, or proven where it has no gates."""
    await _fold_version(event, unit, model.build_succeeded)


async def on_build_failed(event: BuildFailed, unit: Unit) -> None:
    """Show the version as failed, and why."""
    await _fold_version(event, unit, model.build_failed)


async def on_gate_evaluated(event: GateEvaluated, unit: Unit) -> None:
    """Keep a gate's verdict; the last one proves or refuses the version."""
    await _fold_version(event, unit, model.gate_evaluated)


async def on_route_changed(event: RouteChanged, unit: Unit) -> None:
    """Show the champion that is now in force."""
    await _fold_endpoint(event, unit, lambda endpoint: promotions.route_changed(endpoint, event))


async def on_deploy_failed(event: DeployFailed, unit: Unit) -> None:
    """Show why a version is not in force."""
    await _fold_endpoint(event, unit, lambda endpoint: promotions.deploy_failed(endpoint, event))


async def on_deployment(event: VersionWarmed | VersionServing | RolledBack | VersionDrained, unit: Unit) -> None:
    """Keep in the timeline what changes nothing that the registry owns."""
    connection = await store.begin(unit)
    await store_timeline.note(connection, unit.cause.event_id, event, event.model)


async def on_drift(event: DriftDetected | DriftCleared, unit: Unit) -> None:
    """Keep in the timeline that a version's traffic no longer looks as it did, or does again."""
    connection = await store.begin(unit)
    await store_timeline.note(connection, unit.cause.event_id, event, event.model)


async def on_witness(event: WitnessLost | WitnessReturned, unit: Unit) -> None:
    """Keep whether the audit log is witnessed."""
    connection = await store.begin(unit)
    await store.keep_witness(connection, event)
    await store_timeline.note(connection, unit.cause.event_id, event, None)


async def find_version(connection: Connection, name: str, number: int) -> Version:
    """Return a version; raises Refusal(MODEL_UNKNOWN | VERSION_UNKNOWN)."""
    found = await store.version(connection, name, number)
    if found is None:
        if not await store.models(connection, name):
            raise Refusal(errors.MODEL_UNKNOWN, f"There is no model {name[:80]}.")
        raise Refusal(errors.VERSION_UNKNOWN, f"There is no version {number} of {name}.")
    return found


async def find_endpoint(connection: Connection, name: str) -> Endpoint:
    """Return an endpoint; raises Refusal(ENDPOINT_UNKNOWN)."""
    found = await store.endpoint(connection, name)
    if found is None:
        raise Refusal(errors.ENDPOINT_UNKNOWN, f"There is no endpoint {name[:80]}.")
    return found


async def _fold_version(event: Built, unit: Unit, fold: Callable[[Version, Built], Version]) -> None:
    connection = await store.begin(unit)
    known = await store.version(connection, event.model, event.version)
    if known is not None:
        await store.keep_version(connection, fold(known, event))
    await store_timeline.note(connection, unit.cause.event_id, event, event.model)


async def _fold_endpoint(event: RouteChanged | DeployFailed, unit: Unit, fold: Callable[[Endpoint], Endpoint]) -> None:
    connection = await store.begin(unit)
    known = await store.endpoint(connection, event.endpoint)
    if known is not None:
        await store.keep_endpoint(connection, fold(known))
    await store_timeline.note(connection, unit.cause.event_id, event, None if known is None else known.model)


async def _say(unit: Unit, event: Event, name: str) -> None:
    """Append what was decided to the journal (and so to Kafka) and to the timeline."""
    event_id = await unit.append(name, event)
    await store_timeline.note(unit.connection, event_id, event, name)


async def _go_on_with(version: Version, word: str, unit: Unit) -> None:
    """Put what the unit says into the version's own trace, which its push began; the command's own is linked to it.

    So one trace tells a version's way from push to served, whoever takes the steps and however much later. Where the
    push was not sampled, the command's own trace goes on.
    """
    origin = await store.origin(unit.connection, version.model, version.version)
    if not telemetry.is_sampled(origin):
        return
    attributes = semconv.version(version.model, version.version, version.digest)
    with telemetry.span(f"{word} {version.model}", "internal", origin, [unit.cause.traceparent], **attributes):
        unit.cause = msgspec.structs.replace(unit.cause, traceparent=telemetry.current_traceparent())


async def _agree(connection: Connection, endpoint: Endpoint, version: Version, *, replace: bool) -> None:
    signature = Manifest.parse(version.manifest).signature
    await schema_registry.agree(connection, endpoint.name, signature, replace=replace)


async def _settled(connection: Connection, endpoint: Endpoint) -> bool:
    """Say whether any version was ever approved for the endpoint: from then on its callers are relied upon."""
    versions = await store.versions(connection, endpoint.model)
    return any(approval.endpoint == endpoint.name for version in versions for approval in version.approvals)


CONSUMES: Final[dict[str, dict[type[Event], Callable[..., Any]]]] = {
    BUILD_EVENTS: {
        BuildStarted: on_build_started,
        BuildSucceeded: on_build_succeeded,
        BuildFailed: on_build_failed,
        GateEvaluated: on_gate_evaluated,
    },
    DEPLOY_EVENTS: {
        VersionWarmed: on_deployment,
        VersionServing: on_deployment,
        RouteChanged: on_route_changed,
        RolledBack: on_deployment,
        VersionDrained: on_deployment,
        DeployFailed: on_deploy_failed,
    },
    MONITOR_EVENTS: {
        DriftDetected: on_drift,
        DriftCleared: on_drift,
    },
    AUDIT_CHECKPOINTS: {
        WitnessLost: on_witness,
        WitnessReturned: on_witness,
    },
}
