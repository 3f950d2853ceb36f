"""Looking something up again: a few committed records of a partition, by offset or by time, with one open reader."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from interlock.errors import Transient
from interlock.kafka.closing import closed
from interlock.kafka.consumer import make_consumer
from interlock.settings import PlatformSettings

CLOSE_SECONDS_MAX = 2.0
FETCH_WAIT_MILLISECONDS = 5
"""What is looked up is there already; a fetch ahead that waits would only hold back the next lookup."""
POLL_MILLISECONDS = 100
RETRY_MILLISECONDS = 5
FETCH_BYTES_MAX = 4 * 1024 * 1024
ROWS_PER_FETCH_MAX = 5_000

Enough = Callable[[Any], bool]
"""Says of a record whether it and what lies behind it are not asked for."""


class Lookup:
    """Reads stretches of partitions, one after the other, outside of any group; the connection stays open between."""

    def __init__(self, settings: PlatformSettings, seconds_max: float) -> None:
        self._settings = settings
        self._seconds_max = seconds_max
        self._consumer: AIOKafkaConsumer | None = None
        self._known: dict[str, set[int]] = {}
        self._one_at_a_time = asyncio.Lock()

    async def close(self) -> None:
        """Disconnect."""
        consumer, self._consumer = self._consumer, None
        self._known.clear()
        if consumer is not None:
            await closed(consumer, CLOSE_SECONDS_MAX)

    async def bounds(self, topic: str, partition: int) -> tuple[int, int] | None:
        """Return the first offset that is still there and the one behind the last; None where no such partition is."""
        async with self._reader(topic) as (consumer, partitions):
            if partition not in partitions:
                return None
            place = TopicPartition(topic, partition)
            begin, end = await asyncio.gather(consumer.beginning_offsets([place]), consumer.end_offsets([place]))
            return begin[place], end[place]

    async def partitions(self, topic: str) -> list[int]:
        """Return the partitions of a topic; none where it does not exist."""
        async with self._reader(topic) as (_, partitions):
            return sorted(partitions)

    async def offset_at(self, topic: str, partition: int, milliseconds: int) -> int | None:
        """Return the offset of the first record whose timestamp is this or later; None where there is none."""
        async with self._reader(topic) as (consumer, partitions):
            if partition not in partitions:
                return None
            place = TopicPartition(topic, partition)
            found = (await consumer.offsets_for_times({place: max(0, milliseconds)}))[place]
            return None if found is None else int(found.offset)

    async def read(self, topic: str, partition: int, offset: int, *, rows_max: int, enough: Enough) -> list[Any]:
        """Return the records from `offset` on: up to the end, to `rows_max`, or to before the first that is `enough`.

        Raises Transient where they do not come in time, or Kafka is away.
        """
        async with self._reader(topic) as (consumer, partitions):
            if partition not in partitions:
                return []
            place = TopicPartition(topic, partition)
            end = (await consumer.end_offsets([place]))[place]
            consumer.assign([place])
            consumer.seek(place, offset)
            found: list[Any] = []
            try:
                while len(found) < rows_max and await consumer.position(place) < end:
                    size = min(ROWS_PER_FETCH_MAX, rows_max - len(found))
                    answer = await consumer.getmany(place, timeout_ms=POLL_MILLISECONDS, max_records=size)
                    for record in answer.get(place, ()):
                        if enough(record):
                            return found
                        found.append(record)
            finally:
                consumer.pause(place)
            return found

    @asynccontextmanager
    async def _reader(self, topic: str) -> AsyncIterator[tuple[AIOKafkaConsumer, set[int]]]:
        """Give the reader and the topic's partitions; a reader that failed is not used again."""
        async with self._one_at_a_time:
            try:
                async with asyncio.timeout(self._seconds_max):
                    consumer = self._consumer = self._consumer or await self._start()
                    if topic not in self._known:
                        await self._learn(consumer)
                    yield consumer, self._known.get(topic, set())
            except (KafkaError, OSError, TimeoutError) as error:
                await self.close()
                raise Transient(f"{topic} cannot be read again: {type(error).__name__}: {error}") from error

    async def _learn(self, consumer: AIOKafkaConsumer) -> None:
        """Ask which topics there are; what is known stays so until a reading fails, for partitions are never taken."""
        metadata = await consumer._client.fetch_all_metadata()  # noqa: SLF001 - the public call gives names alone
        self._known = {topic: set(metadata.partitions_for_topic(topic) or ()) for topic in metadata.topics()}

    async def _start(self) -> AIOKafkaConsumer:
        consumer = make_consumer(
            self._settings,
            fetch_max_wait_ms=FETCH_WAIT_MILLISECONDS,
            max_partition_fetch_bytes=FETCH_BYTES_MAX,
            retry_backoff_ms=RETRY_MILLISECONDS,
        )
        try:
            await consumer.start()
        except BaseException:
            await closed(consumer, CLOSE_SECONDS_MAX)
            raise
        return consumer
