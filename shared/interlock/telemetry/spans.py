"""Spans: in a block, from one task to another, or after the fact; and the W3C context that goes from hop to hop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
)

from interlock import semconv
from interlock.cause import valid_traceparent

SPAN_LINKS_MAX = 64
_KINDS = {kind.name.lower(): kind for kind in SpanKind}
_TRACER = trace.get_tracer("interlock", schema_url=semconv.SCHEMA_URL)  # a stand-in until the provider is set
_FLAGS_AT = 53  # where the flags begin in `00-<32>-<16>-<2>`


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
    a name that has dots already is kept as it is. An error that leaves the body is noted with its type.
    """
    named = {key if "." in key else key.replace("_", "."): value for key, value in attributes.items()}
    current = begin(name, kind, traceparent, links, named)
    with trace.use_span(current, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield current
        except Exception as error:
            failed(current, error)
            raise


@contextmanager
def inner(name: str, kind: str = "internal", **attributes: Any) -> Iterator[Span]:
    """Run the body in a child of the current span, where that is recorded; outside of any, or unsampled, in none.

    For what happens so often that it should never begin a trace: a database transaction, a call to a neighbour.
    """
    if not trace.get_current_span().is_recording():
        yield INVALID_SPAN
        return
    with span(name, kind, **attributes) as current:
        yield current


@contextmanager
def calling(method: str, host: str, port: int | None, route: str) -> Iterator[dict[str, str]]:
    """Run an HTTP request in a span of its own; yields the headers that carry the trace, none where it is not recorded.

    `route` is the path's template: `/schemas/ids/{id}`, and not a path with an id in it.
    """
    title, attributes = semconv.http_client(method, host, port, route)
    with inner(title, "client", **attributes):
        traceparent = recorded_traceparent()
        yield {} if traceparent is None else {"traceparent": traceparent}


def begin(
    name: str,
    kind: str = "internal",
    traceparent: str | None = None,
    links: Iterable[str | None] = (),
    attributes: Mapping[str, Any] | None = None,
    started_at: int | None = None,
) -> Span:
    """Return a span that the caller ends, and that is current nowhere; `started_at` is in nanoseconds since 1970."""
    parent = context_of(traceparent)
    return _TRACER.start_span(
        name,
        context=trace.set_span_in_context(NonRecordingSpan(parent)) if parent is not None else None,
        kind=_KINDS[kind],
        links=[Link(found) for found in map(context_of, list(links)[:SPAN_LINKS_MAX]) if found is not None],
        attributes={key: value for key, value in (attributes or {}).items() if value is not None},
        start_time=started_at,
        record_exception=False,
        set_status_on_exception=False,
    )


def within(current: Span) -> AbstractContextManager[Span]:
    """Return what makes a span the current one for a block, and does not end it."""
    return trace.use_span(current, end_on_exit=False, record_exception=False, set_status_on_exception=False)


def failed(current: Span, error: BaseException | str) -> None:
    """Mark a span as failed, by the type of its error: messages may hold what is not to leave the process."""
    kind = error if isinstance(error, str) else type(error).__name__
    current.set_attribute(semconv.ERROR_TYPE, kind)
    current.set_status(Status(StatusCode.ERROR, kind))


def traceparent_of(current: Span) -> str | None:
    """Return the W3C traceparent of a span, or None if it is no real one."""
    context = current.get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 0xFF:02x}"


def current_traceparent() -> str | None:
    """Return the W3C traceparent of the span in hand, or None outside of any."""
    return traceparent_of(trace.get_current_span())


def recorded_traceparent() -> str | None:
    """Return the traceparent of the span in hand if it is recorded: what is worth sending to a neighbour."""
    current = trace.get_current_span()
    return traceparent_of(current) if current.is_recording() else None


def current_trace_id() -> str | None:
    """Return the 32 hex digits of the trace in hand, or None."""
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None


def exemplar() -> dict[str, str] | None:
    """Return the exemplar of a measurement: the trace in hand if it is recorded, so that it can be found."""
    current = trace.get_current_span()
    return {"trace_id": f"{current.get_span_context().trace_id:032x}"} if current.is_recording() else None


def context_of(traceparent: str | None) -> SpanContext | None:
    """Return the span context a traceparent names, or None if it is absent or invalid."""
    text = valid_traceparent(traceparent)
    if text is None:
        return None
    _, trace_id, span_id, flags = text.split("-")[:4]
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))


def is_sampled(traceparent: str | bytes | None) -> bool:
    """Say whether a traceparent asks to be recorded (its last flag); rubbish does not."""
    if not traceparent:
        return False
    try:
        return bool(int(traceparent[_FLAGS_AT : _FLAGS_AT + 2], 16) & TraceFlags.SAMPLED)
    except ValueError:
        return False
