"""Every metric the platform exposes: a closed list of names, a sentence each."""

from __future__ import annotations

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROWS = (1, 4, 16, 64, 256, 512, 1024, 2048, 4096, 8192)

# Control plane
EVENTS_CONSUMED = Counter(
    "interlock_events_consumed", "Control events taken from Kafka, by what became of them.", ["topic", "outcome"]
)
EVENT_SECONDS = Histogram(
    "interlock_event_seconds",
    "Time to handle one control event, its transaction included.",
    ["topic"],
    buckets=_SECONDS,
)
CONSUMER_LAG = Gauge("interlock_consumer_lag", "Control events written and not yet handled.", ["topic", "partition"])
EVENTS_PUBLISHED = Counter("interlock_events_published", "Control events the outbox relay brought to Kafka.", ["topic"])
OUTBOX_WAITING = Gauge("interlock_outbox_waiting", "Outbox rows not yet published.")
OUTBOX_OLDEST_SECONDS = Gauge("interlock_outbox_oldest_seconds", "Age of the oldest outbox row not yet published.")
COMMANDS_REPLAYED = Counter("interlock_commands_replayed", "Commands answered from memory because their key was known.")
LEASE_EPOCH = Gauge(
    "interlock_lease_epoch", "The epoch this process holds of a lease; 0 when it holds none.", ["lease"]
)
LOOP_RESTARTS = Counter(
    "interlock_loop_restarts", "Times a background loop was begun again after a passing failure.", ["loop"]
)
HTTP_REQUESTS = Counter("interlock_http_requests", "HTTP requests answered.", ["method", "route", "status"])
HTTP_SECONDS = Histogram(
    "interlock_http_request_seconds", "Time to answer an HTTP request.", ["method", "route"], buckets=_SECONDS
)
SPANS_EXPORTED = Counter("interlock_spans_exported", "Spans that the collector of traces took.")
SPANS_DROPPED = Counter(
    "interlock_spans_dropped", "Sampled spans that reached no collector, by what stopped them.", ["cause"]
)

# Builder and deployer
BUILDS = Counter("interlock_builds", "Builds finished, by verdict.", ["verdict"])
BUILD_SECONDS = Histogram(
    "interlock_build_seconds", "Time a build took.", buckets=(1, 2.5, 5, 10, 30, 60, 120, 300, 600)
)
APPLICATIONS = Gauge("interlock_applications", "Serve applications the deployer keeps up.", ["state"])
ROUTE_EPOCH = Gauge("interlock_route_epoch", "The epoch of the route in force.", ["endpoint"])

# Data plane
LANE_ROWS = Counter(
    "interlock_lane_rows", "Requests answered, by version and outcome.", ["endpoint", "version", "outcome"]
)
SHADOW_ROWS = Counter(
    "interlock_shadow_rows",
    "Requests copied to versions that answer nobody: answered, failed, or shed for want of time.",
    ["endpoint", "version", "outcome"],
)
LANE_BATCH_ROWS = Histogram("interlock_lane_batch_rows", "Rows in one lane batch.", ["endpoint"], buckets=_ROWS)
LANE_SECONDS = Histogram(
    "interlock_lane_seconds", "Time of one stage of a lane batch.", ["endpoint", "stage"], buckets=_SECONDS
)
LANE_LAG = Gauge("interlock_lane_lag", "Requests written and not yet answered.", ["endpoint", "partition"])
LANE_RESTARTS = Counter(
    "interlock_lane_restarts", "Times a lane began again from its committed offset.", ["endpoint", "cause"]
)
FEATURES_BATCHES = Counter(
    "interlock_features_batches",
    "Look-ups of batches' online features: read, away, or rested after failures.",
    ["endpoint", "outcome"],
)
FEATURES_FED = Counter(
    "interlock_features_fed",
    "Records of online features taken from Kafka, by what became of them.",
    ["endpoint", "outcome"],
)
FEATURES_LAG = Gauge(
    "interlock_features_lag", "Records of online features not yet in the store.", ["endpoint", "partition"]
)
FEATURES_REFILLS = Counter(
    "interlock_features_refills", "Times the store of online features was found flushed or older.", ["endpoint"]
)
DEAD_LETTERS = Counter("interlock_dead_letters", "Requests that became dead letters.", ["endpoint", "reason"])

# The audit log
AUDIT_ENTRIES = Gauge("interlock_audit_entries", "Entries of the audit log.")
AUDIT_WITNESSED = Gauge("interlock_audit_witnessed", "Entries of the audit log that the witness has signed.")
AUDIT_LAG = Gauge("interlock_audit_lag", "Offsets of the audited topics not yet entered.")
AUDIT_GAPS = Counter("interlock_audit_gaps", "Stretches of audited topics that are missing.", ["topic"])

# Monitor
MONITOR_ROWS = Counter("interlock_monitor_rows", "Requests counted in windows.", ["endpoint"])
MONITOR_RECORDS = Counter(
    "interlock_monitor_records", "Observations and labels read, by what became of them.", ["topic", "outcome"]
)
MONITOR_GAPS = Counter(
    "interlock_monitor_gaps",
    "Stretches of requests that no observation covers, or two.",
    ["endpoint", "kind"],
)
MONITOR_LAG = Gauge("interlock_monitor_lag", "Offsets written and not yet read.", ["topic", "partition"])
MONITOR_FLUSH_SECONDS = Histogram(
    "interlock_monitor_flush_seconds", "Time to bring one chunk to Postgres.", buckets=_SECONDS
)
MONITOR_WINDOWS_CLOSED = Counter(
    "interlock_monitor_windows_closed", "Windows told, by whether for the first time.", ["endpoint", "revision"]
)
MONITOR_DRIFT = Gauge(
    "interlock_monitor_drift", "1 while a version's alarm is on.", ["endpoint", "model", "version", "arm"]
)
MONITOR_STREAM_RESTARTS = Counter(
    "interlock_monitor_stream_restarts", "Times the stream began again from what Postgres holds.", ["cause"]
)


def exposition(accept: str = "") -> tuple[bytes, str]:
    """Return all metrics and their media type: Prometheus' text format, or OpenMetrics where `accept` asks for it.

    Only OpenMetrics has exemplars: of a slow observation, the trace to look at.
    """
    encode, media_type = choose_encoder(accept)
    return encode(REGISTRY), media_type
