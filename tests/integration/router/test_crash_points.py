"""Every crash point of the lane, before and after: the process dies there, is started again, nothing is seen of it."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from interlock_router.settings import Settings
from tests.rig.crash_points import LANE, Crash
from tests.rig.line import Line, until
from tests.rig.nursery import Nursery

pytestmark = pytest.mark.timeout(400)

SEED = 5
PARTITIONS = 3
LINES = 4
PER_SECOND = 100.0
IDLE_PER_SECOND = 2.0
DEATH_SECONDS_MAX = 90.0
FIRST_REQUESTS = 50


async def _die(line: Line, crash: Crash) -> None:
    """Start a router that dies at a crash point, and see it dead by its own hand."""
    router = await line.start(crash=str(crash))
    if crash.point.ends:

        async def begun() -> bool:
            # A producer may be discarded sooner: one that only went on with a seal that was cut off.
            return router.status is not None or len(router.heard("lane.started")) >= line.rig.lanes

        await until(begun, DEATH_SECONDS_MAX, "the lanes have begun")
        router.send(signal.SIGTERM)
    assert await router.ended(DEATH_SECONDS_MAX) == -signal.SIGKILL, f"{crash} was not reached"
    await line.bury()


async def _first_life(line: Line) -> None:
    """Answer a few requests in every partition: a life after it finds a transaction before its own to seal."""
    line.feed.write(FIRST_REQUESTS)
    router = await line.start()

    async def answered() -> bool:
        return await line.committed() == FIRST_REQUESTS

    await until(answered, DEATH_SECONDS_MAX, "the first requests are answered")
    router.send(signal.SIGTERM)
    assert await router.ended() == 0


async def _one_after_the_other(line: Line, crashes: list[Crash], per_second: float) -> int:
    """Die at every point while requests keep coming, then answer what is left; return how many were asked."""
    await line.rig.create()
    await _first_life(line)
    line.feed.start(per_second)
    for crash in crashes:
        await _die(line, crash)
    router = await line.start()
    await router.hear("lane.started", times=line.rig.lanes)
    count = await line.feed.stop()
    assert await line.judge() == []
    router.send(signal.SIGTERM)
    assert await router.ended() == 0
    return count


async def test_every_crash_point_of_the_lane_before_and_after(
    servers: dict[str, str], registry: tuple[str, dict[int, Any]], tmp_path: Path, record_property: Any
) -> None:
    """Each step is reached, and the death there costs no request, answers none twice, and mixes up no version."""
    settings = Settings(
        kafka_bootstrap_servers=servers["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"], schema_registry_url=registry[0]
    )
    crashes = Crash.each(LANE, SEED)
    idle = [crash for crash in crashes if crash.point.idle]
    busy = [crash for crash in crashes if not crash.point.idle]
    async with Nursery(tmp_path) as nursery:
        parts = [(busy[index::LINES], PER_SECOND) for index in range(LINES)] + [(idle, IDLE_PER_SECOND)]
        counts = await asyncio.gather(
            *(_one_after_the_other(Line(settings, nursery, PARTITIONS), part, rate) for part, rate in parts)
        )
    record_property("deaths", len(crashes))
    record_property("requests", sum(counts))
