"""How long a partition is silent when its router dies, and when it ends as planned, while requests keep coming."""

from __future__ import annotations

import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from interlock.codec.contract import request_schema
from interlock_router.settings import Settings
from tests.integration.router.rig import REQUEST_SCHEMA_ID, SIGNATURE, schema_registry
from tests.rig.line import Line, until
from tests.rig.nursery import Hurt, Nursery
from tests.rig.watch import Watch, percentiles

pytestmark = [pytest.mark.fault, pytest.mark.timeout(1_200)]

SEED = 5
ROUNDS = 20
ROUTERS = 2
PARTITIONS = 4
BURST = 20_000
LOAD = 0.5
PER_SECOND_MAX = 1_000
"""What is written at most: the feeder shares its process with the judge, who reads all of it back."""
STEADY_SECONDS = 2.0
FLOW_SECONDS_MAX = 120.0
KILLED_SECONDS_MAX = 12.0
PLANNED_SECONDS_MAX = 3.0
P95 = 95


@dataclass
class _Scene:
    """A line under load, its two routers, and who watches."""

    line: Line
    watch: Watch
    routers: list[Hurt]
    per_second: float

    async def steady(self) -> None:
        """Wait until every partition has answered for a while without a pause."""

        def flows() -> bool:
            now = time.monotonic()
            return (
                self.watch.flows(now - STEADY_SECONDS)
                and max(self.watch.silence(now - STEADY_SECONDS, now)) < STEADY_SECONDS / 2
            )

        await until(flows, FLOW_SECONDS_MAX, "a steady flow in every partition")

    async def strike(self, victim: int, number: signal.Signals) -> list[float]:
        """End a router and return how long each partition was silent; then have two routers again."""
        await self.steady()
        survivor = self.routers[1 - victim]
        assignments = len(survivor.heard("lanes.assigned"))
        struck = time.monotonic()
        self.routers[victim].send(number)
        await self.routers[victim].ended()
        await survivor.hear("lanes.assigned", FLOW_SECONDS_MAX, times=assignments + 1)
        taken = time.monotonic()
        await until(lambda: self.watch.flows(taken), FLOW_SECONDS_MAX, "results of every partition")
        await self.steady()
        silence = self.watch.silence(struck, time.monotonic())
        self.routers[victim] = await self.line.start()
        await self.routers[victim].hear("lane.started", FLOW_SECONDS_MAX)
        return silence


async def _peak(line: Line, watch: Watch) -> float:
    """Return how many requests a second the routers answer when all of them lie there already."""
    line.feed.write(BURST)
    began = time.monotonic()
    await until(lambda: watch.results >= BURST, FLOW_SECONDS_MAX, "the burst is answered")
    return BURST / (time.monotonic() - began)


@asynccontextmanager
async def _scene(servers: dict[str, str], folder: Path) -> AsyncIterator[_Scene]:
    with schema_registry({REQUEST_SCHEMA_ID: request_schema("any", SIGNATURE)}) as url:
        bootstrap = servers["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"]
        settings = Settings(kafka_bootstrap_servers=bootstrap, schema_registry_url=url)
        async with Nursery(folder) as nursery:
            line = Line(settings, nursery, PARTITIONS)
            await line.rig.create()
            with Watch(bootstrap, line.rig.topic("results"), PARTITIONS) as watch:
                routers = [await line.start() for _ in range(ROUTERS)]
                for router in routers:
                    await router.hear("lane.started", FLOW_SECONDS_MAX)
                per_second = min(LOAD * await _peak(line, watch), PER_SECOND_MAX)
                line.feed.start(per_second)
                yield _Scene(line, watch, routers, per_second)
                await line.feed.stop()
                assert await line.judge() == []


async def _rounds(scene: _Scene, number: signal.Signals) -> list[float]:
    """Strike again and again; return the silence of every partition that noticed, of each round."""
    chance = random.Random(SEED)
    silence = []
    for _ in range(ROUNDS):
        silence += await scene.strike(chance.randrange(ROUTERS), number)
    return silence


def _report(what: str, scene: _Scene, silence: list[float], tell: Callable[[str, object], None]) -> None:
    line = (
        f"{what}: {ROUNDS} rounds, {PARTITIONS} partitions, {scene.per_second:.0f} requests/s: {percentiles(silence)}"
    )
    tell(what, line)
    sys.stdout.write(f"\n{line}\n")


@pytest.mark.parametrize(
    ("what", "number", "seconds_max"),
    [
        ("router killed", signal.SIGKILL, KILLED_SECONDS_MAX),
        ("planned hand-over", signal.SIGTERM, PLANNED_SECONDS_MAX),
    ],
    ids=["killed", "planned"],
)
async def test_partitions_go_on(
    servers: dict[str, str],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    capsys: pytest.CaptureFixture[str],
    what: str,
    number: signal.Signals,
    seconds_max: float,
) -> None:
    """One of two routers ends under load, twenty times: no partition is silent for longer (p95)."""
    async with _scene(servers, tmp_path) as scene:
        silence = await _rounds(scene, number)
        with capsys.disabled():
            _report(what, scene, silence, record_property)
    assert np.percentile(silence, P95) <= seconds_max
