"""What the monitor counts is what was committed, each request once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from interlock.codec import rows
from tests.integration.monitor.rig import (
    BASE,
    WINDOW,
    Feed,
    Room,
    closed,
    counted,
    endpoint_name,
    rows_of,
    sample,
    until,
)

pytestmark = pytest.mark.timeout(240)

HOUR = 3_600_000


def start_of(window: dict[str, Any]) -> int:
    """Return when a window begins, in milliseconds."""
    return round(datetime.fromisoformat(window["window_start"]).timestamp() * 1000)


async def test_windows_equal_a_batch_recomputation(room: Room) -> None:
    """Two partitions, two versions, rejections: counts are exact, quantiles within their bounds, all windows close."""
    chance = np.random.default_rng(3)
    async with Feed(room.settings, endpoint_name()) as feed:
        await feed.route()
        for number in range(24):
            times = BASE + number * 700 + np.sort(chance.integers(0, 700, 50))
            await feed.batch(number % 2, times, sample(number, 50), version=1 + number % 3 // 2, rejected=number % 4)
        monitor = await room.start()
        try:
            await counted(monitor, feed)
            windows = await closed(monitor, feed)
            for each in windows:
                assert each["late_rows"] == 0 and each["revision"] == 1 and each["evidence"] == "no_reference"
                expected = feed.expected()[each["version"], each["arm"], start_of(each)]
                exact = float(np.quantile(expected["total"], 0.99, method="inverted_cdf"))
                assert each["latency_milliseconds"]["total"]["p99"] == pytest.approx(exact, rel=0.02)
                spread = await monitor.answer(
                    f"{feed.endpoint}/windows/{each['window_start']}/features?version={each['version']}"
                )
                values = np.concatenate(expected["features"])
                for place, column in enumerate(spread["versions"][0]["features"]):
                    assert column["count"] == each["rows"] and column["missing"] == 0
                    assert column["mean"] == pytest.approx(float(values[:, place].mean()), rel=1e-12)
                    rank = float((values[:, place] <= column["quantiles"]["0.5"]).mean())
                    assert abs(rank - 0.5) <= 0.01 + 1 / len(values)
            assert await monitor.stop() == 0
        finally:
            await monitor.stop()


async def test_what_was_aborted_is_not_counted(room: Room) -> None:
    """Faust reads aborted records by itself: a batch written and aborted between two others is in no window."""
    async with Feed(room.settings, endpoint_name(), partitions=1) as feed:
        await feed.route()
        for commit in (True, False, True, False, True):
            rows_told = 10 if commit else 25  # so that one counted in place of the other would show
            await feed.batch(0, BASE + np.arange(rows_told), sample(1, rows_told), commit=commit)
        monitor = await room.start()
        try:
            (window,) = await counted(monitor, feed)
            assert window["rows"] == 30
        finally:
            await monitor.stop()


async def test_late_rows_make_a_revision(room: Room) -> None:
    """A request from behind belongs to its old window, which is told again; a clock from tomorrow counts as now."""
    async with Feed(room.settings, endpoint_name(), partitions=1) as feed:
        await feed.route()
        await feed.batch(0, BASE + np.arange(100), sample(1, 100))
        monitor = await room.start()
        try:
            await counted(monitor, feed)
            (first,) = await closed(monitor, feed)
            assert (first["revision"], first["rows"], first["late_rows"]) == (1, 100, 0)
            later = BASE + HOUR
            await feed.batch(0, np.array([BASE + 7, BASE + 8, later, later + 2 * HOUR]), sample(2, 4), scored_at=later)
            await counted(monitor, feed)

            async def revised() -> bool:
                old, new = await closed(monitor, feed)
                return bool(old["revision"] == 2 and new["revision"] == 1)

            await until(revised)
            old, new = await closed(monitor, feed)
            assert (old["rows"], old["late_rows"]) == (102, 2)
            assert (new["rows"], new["late_rows"], start_of(new)) == (2, 0, later // WINDOW * WINDOW)
            told = await room.fetch("SELECT event FROM journal WHERE type LIKE '%window_closed%' ORDER BY position")
            assert len(told) == 3
        finally:
            await monitor.stop()


async def test_bad_bytes_are_left_out_and_hold_nothing_up(room: Room) -> None:
    """Noise, a tombstone, another event, an observation of another endpoint: skipped; what follows is counted."""
    async with (
        Feed(room.settings, endpoint_name(), partitions=1) as feed,
        Feed(room.settings, endpoint_name()) as other,
    ):
        await feed.route()
        await other.batch(0, BASE + np.arange(3), sample(1, 3))
        await feed.batch(0, BASE + np.arange(10), sample(1, 10))
        stranger = rows.encode(_label(feed.endpoint))
        for value in (b"noise", None, b"", stranger, b"\x00\x00\x00\x00\x13" + b"\xff" * 40):
            await feed.raw("observations", value)
            await feed.raw("labels", value if value is not stranger else b"\x00\x00\x00\x00\x13")
        await feed.batch(0, BASE + np.arange(10), sample(1, 10))
        monitor = await room.start()
        try:
            (window,) = await counted(monitor, feed)
            assert window["rows"] == 20
            metrics = (await monitor.ask("/metrics")).text
            assert (
                f'interlock_monitor_records_total{{outcome="poisoned",topic="{feed.endpoint}.observations"}} 5.0'
                in metrics
            )
        finally:
            await monitor.stop()


def _label(endpoint: str) -> Any:
    from interlock.schemas.events import LabelRecorded

    at = datetime.now(UTC)
    return LabelRecorded(endpoint=endpoint, request_id="x", requested_at=at, label=1.0, source="t", at=at)


async def test_a_gap_is_said_and_not_waited_for(room: Room) -> None:
    """Requests that no observation covers: the monitor looks again, says so in metric and coverage, and goes on."""
    async with Feed(room.settings, endpoint_name(), partitions=1) as feed:
        await feed.route()
        await feed.batch(0, BASE + np.arange(10), sample(1, 10))
        await feed.batch(0, BASE + np.arange(10), sample(2, 10), skip=7)
        await feed.batch(0, BASE + np.arange(10), sample(3, 10))
        monitor = await room.start()
        try:
            await counted(monitor, feed)
            coverage = await monitor.answer(f"{feed.endpoint}/coverage")
            (requests,) = coverage["requests"]
            assert (requests["first_offset"], requests["next_offset"], requests["rows"]) == (0, 37, 30)
            (gap,) = requests["gaps"]
            assert (gap["kind"], gap["from_offset"], gap["next_offset"]) == ("missing", 10, 17)
            metrics = (await monitor.ask("/metrics")).text
            assert f'interlock_monitor_gaps_total{{endpoint="{feed.endpoint}",kind="missing"}} 1.0' in metrics
            assert 'interlock_monitor_stream_restarts_total{cause="Reread"} 1.0' in metrics
        finally:
            await monitor.stop()


async def test_a_batch_told_twice_is_counted_once(room: Room) -> None:
    """An observation of requests that are covered already is left out, whole or in part, and never silently."""
    async with Feed(room.settings, endpoint_name(), partitions=1) as feed:
        await feed.route()
        await feed.batch(0, BASE + np.arange(10), sample(1, 10))
        for back in (10, 5):
            feed.offsets[0] -= back
            await feed.batch(0, BASE + np.arange(10), sample(1, 10))
            feed.batches.pop()
        await feed.batch(0, BASE + np.arange(10), sample(1, 10))
        monitor = await room.start()
        try:
            (window,) = await counted(monitor, feed)
            assert window["rows"] == 20 == rows_of(feed)
            ((gap,),) = [each["gaps"] for each in (await monitor.answer(f"{feed.endpoint}/coverage"))["requests"]]
            assert (gap["kind"], gap["from_offset"], gap["next_offset"]) == ("overlap", 5, 15)
        finally:
            await monitor.stop()
