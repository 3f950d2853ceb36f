"""A partition may go to somebody else while a consumer notes its lag: that is no fault of anybody's."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from aiokafka import AIOKafkaConsumer, TopicPartition

from interlock.kafka.consumer import ControlConsumer
from interlock.settings import PlatformSettings

PLACES = {TopicPartition("t", number) for number in range(3)}


async def test_a_partition_that_goes_while_another_is_looked_at_is_passed_over() -> None:
    """The driver tells nothing of a partition that has gone, and says so by an assertion."""
    settings = PlatformSettings(kafka_bootstrap_servers="127.0.0.1:1")
    consumer = AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1")
    book = consumer._subscription
    book.assign_from_user(PLACES)
    for place in PLACES:
        book.subscription.assignment.state_value(place).lso = 5
    looked: list[TopicPartition] = []

    async def position(_: Any, place: TopicPartition) -> int:
        looked.append(place)
        book.assign_from_user({place})  # all others have gone
        return 3

    control = ControlConsumer(settings, "s", ["t"], lambda _: None, lambda *_: None)  # type: ignore[arg-type]  # never called
    with patch.object(AIOKafkaConsumer, "position", position):
        await control._measure(consumer)
    assert len(looked) == 1
