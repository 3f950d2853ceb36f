"""A transactional producer for one input partition: records and the offset that caused them, both or neither.

Safety rests on five rules: one transactional id per input partition (InitProducerId fences whoever held it), a new
epoch for each transaction (what comes late from one cannot touch the next: see `transaction_sender`), nothing
indefinite is ever retried with the same producer, what a broker left half done when it crashed is brought to the end
that was decided (see `takeover`), and the committed offset, read after all this, is the witness of what the
last transaction did.
"""

# ruff: noqa: SLF001 - the driver keeps to itself what a seal needs

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
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
    """Another producer took over this partition; stop until it is assigned anew."""


class Doubtful(Transient):
    """Nobody knows whether the transaction happened; only a new producer and the committed offset will tell."""


@dataclass(frozen=True)
class Outgoing:
    """Records for one topic; they go to the partition of the same number as the requests."""

    topic: str
    records: Sequence[Record] | Rows


def packed(
    outgoing: Sequence[Outgoing], timestamp: int, bytes_max: int, *, transactional: bool = True
) -> list[tuple[str, Prepared]]:
    """Return the record batches to be written, each with its topic; `timestamp` (milliseconds) stamps every record."""
    return [
        (each.topic, batch)
        for each in outgoing
        for batch in prepared(each.records, timestamp, bytes_max, transactional=transactional)
    ]


Encode = Callable[[], Sequence[Outgoing]]
"""Writes the records of a transaction; called once, while their offset is on its way."""


class UsedUp(Transient):
    """A producer has no epoch left; the next life gets a new producer id. Some 30,000 transactions lie between two."""


class Committed(Protocol):
    """Where the committed offsets of the group are read."""

    async def committed(self, partition: TopicPartition) -> int | None:
        """Return the next offset to take, or None where nothing was ever committed."""
        ...


class PartitionTransactions:
    """The transactions of one input partition, one after the other, by one producer that is never mended.

    Any failure between begin and commit raises Doubtful or Fenced, and the object must be discarded.
    """

    def __init__(
        self, settings: PlatformSettings, group: str, source: TopicPartition, seconds_max: float, batch_bytes_max: int
    ) -> None:
        self._group = group
        self._source = source
        self._seconds_max = seconds_max
        self._settings = settings
        self._batch_bytes_max = batch_bytes_max
        self._producer: AIOKafkaProducer | None = None

    @property
    def family(self) -> str:
        """What the transactional ids of all who may own the partition begin with."""
        return self._group

    @property
    def transactional_id(self) -> str:
        """The name that fences: whoever starts a producer with it later owns the partition."""
        return f"{self.family}.{self._source.topic}.{self._source.partition}"

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
        sender.notes = SealNotes(self.family, self._source)
        self._producer = producer
        try:
            async with asyncio.timeout(self._seconds_max):
                await producer.start()
                await see_topics(producer, topics, self._source.partition)
                if sender.before is not Before.NOTHING:
                    await self._seal(producer, topics, commit=sender.before is not Before.ABORTED)
        except (ProducerFenced, InvalidProducerEpoch) as error:
            await self.discard()
            raise Fenced(f"{self.transactional_id} has another owner") from error
        except (KafkaError, TimeoutError, OSError) as error:
            await self.discard()
            raise Transient(f"no producer for {self.transactional_id}: {said(error)}") from error
        return sender.before

    async def commit(self, encode: Encode, next_offset: int, timestamp: int) -> None:
        """Write the records and the offset in one transaction; every wait in it is bounded by `seconds_max`.

        `timestamp` (milliseconds) stamps every record. Raises Fenced where another owner appeared, UsedUp where the
        producer may commit no more, else Doubtful.
        """
        await self._commit(lambda: packed(encode(), timestamp, self._batch_bytes_max), next_offset)

    async def _commit(self, batches: Callable[[], Sequence[tuple[str, Any]]], next_offset: int) -> None:
        """Write record batches, the driver's or prepared ones, and the offset in one transaction."""
        producer = self._running()
        if producer._sender.used_up:
            await self.confirm()
            raise UsedUp(f"the epochs of {self.transactional_id} are used up")
        try:
            async with asyncio.timeout(self._seconds_max):
                await producer.begin_transaction()
                await self._fill(producer, batches, next_offset)
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
            for topic in topics:
                producer._txn_manager.maybe_add_partition_to_txn(TopicPartition(topic, self._source.partition))
            await producer._sender.join_group(self._group)
            await (producer.commit_transaction() if commit else producer.abort_transaction())
        await settled(producer)

    async def _fill(
        self, producer: AIOKafkaProducer, batches: Callable[[], Sequence[tuple[str, Any]]], next_offset: int
    ) -> None:
        """Send the offset and all batches, and wait until each is acknowledged.

        A failed batch must surface here: the driver's own commit waits for batches but does not look at their errors.
        """
        offset = {self._source: OffsetAndMetadata(next_offset, "")}
        waiting = [asyncio.ensure_future(producer.send_offsets_to_transaction(offset, self._group))]
        try:
            await self._under_way(producer, waiting[0])
            partition = self._source.partition
            waiting += [await producer.send_batch(batch, topic, partition=partition) for topic, batch in batches()]
            await asyncio.gather(*waiting)
        finally:
            for each in waiting:
                each.cancel()
            mark_seen(*waiting)
            for _, _, pending in producer._txn_manager._pending_txn_offsets:
                pending.add_done_callback(mark_seen)  # the driver shields it from who no longer waits

    async def _under_way(self, producer: AIOKafkaProducer, offset: asyncio.Future[Any]) -> None:
        """Wait until the offset is sent: what follows holds the event loop for as long as an answer takes."""
        sent = asyncio.ensure_future(producer._sender.offset_under_way.wait())
        try:
            await asyncio.wait({offset, sent}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sent.cancel()
            producer._sender.offset_under_way.clear()

    def _running(self) -> AIOKafkaProducer:
        if self._producer is None:
            raise Doubtful(f"the producer of {self.transactional_id} was discarded")
        return self._producer


async def see_topics(producer: AIOKafkaProducer, topics: Sequence[str], partition: int) -> None:
    """Raise Transient, with its name, for a topic without this partition: the driver would only wait in silence."""
    for topic in topics:
        producer.client.add_topic(topic)
    await producer.client.force_metadata_update()
    for topic in topics:
        if partition not in (producer.client.cluster.partitions_for_topic(topic) or ()):
            raise Transient(f"{topic} has no partition {partition}: the deployer makes it when it starts")
