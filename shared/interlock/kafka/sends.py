"""Records without a transaction; and answers first, their offset after: at least once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from interlock.errors import Transient
from interlock.kafka.closing import closed
from interlock.kafka.produce import WholeSender
from interlock.kafka.producer import make_producer
from interlock.kafka.transaction import Encode, Offsets, Outgoing, packed, see_topics
from interlock.settings import PlatformSettings

Position = Callable[[Offsets], Awaitable[None]]


class Sends:
    """Record batches written without a transaction, each acknowledged by all in-sync replicas.

    Any failure raises Transient, and the object must be discarded.
    """

    def __init__(self, settings: PlatformSettings, seconds_max: float, batch_bytes_max: int) -> None:
        self._settings = settings
        self._seconds_max = seconds_max
        self._batch_bytes_max = batch_bytes_max
        self._producer: AIOKafkaProducer | None = None

    async def start(self, topics: Sequence[str], sources: Sequence[TopicPartition]) -> None:
        """Connect; raises Transient while Kafka is away or a topic without one of these partitions."""
        producer = make_producer(self._settings, max_batch_size=self._batch_bytes_max)
        producer._sender = WholeSender.replacing(producer)  # noqa: SLF001 - the driver has no other way
        self._producer = producer
        try:
            async with asyncio.timeout(self._seconds_max):
                await producer.start()
                await see_topics(producer, topics, sources)
        except (KafkaError, TimeoutError, OSError) as error:
            await self.discard()
            raise Transient(f"no producer for {', '.join(topics)}: {type(error).__name__}: {error}") from error

    async def send(self, outgoing: Sequence[Outgoing], timestamp: int) -> None:
        """Write the records, stamped with `timestamp` (milliseconds); return when all are there."""
        producer = self._producer
        if producer is None:
            raise Transient("the producer was discarded")
        batches = packed(outgoing, timestamp, self._batch_bytes_max, transactional=False)
        try:
            async with asyncio.timeout(self._seconds_max):
                sent = [
                    await producer.send_batch(batch, topic, partition=partition)
                    for (topic, partition), batch in batches
                ]
                await asyncio.gather(*sent)
        except (KafkaError, TimeoutError, OSError) as error:
            places = ", ".join(f"{each.topic}/{each.partition}" for each in outgoing)
            raise Transient(f"records may be missing in {places}: {type(error).__name__}: {error}") from error

    async def discard(self, seconds_max: float = 2.0) -> None:
        """Drop the producer."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await closed(producer, seconds_max)


class PartitionSends:
    """What PartitionTransactions is, without transactions: whoever dies between answers and offset answers again.

    Nobody is fenced either: while a partition changes hands two may answer it. Any failure raises Transient, and the
    object must be discarded.
    """

    def __init__(
        self,
        settings: PlatformSettings,
        sources: Sequence[TopicPartition],
        seconds_max: float,
        batch_bytes_max: int,
        position: Position,
    ) -> None:
        self._sources = tuple(sources)
        self._position = position
        self._sends = Sends(settings, seconds_max, batch_bytes_max)

    async def start(self, topics: Sequence[str]) -> None:
        """Connect; raises Transient while Kafka is away or a topic is missing."""
        await self._sends.start(topics, self._sources)

    async def commit(self, encode: Encode, offsets: Offsets, timestamp: int) -> None:
        """Write the records, wait until all are there, then move the group's offsets; each within `seconds_max`."""
        await self._sends.send(encode(), timestamp)
        await self._position(offsets)

    async def confirm(self) -> None:
        """Return: what was acknowledged can be read."""

    async def discard(self, seconds_max: float = 2.0) -> None:
        """Drop the producer."""
        await self._sends.discard(seconds_max)
