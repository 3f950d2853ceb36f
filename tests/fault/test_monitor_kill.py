"""Monitors killed, and servers taken away from under them: every window stays what a batch makes of the topics."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from interlock import embedded
from interlock.embedded.home import Home
from tests.fault.victims import kill_9
from tests.integration.monitor.rig import BASE, Feed, Room, counted, endpoint_name, opened, sample

pytestmark = [pytest.mark.fault, pytest.mark.timeout(400)]

BATCHES = 600
ROUNDS = 6


@pytest.fixture
async def room(servers: dict[str, str], tmp_path: Path) -> AsyncIterator[Room]:
    """Everything a monitor needs."""
    async with opened(servers, tmp_path) as made:
        yield made


async def _feed(feed: Feed, begin: int, batches: int, pause_seconds: float) -> None:
    for number in range(begin, begin + batches):
        features = sample(number, 20)
        commit = number % 11 != 5
        await feed.batch(
            number % feed.partitions, BASE + number * 50 + np.arange(20), features, rejected=number % 2, commit=commit
        )
        await asyncio.sleep(pause_seconds)


async def test_kill_9_again_and_again_changes_no_count(room: Room) -> None:
    """Six times at random moments, between transactions that commit and abort: no request is lost or counted twice."""
    chance = random.Random(11)
    async with Feed(room.settings, endpoint_name(), partitions=3) as feed:
        await feed.route()
        feeding = asyncio.create_task(_feed(feed, 0, BATCHES, 0.05))
        for _ in range(ROUNDS):
            monitor = await room.start()
            await asyncio.sleep(chance.uniform(0.5, 3.0))  # the moment of the fault, not a wait for a condition
            await monitor.kill()
        monitor = await room.start()
        try:
            await feeding
            await counted(monitor, feed, 60)
            assert (await monitor.answer(f"{feed.endpoint}/coverage"))["gaps"] == 0
        finally:
            assert await monitor.stop() == 0


async def test_two_monitors_and_one_is_killed_or_frozen(room: Room) -> None:
    """The survivor takes over; one that was frozen and wakes up may not bring what it still had in hand."""
    async with Feed(room.settings, endpoint_name(), partitions=4) as feed:
        await feed.route()
        feeding = asyncio.create_task(_feed(feed, 0, BATCHES, 0.05))
        one, two = await room.start(), await room.start()
        one.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(9)  # longer than the session
        one.process.send_signal(signal.SIGCONT)
        await asyncio.sleep(2)
        await two.kill()
        await feeding
        try:
            await counted(one, feed, 60)
            assert (await one.answer(f"{feed.endpoint}/coverage"))["gaps"] == 0
        finally:
            assert await one.stop() == 0


@pytest.mark.parametrize("victim", ["postgres", "kafka"])
async def test_a_server_goes_and_comes_back(tmp_path: Path, victim: str) -> None:
    """The server is killed twice under load: the monitor waits, begins again from what Postgres holds, counts all."""
    with embedded.running(tmp_path / "home", embedded.SERVERS) as servers:
        home = Home(tmp_path / "home")
        async with opened(servers, tmp_path) as room, Feed(room.settings, endpoint_name(), partitions=2) as feed:
            await feed.route()
            await _feed(feed, 0, 100, 0.0)
            monitor = await room.start()
            try:
                for begin in (100, 200):
                    record = home.record()
                    assert record is not None
                    kill_9(int(record["processes"][victim]["pid"]))
                    if victim == "postgres":
                        await _feed(feed, begin, 100, 0.01)
                    else:
                        await _back(home, victim, int(record["processes"][victim]["pid"]))
                        await _feed(feed, begin, 100, 0.01)
                await counted(monitor, feed, 90)
                assert monitor.process.returncode is None
                assert (await monitor.answer(f"{feed.endpoint}/coverage"))["gaps"] == 0
            finally:
                assert await monitor.stop() == 0


async def _back(home: Home, victim: str, killed: int) -> None:
    async with asyncio.timeout(120):
        while True:
            record = home.record()
            part = record["processes"][victim] if record is not None else {}
            if part.get("pid") not in (killed, None) and part.get("state") == "ready":
                return
            await asyncio.sleep(0.1)


async def test_it_ends_within_its_bounds_while_kafka_is_frozen(tmp_path: Path) -> None:
    """SIGTERM while the broker answers nothing: the process ends all the same, with status 0."""
    with embedded.running(tmp_path / "home", embedded.SERVERS) as servers:
        async with opened(servers, tmp_path) as room, Feed(room.settings, endpoint_name(), partitions=2) as feed:
            await feed.route()
            await _feed(feed, 0, 10, 0.0)
            monitor = await room.start()
            await counted(monitor, feed)
            record = Home(tmp_path / "home").record()
            assert record is not None
            pid = int(record["processes"]["kafka"]["pid"])
            os.kill(pid, signal.SIGSTOP)
            try:
                assert await monitor.stop(40) == 0
            finally:
                os.kill(pid, signal.SIGCONT)
