"""CloudEvents in Kafka headers, binary mode: who said what, when, and because of what.

Source: CloudEvents Kafka protocol binding 1.0, and its distributed-tracing extension. The value stays framed Avro.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from interlock.cause import valid_traceparent

SPECIFICATION_VERSION = "1.0"
CONTENT_TYPE = "application/avro"
Headers = list[tuple[str, bytes]]


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """What the headers of a record say; every field may be missing, for foreign producers may leave it out."""

    id: str | None = None
    source: str | None = None
    type: str | None = None
    time: str | None = None
    subject: str | None = None
    traceparent: str | None = None
    """The hop's trace context (`traceparent`), or else the origin's (`ce_traceparent`)."""
    correlation_id: str | None = None
    causation_id: str | None = None
    actor: str | None = None


def cloudevents(
    event_type: str,
    *,
    event_id: str,
    source: str,
    at: datetime,
    subject: str | None = None,
    traceparent: str | None = None,
    correlation_id: str | None = None,
    causation_id: str | None = None,
    actor: str | None = None,
    dataschema: str | None = None,
) -> Headers:
    """Return the headers of one event in a fixed order; `at` is aware, `source` is like `/interlock/registry`."""
    if at.tzinfo is None:
        raise ValueError("an event's time must be aware")
    fields = {
        "content-type": CONTENT_TYPE,
        "ce_specversion": SPECIFICATION_VERSION,
        "ce_id": event_id,
        "ce_source": source,
        "ce_type": event_type,
        "ce_time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "ce_subject": subject,
        "ce_dataschema": dataschema,
        "ce_correlationid": correlation_id,
        "ce_causationid": causation_id,
        "ce_actor": actor,
        "ce_traceparent": traceparent,
        "traceparent": traceparent,
    }
    return [(name, value.encode("utf-8")) for name, value in fields.items() if value]


def parse(headers: Iterable[tuple[str, bytes | None]]) -> Envelope:
    """Return what a record's headers say. Of a name given twice the last wins; text that is not UTF-8 is ignored."""
    found = {name.lower(): text for name, value in headers if (text := _text(value)) is not None}
    return Envelope(
        id=found.get("ce_id"),
        source=found.get("ce_source"),
        type=found.get("ce_type"),
        time=found.get("ce_time"),
        subject=found.get("ce_subject"),
        traceparent=valid_traceparent(found.get("traceparent")) or valid_traceparent(found.get("ce_traceparent")),
        correlation_id=found.get("ce_correlationid"),
        causation_id=found.get("ce_causationid"),
        actor=found.get("ce_actor"),
    )


def _text(value: bytes | None) -> str | None:
    """Return a header's text, or None where there is none to be had."""
    try:
        return value.decode("utf-8") if value else None
    except UnicodeDecodeError:
        return None
