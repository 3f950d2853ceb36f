"""A router that was told `at_least_once` answers without transactions, and goes on where its offset stands."""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer, TopicPartition

from interlock.ids import uuid7
from tests.integration.router.rig import Rig, RunningRouter, exactly_once

REQUESTS = 600


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
async def test_without_a_crash_both_answer_once(rig: Rig, guarantee: str) -> None:
    """Two lives of the router, each with half of the requests; only transactions leave markers behind."""
    rig.serving.add("m", 1)
    rig.route((1, 10_000))
    for half in (range(REQUESTS // 2), range(REQUESTS // 2, REQUESTS)):
        rig.produce([rig.value(number) for number in half], keys=lambda index: f"k{index % 50}")
        async with RunningRouter(rig, guarantee=guarantee):
            results = await rig.results(half.stop)
    exactly_once(results, REQUESTS)
    assert (_end(rig) > REQUESTS) == (guarantee == "exactly_once")


def _end(rig: Rig) -> int:
    """Return how many offsets the topic of results has used: records, and the markers of transactions."""
    consumer = Consumer({"bootstrap.servers": rig.settings.kafka_bootstrap_servers, "group.id": uuid7()})
    try:
        return sum(
            consumer.get_watermark_offsets(TopicPartition(rig.topic("results"), each), timeout=10)[1]
            for each in range(rig.partitions)
        )
    finally:
        consumer.close()
