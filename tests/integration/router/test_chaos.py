"""Ten thousand requests while routers and Kafka are killed, frozen, woken and ended: nothing of it is to be seen."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from interlock import embedded
from interlock_router.settings import Settings
from tests.fault.victims import Stack
from tests.rig.chaos import Server, Target, carry_out, finish, router_victims, slots
from tests.rig.line import Line
from tests.rig.nursery import Nursery
from tests.rig.schedule import SERVER_FAULTS, Victim, draw, mix

pytestmark = pytest.mark.timeout(400)

SEED = 5
REQUESTS = 10_000
FAULTS = 60
LINES = 5
ROUTERS = 2
PARTITIONS = 3
SECONDS = 45.0
ANSWER_SECONDS_MAX = 120.0
KAFKA_WEIGHT = 2.0


async def test_ten_thousand_requests_under_mixed_faults(
    registry: tuple[str, dict[int, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Five endpoints with two routers each, on a Kafka that is killed as well: no history has anything wrong."""
    began = time.monotonic()
    async with embedded.running(tmp_path / "home", ("kafka",)) as environment, Nursery(tmp_path / "routers") as nursery:
        bootstrap = environment["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"]
        settings = Settings(kafka_bootstrap_servers=bootstrap, schema_registry_url=registry[0])
        lines = [Line(settings, nursery, PARTITIONS, REQUESTS / LINES) for _ in range(LINES)]
        places = slots(lines, ROUTERS)
        strikes = draw(
            SEED, FAULTS, SECONDS, [*router_victims(list(places)), Victim("kafka", KAFKA_WEIGHT, SERVER_FAULTS)]
        )
        targets: dict[str, Target] = {**places, "kafka": Server(Stack(environment), "kafka")}
        for line in lines:
            await line.rig.create()
            line.feed.start(REQUESTS / LINES / SECONDS)
        await asyncio.gather(*(each.fill() for each in places.values()))
        seconds = await carry_out(strikes, targets)
        wrong = await finish(lines, REQUESTS // LINES, ANSWER_SECONDS_MAX)
        await asyncio.gather(*(each.leave() for each in places.values()))
    with capsys.disabled():
        sys.stdout.write(
            f"\nseed {SEED}: {REQUESTS} requests, {len(strikes)} faults in {seconds:.0f} s ({mix(strikes)}), "
            f"{time.monotonic() - began:.0f} s in all\n"
        )
    assert wrong == [], "\n".join(map(str, wrong))
