"""Kafka killed again and again under a router: no partition is left alone, every request is answered exactly once."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import Self

import pytest
from confluent_kafka import Producer

from interlock import embedded
from interlock.codec.contract import request_schema
from interlock.service import _loop
from interlock_router.settings import Settings
from tests.fault.victims import Stack, killed_and_back, until
from tests.integration.router.rig import (
    REQUEST_SCHEMA_ID,
    SIGNATURE,
    Rig,
    RunningRouter,
    exactly_once,
    schema_registry,
)

pytestmark = [pytest.mark.fault, pytest.mark.timeout(400)]

ROUNDS = 5
PARTITIONS = 4
ROWS_PER_TICK = 20
TICK_SECONDS = 0.02
BACK_SECONDS_MAX = 60.0
FLOW_SECONDS_MAX = 45.0


class ServedRouter(RunningRouter):
    """A router whose lanes begin again after a Transient, as the process runner sees to it."""

    async def __aenter__(self) -> Self:
        """Start, and note when each partition last had something to do."""
        self.worked: dict[int, float] = {}
        self.task = asyncio.create_task(_loop(self.lanes.run, self.stopping, 2.0))
        note = self.live.note_lag

        def noted(endpoint: str, partition: int, lag: int) -> None:
            self.worked[partition] = time.monotonic()
            note(endpoint, partition, lag)

        self.live.note_lag = noted  # type: ignore[method-assign]  # the test listens in
        return self

    async def flow(self) -> None:
        """Wait until every partition has been worked on from now on."""
        began = time.monotonic()

        def flows() -> bool:
            return len(self.worked) == PARTITIONS and min(self.worked.values()) > began

        await until(flows, FLOW_SECONDS_MAX, f"work in every partition; last {self.worked}, now {began}")


async def _feed(rig: Rig, stopping: asyncio.Event) -> int:
    """Write requests at an even rate by an idempotent producer until told to stop; return how many."""
    producer = Producer(
        {"bootstrap.servers": rig.settings.kafka_bootstrap_servers, "enable.idempotence": True, "log_level": 0}
    )
    count = 0
    while not stopping.is_set():
        for number in range(count, count + ROWS_PER_TICK):
            producer.produce(rig.topic("requests"), key=f"k{number % 50}", value=rig.value(number))
        count += ROWS_PER_TICK
        producer.poll(0)
        await asyncio.sleep(TICK_SECONDS)
    assert await asyncio.to_thread(producer.flush, BACK_SECONDS_MAX) == 0
    return count


async def test_no_partition_is_left_alone_when_kafka_dies_again_and_again(tmp_path: Path) -> None:
    """Five kills at random moments under load; each time all lanes work on, and at the end nothing lacks or repeats."""
    chance = random.Random(11)
    async with embedded.running(tmp_path / "home", ("kafka",)) as environment:
        stack, stopping = Stack(environment), asyncio.Event()
        with schema_registry({REQUEST_SCHEMA_ID: request_schema("any", SIGNATURE)}) as url:
            settings = Settings(
                kafka_bootstrap_servers=environment["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"], schema_registry_url=url
            )
            rig = Rig(settings, PARTITIONS)
            await rig.create()
            rig.serving.add("m", 1)
            rig.route((1, 10_000))
            async with ServedRouter(rig) as router:
                feeding = asyncio.create_task(_feed(rig, stopping))
                for _ in range(ROUNDS):
                    await router.flow()
                    await asyncio.sleep(chance.uniform(0.0, 0.5))  # the moment of the fault, not a wait for a condition
                    await killed_and_back(stack, "kafka", BACK_SECONDS_MAX)
                await router.flow()
                stopping.set()
                count = await feeding
                results = await rig.results(count, FLOW_SECONDS_MAX)
    exactly_once(results, count)
