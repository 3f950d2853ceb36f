"""The topics: their names as constants, and all that is declared about them.

Generated from schemas/ by `make generate`; not written by hand.
"""

from __future__ import annotations

from interlock.schemas.topic import Topic

AUDIT_CHECKPOINTS = "interlock.audit.checkpoints"
"""Signed heads of the audit log, for anyone to keep."""
BUILD_EVENTS = "interlock.build.events"
"""What building and gating a version yielded."""
DEPLOY_EVENTS = "interlock.deploy.events"
"""What happened to versions on their way into and out of live traffic."""
MODEL_EVENTS = "interlock.model.events"
"""What happened to models, versions, endpoints, approvals and promotions."""
MONITOR_EVENTS = "interlock.monitor.events"
"""What the monitor saw: windows closed, drift detected, guardrails breached."""
ROUTES = "interlock.routes"
"""The route of every endpoint as it stands; the newest record of a key is the truth."""
ENDPOINT_BATCHES = "{endpoint}.batches"
"""One small record for each committed batch: what the audit log keeps."""
ENDPOINT_DEAD_LETTERS = "{endpoint}.dead-letters"
"""Requests that cannot be scored, whole, with reason and coordinates."""
ENDPOINT_FEATURES = "{endpoint}.features"
"""The newest online features of every entity, fed to the lanes."""
ENDPOINT_LABELS = "{endpoint}.labels"
"""The truth about past requests, arriving late."""
ENDPOINT_OBSERVATIONS = "{endpoint}.observations"
"""What a lane tells the monitor about one batch, as columns or sketches."""
ENDPOINT_REQUESTS = "{endpoint}.requests"
"""Requests to be scored, in the Avro schema of the endpoint; the key orders them and picks the arm."""
ENDPOINT_RESULTS = "{endpoint}.results"
"""One result for each request, in its Avro schema: a score, or a rejection that names its dead letter."""
ENDPOINT_SHADOW = "{endpoint}.shadow"
"""Results of versions that answer in the shadow; nobody acts on them."""

TOPICS: tuple[Topic, ...] = (
    Topic(
        name=AUDIT_CHECKPOINTS,
        owner="auditor",
        key="log",
        partitions=1,
        config={
            "cleanup.policy": "delete",
            "retention.ms": "-1",
        },
        events=("CheckpointSigned", "WitnessLost", "WitnessReturned"),
        writers=("auditor",),
        readers=("registry", "clients"),
        compatibility="FULL_TRANSITIVE",
        template=False,
    ),
    Topic(
        name=BUILD_EVENTS,
        owner="builder",
        key="model",
        partitions=1,
        config={
            "cleanup.policy": "delete",
            "retention.ms": "-1",
        },
        events=("BuildStarted", "BuildSucceeded", "BuildFailed", "GateEvaluated"),
        writers=("builder",),
        readers=("registry", "deployer", "monitor", "auditor", "clients"),
        compatibility="FULL_TRANSITIVE",
        template=False,
    ),
    Topic(
        name=DEPLOY_EVENTS,
        owner="deployer",
        key="endpoint",
        partitions=1,
        config={
            "cleanup.policy": "delete",
            "retention.ms": "-1",
        },
        events=("VersionWarmed", "VersionServing", "RouteChanged", "RolledBack", "VersionDrained", "DeployFailed"),
        writers=("deployer",),
        readers=("registry", "monitor", "auditor", "clients"),
        compatibility="FULL_TRANSITIVE",
        template=False,
    ),
    Topic(
        name=MODEL_EVENTS,
        owner="registry",
        key="model",
        partitions=1,
        config={
            "cleanup.policy": "delete",
            "retention.ms": "-1",
        },
        events=(
            "ModelCreated",
            "VersionRegistered",
            "VersionApproved",
            "EndpointCreated",
            "VersionPromoted",
            "RollbackOrdered",
        ),
        writers=("registry",),
        readers=("builder", "deployer", "auditor", "clients"),
        compatibility="FULL_TRANSITIVE",
        template=False,
    ),
    Topic(
        name=MONITOR_EVENTS,
        owner="monitor",
        key="endpoint",
        partitions=1,
        config={
            "cleanup.policy": "delete",
            "retention.ms": "-1",
        },
        events=("WindowClosed", "DriftDetected", "DriftCleared", "QualityMeasured"),
        writers=("monitor",),
        readers=("registry", "deployer", "auditor", "clients"),
        compatibility="FULL_TRANSITIVE",
        template=False,
    ),
    Topic(
        name=ROUTES,
        owner="deployer",
        key="endpoint",
        partitions=1,
        config={
            "cleanup.policy": "compact",
            "segment.bytes": "16777216",
            "segment.ms": "3600000",
            "min.cleanable.dirty.ratio": "0.1",
            "max.compaction.lag.ms": "86400000",
            "delete.retention.ms": "86400000",
        },
        events=("Route",),
        writers=("deployer",),
        readers=("router", "monitor", "auditor"),
        compatibility="FULL_TRANSITIVE",
        template=False,
    ),
    Topic(
        name=ENDPOINT_BATCHES,
        owner="router",
        key="endpoint",
        partitions=0,
        config={
            "cleanup.policy": "delete",
            "retention.ms": "-1",
        },
        events=("BatchAnswered",),
        writers=("router",),
        readers=("auditor", "clients"),
        compatibility="FULL_TRANSITIVE",
        template=True,
    ),
    Topic(
        name=ENDPOINT_DEAD_LETTERS,
        owner="router",
        key="name",
        partitions=0,
        config={
            "cleanup.policy": "delete",
            "retention.ms": "2592000000",
            "max.message.bytes": "17825792",
        },
        events=("DeadLetter",),
        writers=("router",),
        readers=("clients", "auditor"),
        compatibility="FULL_TRANSITIVE",
        template=True,
    ),
    Topic(
        name=ENDPOINT_FEATURES,
        owner="router",
        key="entity",
        partitions=0,
        config={
            "cleanup.policy": "compact",
        },
        events=("FeatureUpdated",),
        writers=("clients",),
        readers=("router",),
        compatibility="FULL_TRANSITIVE",
        template=True,
    ),
    Topic(
        name=ENDPOINT_LABELS,
        owner="registry",
        key="request_id",
        partitions=0,
        config={
            "cleanup.policy": "delete",
            "retention.ms": "7776000000",
            "message.timestamp.type": "LogAppendTime",
        },
        events=("LabelRecorded",),
        writers=("clients",),
        readers=("monitor", "auditor"),
        compatibility="FULL_TRANSITIVE",
        template=True,
    ),
    Topic(
        name=ENDPOINT_OBSERVATIONS,
        owner="router",
        key="endpoint",
        partitions=0,
        config={
            "cleanup.policy": "delete",
            "retention.ms": "259200000",
            "max.message.bytes": "4194304",
        },
        events=("Observation",),
        writers=("router",),
        readers=("monitor",),
        compatibility="FULL_TRANSITIVE",
        template=True,
    ),
    Topic(
        name=ENDPOINT_REQUESTS,
        owner="registry",
        key="any",
        partitions=0,
        config={
            "cleanup.policy": "delete",
            "retention.ms": "604800000",
            "max.message.bytes": "16777216",
        },
        events=(),
        writers=("clients",),
        readers=("router", "auditor", "clients"),
        compatibility="BACKWARD_TRANSITIVE",
        template=True,
    ),
    Topic(
        name=ENDPOINT_RESULTS,
        owner="router",
        key="any",
        partitions=0,
        config={
            "cleanup.policy": "delete",
            "retention.ms": "604800000",
        },
        events=(),
        writers=("router",),
        readers=("clients", "auditor", "monitor"),
        compatibility="FULL_TRANSITIVE",
        template=True,
    ),
    Topic(
        name=ENDPOINT_SHADOW,
        owner="router",
        key="any",
        partitions=0,
        config={
            "cleanup.policy": "delete",
            "retention.ms": "259200000",
        },
        events=(),
        writers=("router",),
        readers=("monitor", "auditor"),
        compatibility="FULL_TRANSITIVE",
        template=True,
    ),
)
"""Every topic; the templates stand for one topic per endpoint."""
