from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from interlock.kafka.partition import Taken, TopicPartition
from interlock_router.trace import LaneTraces

AT = datetime(2026, 11, 27, tzinfo=UTC)
SAMPLED = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


class Record:
    """A request whose sender traces it."""

    offset = 7
    headers = (("traceparent", SAMPLED.encode()),)


def linked(traces: LaneTraces, rows: int, at: datetime) -> int:
    """How many of a batch's sampled requests it is linked to."""
    records: list[Any] = [Record()] * rows
    return len(traces.begin([Taken(TopicPartition("fraud.requests", 0), records, rows, 0)], at)._linked)


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> LaneTraces:
    """A lane with a collector: at most 8 links a second."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    return LaneTraces("fraud", "group", 8)


def test_under_load_the_number_of_links_is_bounded_in_time(traces: LaneTraces) -> None:
    """Twenty-five batches a second of sampled requests link eight a second, whatever their size."""
    seconds = 20
    counts = [linked(traces, 100, AT + timedelta(milliseconds=40 * turn)) for turn in range(25 * seconds)]
    assert sum(counts) == 8 * seconds
    assert counts.count(8) == seconds


def test_a_light_load_links_every_sampled_request(traces: LaneTraces) -> None:
    """Seven a second are all linked, and a long rest saves nothing up."""
    assert all(linked(traces, 1, AT + timedelta(seconds=turn / 7)) == 1 for turn in range(70))
    assert linked(traces, 100, AT + timedelta(hours=1)) == 8


def test_a_clock_set_back_takes_no_room_away(traces: LaneTraces) -> None:
    """A second begins anew with it."""
    assert linked(traces, 8, AT) == 8
    assert linked(traces, 8, AT - timedelta(hours=1)) == 8


def test_without_a_collector_no_header_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing could be sent, so nothing is linked."""
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", raising=False)
    assert linked(LaneTraces("fraud", "group", 8), 4, AT) == 0
