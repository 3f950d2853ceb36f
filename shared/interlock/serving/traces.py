"""The spans of a replica: its part of the caller's trace, where Ray's workers are told of a collector."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from interlock import semconv, telemetry
from interlock.ids import application_name


class ReplicaTraces:
    """Goes on with the traces that callers record. Without a collector OpenTelemetry's SDK is not even loaded."""

    def __init__(self, model: str, version: int, digest: str) -> None:
        self._title, called = semconv.call(application_name(model, version, digest))
        self._attributes = called | semconv.version(model, version, digest)
        self._sends = telemetry.has_collector()
        if self._sends:
            telemetry.setup_traces("replica")

    def span(self, traceparent: str | None, rows: int) -> AbstractContextManager[Any]:
        """Return the span around scoring `rows` rows, a child of the call; without `traceparent` none."""
        if traceparent is None or not self._sends:
            return nullcontext()
        attributes = self._attributes | {semconv.ROWS: rows}
        return telemetry.span(self._title, "server", traceparent, **attributes)
