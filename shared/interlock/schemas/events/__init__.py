"""All events, by name and by schema id.

Generated from schemas/ by `make generate`; not written by hand.
"""

from __future__ import annotations

from interlock.schemas.event import Event
from interlock.schemas.events.build_events import BuildFailed, BuildStarted, BuildSucceeded, GateEvaluated, Verdict
from interlock.schemas.events.dead_letters import DeadLetter, Header
from interlock.schemas.events.deploy_events import (
    DeployFailed,
    RolledBack,
    RouteCause,
    RouteChanged,
    VersionDrained,
    VersionServing,
    VersionWarmed,
)
from interlock.schemas.events.model_events import (
    EndpointCreated,
    ModelCreated,
    RollbackOrdered,
    VersionApproved,
    VersionPromoted,
    VersionRegistered,
)
from interlock.schemas.events.routes import Arm, Route

__all__ = [
    "BY_SCHEMA_ID",
    "EVENTS",
    "Arm",
    "BuildFailed",
    "BuildStarted",
    "BuildSucceeded",
    "DeadLetter",
    "DeployFailed",
    "EndpointCreated",
    "Event",
    "GateEvaluated",
    "Header",
    "ModelCreated",
    "RollbackOrdered",
    "RolledBack",
    "Route",
    "RouteCause",
    "RouteChanged",
    "Verdict",
    "VersionApproved",
    "VersionDrained",
    "VersionPromoted",
    "VersionRegistered",
    "VersionServing",
    "VersionWarmed",
]

EVENTS: tuple[type[Event], ...] = (
    ModelCreated,
    VersionRegistered,
    VersionApproved,
    EndpointCreated,
    VersionPromoted,
    RollbackOrdered,
    BuildStarted,
    BuildSucceeded,
    BuildFailed,
    GateEvaluated,
    VersionWarmed,
    VersionServing,
    RouteChanged,
    RolledBack,
    VersionDrained,
    DeployFailed,
    Route,
    DeadLetter,
)
"""Every event, in the order of the schema ids."""

BY_SCHEMA_ID: dict[int, type[Event]] = {event.SCHEMA_ID: event for event in EVENTS}
"""The event that a schema id in a Confluent frame stands for."""
