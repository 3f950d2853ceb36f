"""Zombies: a router stands still in the middle of a transaction, another takes over, it wakes, and changes nothing."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from interlock.codec.contract import request_schema
from interlock_router.settings import Settings
from tests.integration.router.rig import REQUEST_SCHEMA_ID, SIGNATURE, schema_registry
from tests.rig.crash_points import POINTS, Crash, Deed, Moment
from tests.rig.line import Line, until
from tests.rig.nursery import Hurt, Nursery

pytestmark = [pytest.mark.fault, pytest.mark.timeout(1_800)]

PLACES = (
    ("commit", Moment.BEFORE), ("begin", Moment.AFTER), ("encode", Moment.BEFORE), ("encode", Moment.AFTER),
    ("send-results", Moment.AFTER), ("produce", Moment.BEFORE), ("produce", Moment.AFTER),
    ("commit-offsets", Moment.BEFORE), ("commit-offsets", Moment.AFTER), ("end-transaction", Moment.BEFORE),
)  # fmt: skip
"""Where a batch is at most decided by its own lane, and by nobody else: each of them a way to be late."""
ROUNDS = 10
TRIES_MAX = 2 * ROUNDS
"""On a busy machine a standstill may last longer than a request may take, and then the zombie gives up unfenced."""
PER_SECOND = 20.0
REACH = 3
TRANSACTION_SECONDS_MAX = 60.0
"""More than any standstill here, so that it is the fence that stops the zombie and not its own clock."""
FROZEN_SECONDS_MAX = 60.0
TAKEN_SECONDS_MAX = 90.0
FENCED_SECONDS_MAX = 60.0


def _is_frozen(router: Hurt) -> bool:
    return bool(psutil.Process(router.pid).status() == psutil.STATUS_STOPPED)


def _gave_up(zombie: Hurt) -> bool:
    """Say whether a lane was stopped by a clock of its own: it stood still for longer than a request may take."""
    return any("Timed" in line["detail"] or "Timeout" in line["detail"] for line in zombie.heard("lane.restarts"))


async def _haunt(line: Line, crash: Crash) -> bool:
    """Freeze a router, let another take over and work, wake the first; say whether it was fenced.

    It fails where the lane was neither fenced nor gave up by itself.
    """
    zombie = await line.start(crash=str(crash))
    await until(lambda: _is_frozen(zombie), FROZEN_SECONDS_MAX, f"{crash} is reached")
    heir = await line.start()
    await heir.hear("lane.started", TAKEN_SECONDS_MAX)
    taken = await line.committed()

    async def works() -> bool:
        return await line.committed() > taken

    await until(works, TAKEN_SECONDS_MAX, "the heir works")
    zombie.send(signal.SIGCONT)

    def over() -> bool:
        return bool(zombie.heard("lane.fenced")) or _gave_up(zombie)

    await until(over, FENCED_SECONDS_MAX, f"fenced after {crash}")
    for router in (zombie, heir):
        router.send(signal.SIGTERM)
        await router.ended()
    return bool(zombie.heard("lane.fenced"))


async def _haunt_often(line: Line, crash: Crash) -> int:
    """Return how many zombies there were in all until the last of the rounds was fenced."""
    fenced = tried = 0
    while fenced < ROUNDS:
        assert tried < TRIES_MAX, f"{crash}: {fenced} of {tried} fenced, the others too late even for that"
        fenced += await _haunt(line, crash)
        tried += 1
    return tried


async def test_every_zombie_is_fenced(
    servers: dict[str, str],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A hundred times, at ten places of a transaction: the zombie's part of the story is never seen, and it knows."""
    with schema_registry({REQUEST_SCHEMA_ID: request_schema("any", SIGNATURE)}) as url:
        settings = Settings(
            kafka_bootstrap_servers=servers["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"],
            schema_registry_url=url,
            transaction_seconds_max=TRANSACTION_SECONDS_MAX,
        )
        crashes = [Crash(POINTS[name], moment, REACH, Deed.FREEZE) for name, moment in PLACES]
        async with Nursery(tmp_path) as nursery:
            lines = [Line(settings, nursery, 1) for _ in crashes]
            for line in lines:
                await line.rig.create()
                line.feed.start(PER_SECOND)
            tried = sum(await asyncio.gather(*map(_haunt_often, lines, crashes)))
            last = [await line.start() for line in lines]
            for line in lines:
                await line.feed.stop()
            wrong = [each for line in lines for each in await line.judge()]
            for router in last:
                router.send(signal.SIGTERM)
                await router.ended()
    told = f"{tried} zombies: {ROUNDS * len(crashes)} fenced, {tried - ROUNDS * len(crashes)} gave up by themselves"
    record_property("zombies", told)
    with capsys.disabled():
        sys.stdout.write(f"\n{told}\n")
    assert wrong == [], "\n".join(map(str, wrong))
