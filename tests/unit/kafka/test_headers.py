"""CloudEvents in Kafka headers, binary mode."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from interlock.cause import Cause, valid_traceparent
from interlock.kafka.headers import cloudevents, parse

AT = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


def _headers() -> list[tuple[str, bytes]]:
    return cloudevents(
        "io.interlock.model_created.v1",
        event_id="id-1",
        source="/interlock/registry",
        at=AT,
        subject="fraud",
        traceparent=TRACE,
        correlation_id="c-1",
        causation_id="e-0",
        actor="ada",
    )


def test_the_binary_mode_is_as_the_specification_says() -> None:
    """Required attributes, `ce_` before each but content-type, RFC 3339 time, UTF-8, no name twice."""
    headers = _headers()
    named = dict(headers)
    assert len(named) == len(headers)
    assert named["ce_specversion"] == b"1.0"
    assert named["ce_id"] == b"id-1"
    assert named["ce_source"] == b"/interlock/registry"
    assert named["ce_type"] == b"io.interlock.model_created.v1"
    assert named["ce_time"] == b"2026-01-02T03:04:05.678Z"
    assert named["content-type"] == b"application/avro"
    assert named["traceparent"] == named["ce_traceparent"] == TRACE.encode()
    for name in named:
        assert name in ("content-type", "traceparent") or re.fullmatch(r"ce_[a-z0-9]{1,20}", name)


def test_what_was_written_is_read_again() -> None:
    """All fields of the envelope."""
    envelope = parse(_headers())
    assert (envelope.id, envelope.type, envelope.subject) == ("id-1", "io.interlock.model_created.v1", "fraud")
    assert (envelope.correlation_id, envelope.causation_id, envelope.actor) == ("c-1", "e-0", "ada")
    assert envelope.traceparent == TRACE


def test_headers_of_strangers_are_taken_as_they_are() -> None:
    """None at all, upper case, a name twice (the last wins), bytes that are no text, a null."""
    assert parse([]).id is None
    found = parse([("CE_ID", b"one"), ("ce_id", b"two"), ("ce_type", b"\xff\xfe"), ("ce_source", None)])
    assert (found.id, found.type, found.source) == ("two", None, None)


def test_a_bad_traceparent_falls_back_to_the_origins() -> None:
    """The hop's is used if it is valid, else the event's own, else none."""
    assert parse([("traceparent", b"rubbish"), ("ce_traceparent", TRACE.encode())]).traceparent == TRACE
    assert parse([("traceparent", b"rubbish")]).traceparent is None


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "rubbish",
        "00-" + "0" * 32 + "-" + "b" * 16 + "-01",
        "00-" + "a" * 32 + "-" + "0" * 16 + "-01",
        "ff-" + "a" * 32 + "-" + "b" * 16 + "-01",
        TRACE.upper(),
    ],
)
def test_an_invalid_traceparent_begins_a_new_trace(text: str | None) -> None:
    """All-zero ids, version ff, upper case: invalid by W3C Trace Context."""
    assert valid_traceparent(text) is None
    assert Cause.start("ada", text).traceparent is None


def test_a_later_version_of_traceparent_is_read() -> None:
    """Unknown versions may carry more fields behind the four that are known."""
    assert valid_traceparent("01-" + TRACE[3:] + "-more") is not None


def test_a_naive_time_is_refused() -> None:
    """An event's time has a zone."""
    with pytest.raises(ValueError, match="aware"):
        cloudevents("t", event_id="i", source="/s", at=datetime(2026, 1, 2))  # noqa: DTZ001 - the fault under test
