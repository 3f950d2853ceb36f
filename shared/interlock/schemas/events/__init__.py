"""All events, by name and by schema id.

Generated from schemas/ by `make generate`; not written by hand.
"""

from __future__ import annotations

from interlock.schemas.event import Event
from interlock.schemas.events.audit_checkpoints import CheckpointSigned, WitnessLost, WitnessReturned
from interlock.schemas.events.batches import AnsweredBy, BatchAnswered
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
from interlock.schemas.events.features import FeatureUpdated
from interlock.schemas.events.labels import LabelRecorded
from interlock.schemas.events.model_events import (
    EndpointCreated,
    ModelCreated,
    RollbackOrdered,
    VersionApproved,
    VersionPromoted,
    VersionRegistered,
)
from interlock.schemas.events.monitor_events import (
    DriftCleared,
    DriftDetected,
    FeatureDrift,
    QualityMeasured,
    StageLatency,
    WindowClosed,
)
from interlock.schemas.events.observations import FeatureSketch, Observation, ObservedGroup, ObservedRejection
from interlock.schemas.events.routes import Arm, Route

__all__ = [
    "BY_SCHEMA_ID",
    "EVENTS",
    "AnsweredBy",
    "Arm",
    "BatchAnswered",
    "BuildFailed",
    "BuildStarted",
    "BuildSucceeded",
    "CheckpointSigned",
    "DeadLetter",
    "DeployFailed",
    "DriftCleared",
    "DriftDetected",
    "EndpointCreated",
    "Event",
    "FeatureDrift",
    "FeatureSketch",
    "FeatureUpdated",
    "GateEvaluated",
    "Header",
    "LabelRecorded",
    "ModelCreated",
    "Observation",
    "ObservedGroup",
    "ObservedRejection",
    "QualityMeasured",
    "RollbackOrdered",
    "RolledBack",
    "Route",
    "RouteCause",
    "RouteChanged",
    "StageLatency",
    "Verdict",
    "VersionApproved",
    "VersionDrained",
    "VersionPromoted",
    "VersionRegistered",
    "VersionServing",
    "VersionWarmed",
    "WindowClosed",
    "WitnessLost",
    "WitnessReturned",
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
    Observation,
    BatchAnswered,
    LabelRecorded,
    FeatureUpdated,
    WindowClosed,
    DriftDetected,
    DriftCleared,
    QualityMeasured,
    CheckpointSigned,
    WitnessLost,
    WitnessReturned,
)
"""Every event, in the order of the schema ids."""

BY_SCHEMA_ID: dict[int, type[Event]] = {event.SCHEMA_ID: event for event in EVENTS}
"""The event that a schema id in a Confluent frame stands for."""
