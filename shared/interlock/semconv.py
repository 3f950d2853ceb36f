"""The names of spans and of their attributes: one place, because those of messaging and CI/CD still change.

Source: OpenTelemetry semantic conventions 1.44 (messaging, Kafka, database, HTTP, RPC, CI/CD, feature flags). What
the conventions have no name for stands under `interlock.`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"

Attributes = dict[str, Any]

SERVICE_NAME: Final = "service.name"
SERVICE_NAMESPACE: Final = "service.namespace"
SERVICE_VERSION: Final = "service.version"
SERVICE_INSTANCE: Final = "service.instance.id"
ERROR_TYPE: Final = "error.type"
HTTP_ROUTE: Final = "http.route"
HTTP_STATUS: Final = "http.response.status_code"
BATCH_ROWS: Final = "messaging.batch.message_count"
OFFSET: Final = "messaging.kafka.offset"
VARIANT: Final = "feature_flag.result.variant"
PIPELINE_RESULT: Final = "cicd.pipeline.result"

EVENT: Final = "interlock.event"
ENDPOINT: Final = "interlock.endpoint"
MODEL: Final = "interlock.model"
VERSION: Final = "interlock.version"
DIGEST: Final = "interlock.digest"
ROWS: Final = "interlock.rows"
REJECTED: Final = "interlock.rows.rejected"
OFFSET_NEXT: Final = "interlock.offset.next"


def messaging(
    operation: str,
    kind: str,
    topic: str,
    *,
    partition: int | None = None,
    offset: int | None = None,
    group: str | None = None,
    rows: int | None = None,
    message_id: str | None = None,
    key: str | None = None,
) -> tuple[str, Attributes]:
    """Return name and attributes of a span about Kafka.

    `kind` is the operation's type: create, send, receive, process or settle; `operation` is our word for it.
    """
    named = {
        "messaging.system": "kafka",
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
        "messaging.destination.name": topic,
        "messaging.destination.partition.id": None if partition is None else str(partition),
        OFFSET: offset,
        "messaging.consumer.group.name": group,
        BATCH_ROWS: rows,
        "messaging.message.id": message_id,
        "messaging.kafka.message.key": key,
    }
    return f"{operation} {topic}", _given(named)


def database(operation: str, *, namespace: str | None = None) -> tuple[str, Attributes]:
    """Return name and attributes of a span about PostgreSQL; `operation` is of low cardinality and no SQL text."""
    named = {
        "db.system.name": "postgresql",
        "db.namespace": namespace,
        "db.operation.name": operation,
        "db.query.summary": operation,
    }
    return operation if namespace is None else f"{operation} {namespace}", _given(named)


def http_server(method: str, path: str, scheme: str) -> tuple[str, Attributes]:
    """Return name and attributes of a request that is answered; the route is known, and set, only afterwards."""
    return method, {"http.request.method": method, "url.path": path, "url.scheme": scheme}


def http_client(method: str, host: str, port: int | None, route: str) -> tuple[str, Attributes]:
    """Return name and attributes of a request that is made; `route` is the template of the path, without ids."""
    named = {"http.request.method": method, "server.address": host, "server.port": port, "url.template": route}
    return f"{method} {route}", _given(named)


def call(application: str, method: str = "score") -> tuple[str, Attributes]:
    """Return name and attributes of a call over a Ray Serve handle, on either side of it."""
    return f"{method} {application}", {"rpc.system.name": "ray_serve", "rpc.method": f"{application}/{method}"}


def pipeline(name: str, action: str, run: str) -> tuple[str, Attributes]:
    """Return name and attributes of one run of a pipeline: a build, a deployment."""
    named = {"cicd.pipeline.name": name, "cicd.pipeline.action.name": action, "cicd.pipeline.run.id": run}
    return f"{action} {name}", named


def version(model: str, number: int, digest: str | None = None, endpoint: str | None = None) -> Attributes:
    """Return the attributes that name a version; on an endpoint also as the feature flag it decides."""
    named = _given({MODEL: model, VERSION: number, DIGEST: digest})
    return named if endpoint is None else named | answered(endpoint, (number,))


def answered(endpoint: str, versions: Iterable[int]) -> Attributes:
    """Return the attributes that say which versions answer an endpoint: of a feature flag, its variants."""
    return {
        ENDPOINT: endpoint,
        "feature_flag.key": endpoint,
        "feature_flag.provider.name": "interlock",
        VARIANT: ",".join(map(str, versions)),
    }


def _given(named: Attributes) -> Attributes:
    return {name: value for name, value in named.items() if value is not None}
