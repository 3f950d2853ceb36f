"""A transactional producer for a lane's input partitions: records and the offsets that caused them, all or none.

Safety rests on five rules: one transactional id per lane (InitProducerId fences whoever held it), a new
epoch for each transaction (what comes late from one cannot touch the next: see `transaction_sender`), nothing
indefinite is ever retried with the same producer, what a broker left half done when it crashed is brought to the end
that was decided (see `takeover`), and the committed offsets, read after all this, are the witnesses of what the
last transaction did.
"""

# ruff: noqa: SLF001 - the driver keeps to itself what a seal needs

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import IllegalOperation, InvalidProducerEpoch, KafkaError, ProducerFenced
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from interlock.errors import InterlockError, Transient
from interlock.kafka import LANE_TRANSACTION_TIMEOUT_MILLISECONDS
from interlock.kafka.closing import ended
from interlock.kafka.prepared import Prepared, Record, Rows, prepared
from interlock.kafka.producer import make_producer
from interlock.kafka.seal_notes import SealNotes
from interlock.kafka.takeover import Before
from interlock.kafka.transaction_sender import TransactionSender, mark_seen, said
from interlock.kafka.transaction_state import settled
from interlock.settings import PlatformSettings

AWAY_RETRY_MILLISECONDS = 100
"""How soon to ask again for a broker or a coordinator that is away."""


class Fenced(InterlockError):
    """Another producer took over this lane's partitions; stop until they are assigned anew."""


class Doubtful(Transient):
    """Nobody knows whether the transaction happened; only a new producer and the committed offsets will tell."""


@dataclass(frozen=True)
class Outgoing:
    """Records for one partition, that of the same number as the requests they come of."""

    topic: str
    partition: int
    records: Sequence[Record] | Rows


def packed(
    outgoing: Sequence[Outgoing], timestamp: int, bytes_max: int, *, transactional: bool = True
) -> list[tuple[TopicPartition, Prepared]]:
    """Return the record batches to be written, each with its place; `timestamp` (milliseconds) stamps every record."""
    return [
        (TopicPartition(each.topic, each.partition), batch)
        for each in outgoing
        for batch in prepared(each.records, timestamp, bytes_max, transactional=transactional)
    ]


Encode = Callable[[], Sequence[Outgoing]]
"""Writes the records of a transaction; called once, while their offsets are on their way."""

Offsets = Mapping[TopicPartition, int]
"""The next offset to take of each input partition."""

Batches = Callable[[], Sequence[tuple[TopicPartition, Any]]]


class UsedUp(Transient):
    """A producer has no epoch left; the next life gets a new producer id. Some 30,000 transactions lie between two."""


class Committed(Protocol):
    """Where the committed offsets of the group are read."""

    async def committed(self, partition: TopicPartition) -> int | None:
        """Return the next offset to take, or None where nothing was ever committed."""
        ...


class PartitionTransactions:
    """The transactions of one lane's input partitions, one after the other, by one producer that is never mended.

    Any failure between begin and commit raises Doubtful or Fenced, and the object must be discarded.
    """

    def __init__(
        self,
        settings: PlatformSettings,
        group: str,
        sources: Sequence[TopicPartition],
        seconds_max: float,
        batch_bytes_max: int,
    ) -> None:
        """`sources` are partitions of one topic; the first names the lane, whatever else it owns."""
        self._group = group
        self._sources = tuple(sources)
        self._seconds_max = seconds_max
        self._settings = settings
        self._batch_bytes_max = batch_bytes_max
        self._producer: AIOKafkaProducer | None = None

    @property
    def family(self) -> str:
        """What the transactional ids of all who may own the partitions begin with."""
        return self._group

    @property
    def transactional_id(self) -> str:
        """The name that fences: whoever starts a producer with it later owns the partitions."""
        return f"{self.family}.{self._sources[0].topic}.{self._sources[0].partition}"

    async def start(self, topics: Sequence[str]) -> None:
        """Fence the previous owner and see its last transaction ended, in `topics` and in the group's offsets.

        Raises Transient while Kafka is away or a topic is missing, Fenced where yet another owner appeared meanwhile.
        """
        while await self._take_over(topics) is Before.SEAL:
            await self.discard()

    async def _take_over(self, topics: Sequence[str]) -> Before:
        """Become the owner, or, where the owner before was cut off in its seal, go on with that in its name."""
        producer = make_producer(
            self._settings,
            transactional_id=self.transactional_id,
            transaction_timeout_ms=LANE_TRANSACTION_TIMEOUT_MILLISECONDS,
            max_batch_size=self._batch_bytes_max,
            linger_ms=0,
            retry_backoff_ms=AWAY_RETRY_MILLISECONDS,
        )
        sender = producer._sender = TransactionSender.replacing(producer)
        sender.notes = SealNotes(self.family, self._sources[0])
        self._producer = producer
        try:
            async with asyncio.timeout(self._seconds_max):
                await producer.start()
                await see_topics(producer, topics, self._sources)
                if sender.before is not Before.NOTHING:
                    await self._seal(producer, topics, commit=sender.before is not Before.ABORTED)
        except (ProducerFenced, InvalidProducerEpoch) as error:
            await self.discard()
            raise Fenced(f"{self.transactional_id} has another owner") from error
        except (KafkaError, TimeoutError, OSError) as error:
            await self.discard()
            raise Transient(f"no producer for {self.transactional_id}: {said(error)}") from error
        return sender.before

    async def commit(self, encode: Encode, offsets: Offsets, timestamp: int) -> None:
        """Write the records and the offsets in one transaction; every wait in it is bounded by `seconds_max`.

        `timestamp` (milliseconds) stamps every record. Raises Fenced where another owner appeared, UsedUp where the
        producer may commit no more, else Doubtful.
        """
        await self._commit(lambda: packed(encode(), timestamp, self._batch_bytes_max), offsets)

    async def _commit(self, batches: Batches, offsets: Offsets) -> None:
        """Write record batches, the driver's or prepared ones, and the offsets in one transaction."""
        producer = self._running()
        if producer._sender.used_up:
            await self.confirm()
            raise UsedUp(f"the epochs of {self.transactional_id} are used up")
        try:
            async with asyncio.timeout(self._seconds_max):
                await producer.begin_transaction()
                await self._fill(producer, batches, offsets)
                await producer.commit_transaction()
        except (ProducerFenced, InvalidProducerEpoch) as error:
            raise Fenced(f"{self.transactional_id} has another owner") from error
        except (KafkaError, IllegalOperation, TimeoutError, OSError) as error:
            # IllegalOperation: the driver's sender gave up while records were being handed to it.
            raise Doubtful(f"a transaction of {self.transactional_id} is in doubt: {said(error)}") from error

    async def confirm(self) -> None:
        """Return once the last commit is visible to readers; raises Doubtful when that cannot be learned.

        The next commit waits for the same by itself, so this is for a lane that has nothing more to commit.
        """
        try:
            async with asyncio.timeout(self._seconds_max):
                await settled(self._running())
        except (KafkaError, TimeoutError, OSError) as error:
            raise Doubtful(
                f"the last transaction of {self.transactional_id} may be invisible: {said(error)}"
            ) from error

    async def discard(self, seconds_max: float = 2.0) -> None:
        """Drop the producer without flushing: what it had begun is ended by the broker or by the next owner."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        producer._closed = True
        task = producer._sender.sender_task
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=seconds_max)
        await ended(producer.client.close(), seconds_max)
        mark_seen(task, getattr(producer._txn_manager, "_transaction_waiter", None))

    async def _seal(self, producer: AIOKafkaProducer, topics: Sequence[str], *, commit: bool) -> None:
        """Write the markers of the transaction before once more, as it was decided; where they are, this adds nothing.

        It joins what the transaction before may have joined, and ends without a record of its own.
        """
        with producer._sender.sealing():
            await producer.begin_transaction()
            for place in _places(topics, self._sources):
                producer._txn_manager.maybe_add_partition_to_txn(place)
            await producer._sender.join_group(self._group)
            await (producer.commit_transaction() if commit else producer.abort_transaction())
        await settled(producer)

    async def _fill(self, producer: AIOKafkaProducer, batches: Batches, offsets: Offsets) -> None:
        """Send the offsets and all batches, and wait until each is acknowledged.

        A failed batch must surface here: the driver's own commit waits for batches but does not look at their errors.
        """
        told = {source: OffsetAndMetadata(offset, "") for source, offset in offsets.items()}
        waiting = [asyncio.ensure_future(producer.send_offsets_to_transaction(told, self._group))]
        try:
            await self._under_way(producer, waiting[0])
            for (topic, partition), batch in batches():
                waiting.append(await producer.send_batch(batch, topic, partition=partition))
            await asyncio.gather(*waiting)
        finally:
            for each in waiting:
                each.cancel()
            mark_seen(*waiting)
            for _, _, pending in producer._txn_manager._pending_txn_offsets:
                pending.add_done_callback(mark_seen)  # the driver shields it from who no longer waits

    async def _under_way(self, producer: AIOKafkaProducer, offsets: asyncio.Future[Any]) -> None:
        """Wait until the offsets are sent: what follows holds the event loop for as long as an answer takes."""
        sent = asyncio.ensure_future(producer._sender.offset_under_way.wait())
        try:
            await asyncio.wait({offsets, sent}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sent.cancel()
            producer._sender.offset_under_way.clear()

    def _running(self) -> AIOKafkaProducer:
        if self._producer is None:
            raise Doubtful(f"the producer of {self.transactional_id} was discarded")
        return self._producer


async def see_topics(producer: AIOKafkaProducer, topics: Sequence[str], sources: Sequence[TopicPartition]) -> None:
    """Raise Transient, with its name, for a topic that lacks a partition: the driver would only wait in silence."""
    for topic in topics:
        producer.client.add_topic(topic)
    await producer.client.force_metadata_update()
    for topic, partition in _places(topics, sources):
        if partition not in (producer.client.cluster.partitions_for_topic(topic) or ()):
            raise Transient(f"{topic} has no partition {partition}: the deployer makes it when it starts")


def _places(topics: Sequence[str], sources: Sequence[TopicPartition]) -> list[TopicPartition]:
    """Return where a lane writes: in each topic the partitions of the same numbers as its sources."""
    return [TopicPartition(topic, source.partition) for topic in topics for source in sources]
