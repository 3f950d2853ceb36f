"""Following a small topic from its beginning, outside of any group: all that is there, then whatever comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from interlock.errors import Transient
from interlock.kafka.closing import closed
from interlock.kafka.consumer import make_consumer
from interlock.settings import PlatformSettings

CLOSE_SECONDS_MAX = 2.0
FETCH_WAIT_MILLISECONDS = 500
POLL_SECONDS = 0.2
TOPIC_POLL_SECONDS = 0.3


@dataclass(frozen=True)
class Step:
    """What came, and where the reading stands with it."""

    values: list[bytes | None]
    positions: Mapping[TopicPartition, int]
    """The offset behind the last value of each partition, as far as they have been yielded with this step."""
    complete: bool
    """All that was there at the start has been read."""


async def follow(settings: PlatformSettings, topic: str) -> AsyncGenerator[Step, None]:
    """Yield what comes, step by step, at least one every POLL_SECONDS.

    A topic that does not exist yet counts as read to its end. Raises Transient when Kafka goes away; a new call begins
    at the beginning. Close the iterator to disconnect.
    """
    consumer = make_consumer(settings, fetch_max_wait_ms=FETCH_WAIT_MILLISECONDS)
    try:
        await consumer.start()
        async for step in _steps(consumer, topic):
            yield step
    except (KafkaError, OSError) as error:
        raise Transient(f"cannot follow {topic}: {type(error).__name__}: {error}") from error
    finally:
        await closed(consumer, CLOSE_SECONDS_MAX)


async def _steps(consumer: AIOKafkaConsumer, topic: str) -> AsyncGenerator[Step, None]:
    while not (partitions := await _partitions(consumer, topic)):
        yield Step([], {}, complete=True)
        await asyncio.sleep(TOPIC_POLL_SECONDS)
    consumer.assign(partitions)
    ends = await consumer.end_offsets(partitions)
    while True:
        answer = await consumer.getmany(timeout_ms=int(POLL_SECONDS * 1000))
        positions = {partition: await consumer.position(partition) for partition in partitions}
        complete = all(positions[partition] >= end for partition, end in ends.items())
        yield Step([record.value for records in answer.values() for record in records], positions, complete)


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    """Return the topic's partitions, none while it does not exist; asking for all topics makes none."""
    metadata = await consumer._client.fetch_all_metadata()  # noqa: SLF001 - the public call gives names alone
    found = metadata.partitions_for_topic(topic)
    return [TopicPartition(topic, each) for each in sorted(found or ())]
