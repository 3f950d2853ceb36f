"""What a process says about itself: one JSON line per decision on stderr, and spans where a collector is named."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags

from interlock.cause import valid_traceparent

EXPORT_QUEUE_SPANS_MAX = 8192
EXPORT_BATCH_SPANS_MAX = 512
EXPORT_DELAY_MILLISECONDS = 1000
EXPORT_TIMEOUT_MILLISECONDS = 3000
SPAN_LINKS_MAX = 64
REPEAT_SECONDS = 30.0
REPEATED_MESSAGES_MAX = 200
_KINDS = {kind.name.lower(): kind for kind in SpanKind}


def setup(service: str, log_level: str = "INFO") -> None:
    """Configure logs and traces of this process, once; OTLP only where OTEL_EXPORTER_OTLP_ENDPOINT is set."""
    _setup_logs(service, log_level)
    provider = TracerProvider(
        resource=Resource.create({"service.name": f"interlock-{service}", "service.namespace": "interlock"})
    )
    if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider.add_span_processor(
            BatchSpanProcessor(
                OTLPSpanExporter(timeout=EXPORT_TIMEOUT_MILLISECONDS // 1000),
                max_queue_size=EXPORT_QUEUE_SPANS_MAX,
                max_export_batch_size=EXPORT_BATCH_SPANS_MAX,
                schedule_delay_millis=EXPORT_DELAY_MILLISECONDS,
                export_timeout_millis=EXPORT_TIMEOUT_MILLISECONDS,
            )
        )
    trace.set_tracer_provider(provider)


def shutdown() -> None:
    """Send what spans are left, within the exporter's time."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.shutdown()


@contextmanager
def span(
    name: str,
    kind: str = "internal",
    traceparent: str | None = None,
    links: Iterable[str | None] = (),
    **attributes: Any,
) -> Iterator[Span]:
    """Run the body in a span: a child of `traceparent` (or of the current span), with at most SPAN_LINKS_MAX `links`.

    `kind` is internal, server, client, producer or consumer. `messaging_system=` is the attribute messaging.system;
    a name that has dots already is kept as it is.
    """
    parent = context_of(traceparent)
    context = trace.set_span_in_context(NonRecordingSpan(parent)) if parent is not None else None
    linked = [Link(found) for found in map(context_of, list(links)[:SPAN_LINKS_MAX]) if found is not None]
    named = {
        key if "." in key else key.replace("_", "."): value for key, value in attributes.items() if value is not None
    }
    tracer = trace.get_tracer("interlock")
    with tracer.start_as_current_span(
        name, context=context, kind=_KINDS[kind], links=linked, attributes=named
    ) as current:
        yield current


def current_traceparent() -> str | None:
    """Return the W3C traceparent of the span in hand, or None outside of any."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def current_trace_id() -> str | None:
    """Return the 32 hex digits of the trace in hand, or None."""
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None


def context_of(traceparent: str | None) -> SpanContext | None:
    """Return the span context a traceparent names, or None if it is absent or invalid."""
    text = valid_traceparent(traceparent)
    if text is None:
        return None
    _, trace_id, span_id, flags = text.split("-")[:4]
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))


def _setup_logs(service: str, log_level: str) -> None:
    """Bring structlog and the libraries' own loggers to the same JSON lines."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[log_level.upper()]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(default=str),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(log_level.upper())
    logging.getLogger("aiokafka").setLevel("ERROR")
    handler.addFilter(_Repetitions("aiokafka"))
    logging.getLogger("uvicorn").setLevel("WARNING")
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel("WARNING")  # they log every URL, and a URL may carry a token
    structlog.contextvars.bind_contextvars(service=service)


class _Repetitions(logging.Filter):
    """Lets one line of a library through in REPEAT_SECONDS for each message it has.

    While a broker is away aiokafka says the same for every attempt of every task: thousands of lines a minute.
    """

    def __init__(self, library: str) -> None:
        super().__init__()
        self._library = library
        self._said_at: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether the line is new enough to be worth reading."""
        if record.name.partition(".")[0] != self._library:
            return True
        said = (record.name, str(record.msg)[:100])
        if record.created - self._said_at.get(said, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return False
        if len(self._said_at) >= REPEATED_MESSAGES_MAX:
            self._said_at.clear()
        self._said_at[said] = record.created
        return True


def _add_trace(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add the ids by which a line is found from a trace and a trace from a line."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = f"{context.trace_id:032x}"
        event["span_id"] = f"{context.span_id:016x}"
    return event
