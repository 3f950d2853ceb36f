"""Monitors come and go: what is counted does not depend on how many there are, or when."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import numpy as np
import pytest

from interlock.clock import milliseconds
from tests.integration.monitor.rig import BASE, Feed, Room, closed, counted, endpoint_name, sample, until

pytestmark = pytest.mark.timeout(300)


async def _feed(feed: Feed, begin: int, batches: int, pause_seconds: float = 0.0) -> None:
    for number in range(begin, begin + batches):
        partition = number % feed.partitions
        await feed.batch(partition, BASE + number * 100 + np.arange(20), sample(number, 20), rejected=number % 2)
        await asyncio.sleep(pause_seconds)


async def test_observations_pile_up_while_no_monitor_runs(room: Room) -> None:
    """A monitor counts, ends with status 0, and is away while as much again is written: the next one has no gap."""
    async with Feed(room.settings, endpoint_name(), partitions=3) as feed:
        await feed.route()
        await _feed(feed, 0, 30)
        first = await room.start()
        await counted(first, feed)
        assert await first.stop() == 0
        await _feed(feed, 30, 60)
        second = await room.start()
        try:
            windows = await counted(second, feed)
            assert (await second.answer(f"{feed.endpoint}/coverage"))["gaps"] == 0
            assert sum(each["late_rows"] for each in windows) <= 20 * 30
            await closed(second, feed)
        finally:
            await second.stop()


async def test_what_comes_after_the_sketches_have_gone_is_counted(room: Room) -> None:
    """A window of long ago is told, loses its sketches, and more of its requests come: every answer has them."""
    async with Feed(room.settings, endpoint_name(), partitions=1) as feed:
        await feed.route()
        await _feed(feed, 0, 3)
        first = await room.start()
        await counted(first, feed)
        await closed(first, feed)
        assert await first.stop() == 0
        second = await room.start()  # it looks for what is too old when it begins
        try:

            async def gone() -> bool:
                (row,) = await room.fetch("SELECT count(*) AS left FROM windows WHERE state IS NOT NULL")
                return bool(row["left"] == 0)

            await until(gone)
            await _feed(feed, 3, 3)
            windows = await counted(second, feed, 20)
            assert windows[0]["late_rows"] == 60 and not windows[0]["open"]
            assert windows[0]["events_per_second"] == pytest.approx((120 + 3) / 5)
        finally:
            await second.stop()


async def test_two_monitors_share_the_partitions(room: Room) -> None:
    """A second joins under load, the first leaves, comes back, and the second leaves: every window is exact."""
    async with Feed(room.settings, endpoint_name(), partitions=4) as feed:
        await feed.route()
        feeding = asyncio.create_task(_feed(feed, 0, 400, 0.02))
        one = await room.start()
        two = await room.start()
        try:

            async def shared() -> bool:
                held = [(await each.ask("/metrics")).text.count("interlock_monitor_lag{") for each in (one, two)]
                return min(held) >= 4 and not feeding.done()

            await until(shared)
            await asyncio.sleep(1)  # so that both count for a while, not a wait for a condition
            assert await one.stop() == 0
            one = await room.start()
            await asyncio.sleep(1)  # the same
            assert await two.stop() == 0
            await feeding
            await counted(one, feed, 60)
            windows = await closed(one, feed)
            assert (await one.answer(f"{feed.endpoint}/coverage"))["gaps"] == 0
            told = await room.fetch(
                "SELECT event->>'window_start' AS start, max((event->>'revision')::int) AS newest, count(*) AS told "
                "FROM journal WHERE type LIKE '%window_closed%' GROUP BY 1"
            )
            assert len(told) == len(windows) and all(row["newest"] == row["told"] for row in told)
        finally:
            feeding.cancel()
            for each in (one, two):
                await each.stop()


async def test_an_endpoint_that_comes_later_is_watched(room: Room) -> None:
    """The first route of an endpoint is enough: a running monitor reads its observations and labels."""
    monitor = await room.start()
    try:
        async with (
            Feed(room.settings, endpoint_name()) as feed,
            Feed(room.settings, endpoint_name()) as other,
        ):
            for each in (feed, other):
                await each.route()
                await _feed(each, 0, 10)
                await counted(monitor, each)
    finally:
        assert await monitor.stop() == 0


async def test_labels_are_joined(room: Room) -> None:
    """A label finds its request, whichever comes first, and quality is measured and answered over HTTP."""
    async with Feed(room.settings, endpoint_name(), partitions=1) as feed:
        await feed.route()
        base = milliseconds(datetime.now(UTC)) - 60_000
        features = sample(3, 40)
        features[:, 0] = np.where(np.arange(40) % 2, 900.0, 100.0)  # scores of 0.9 and 0.1
        await feed.label("0/1", base + 1, 1.0)
        monitor = await room.start(quality_every_seconds=0.2)
        try:
            await feed.batch(0, base + np.arange(40), features)
            for number in range(2, 40):
                await feed.label(f"0/{number}", base + number, float(number % 2))

            async def measured() -> bool:
                versions = (await monitor.answer(f"{feed.endpoint}/quality"))["versions"]
                return bool(versions) and versions[0]["labelled"] == 39

            await counted(monitor, feed)
            await until(measured)
            (version,) = (await monitor.answer(f"{feed.endpoint}/quality"))["versions"]
            assert version["precision"] == version["recall"] == version["roc_auc"] == 1.0
        finally:
            await monitor.stop()
