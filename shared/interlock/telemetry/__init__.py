"""What a process says about itself: one JSON line per decision on stderr, and spans where a collector is named."""

from __future__ import annotations

import os

from opentelemetry import trace

from interlock.telemetry.spans import (
    begin,
    calling,
    context_of,
    current_trace_id,
    current_traceparent,
    exemplar,
    failed,
    inner,
    is_sampled,
    recorded_traceparent,
    span,
    traceparent_of,
    within,
)

__all__ = [
    "begin",
    "calling",
    "context_of",
    "current_trace_id",
    "current_traceparent",
    "exemplar",
    "failed",
    "has_collector",
    "inner",
    "is_sampled",
    "recorded_traceparent",
    "setup",
    "setup_traces",
    "shutdown",
    "span",
    "traceparent_of",
    "within",
]


def setup(service: str, log_level: str = "INFO") -> None:
    """Configure logs and traces of this process, once; OTLP only where OTEL_EXPORTER_OTLP_ENDPOINT is set."""
    from interlock.telemetry.logs import setup_logs

    setup_logs(service, log_level)
    setup_traces(service)


def setup_traces(service: str) -> None:
    """Configure the traces of this process, once, and leave its logs as they are."""
    from interlock.telemetry import export

    trace.set_tracer_provider(export.provider(service, sending=has_collector()))


def has_collector() -> bool:
    """Say whether a collector is named, and traces are not switched off: otherwise no span goes anywhere."""
    named = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    return bool(named) and os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() != "none"


def shutdown() -> None:
    """Send what spans are left, within the exporter's time."""
    from opentelemetry.sdk.trace import TracerProvider

    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.shutdown()
