"""A transactional producer for one input partition: records and the offset that caused them, both or neither.

The driver speaks version 0 of the transaction protocol, so safety rests on four rules: one transactional id per
input partition (InitProducerId fences whoever held it), nothing indefinite is ever retried with the same producer,
what a broker left half done when it crashed is brought to the end that was decided (see `transaction_state`), and
the committed offset, read after all this, is the witness of what the last transaction did.
"""

# ruff: noqa: SLF001 - the driver has no public way to say that a lost answer is final

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.client import CoordinationType
from aiokafka.errors import IllegalOperation, InvalidProducerEpoch, KafkaError, OutOfOrderSequenceNumber, ProducerFenced
from aiokafka.producer.sender import (
    AddOffsetsToTxnHandler,
    AddPartitionsToTxnHandler,
    BaseHandler,
    EndTxnHandler,
    TxnOffsetCommitHandler,
)
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from interlock.errors import InterlockError, Transient
from interlock.kafka.closing import ended
from interlock.kafka.prepared import Prepared, Record, Rows, prepared
from interlock.kafka.produce import WholeSender
from interlock.kafka.producer import make_producer
from interlock.kafka.transaction_state import Decision, decided, settled
from interlock.settings import PlatformSettings

MARKER_WAIT_SECONDS = 0.003
"""How soon to ask again while the broker still writes the markers of the transaction before."""

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
    def transactional_id(self) -> str:
        """The name that fences: whoever starts a producer with it later owns the partition."""
        return f"{self._group}.{self._source.topic}.{self._source.partition}"

    async def start(self, topics: Sequence[str]) -> None:
        """Fence the previous owner and see its last transaction ended, in `topics` and in the group's offsets.

        Raises Transient while Kafka is away or a topic is missing, Fenced where yet another owner appeared meanwhile.
        """
        producer = make_producer(
            self._settings,
            transactional_id=self.transactional_id,
            max_batch_size=self._batch_bytes_max,
            linger_ms=0,
            retry_backoff_ms=AWAY_RETRY_MILLISECONDS,
        )
        sender = producer._sender = _StrictSender.replacing(producer)
        self._producer = producer
        try:
            async with asyncio.timeout(self._seconds_max):
                await producer.start()
                await see_topics(producer, topics, self._source.partition)
                if sender.before is not Decision.NEVER_USED:
                    await self._seal(producer, topics, sender.before)
        except (ProducerFenced, InvalidProducerEpoch) as error:
            await self.discard()
            raise Fenced(f"{self.transactional_id} has another owner") from error
        except (KafkaError, TimeoutError, OSError) as error:
            await self.discard()
            raise Transient(f"no producer for {self.transactional_id}: {_said(error)}") from error

    async def commit(self, outgoing: Sequence[Outgoing], next_offset: int, timestamp: int) -> None:
        """Write the records and the offset in one transaction; every wait in it is bounded by `seconds_max`.

        `timestamp` (milliseconds) stamps every record. Raises Fenced where another owner appeared, else Doubtful.
        """
        await self._commit(packed(outgoing, timestamp, self._batch_bytes_max), next_offset)

    async def _commit(self, batches: Sequence[tuple[str, Any]], next_offset: int) -> None:
        """Write record batches, the driver's or prepared ones, and the offset in one transaction."""
        producer = self._running()
        try:
            async with asyncio.timeout(self._seconds_max):
                await producer.begin_transaction()
                await self._fill(producer, batches, next_offset)
                await producer.commit_transaction()
        except (ProducerFenced, InvalidProducerEpoch) as error:
            raise Fenced(f"{self.transactional_id} has another owner") from error
        except (KafkaError, IllegalOperation, TimeoutError, OSError) as error:
            # IllegalOperation: the driver's sender gave up while records were being handed to it.
            raise Doubtful(f"a transaction of {self.transactional_id} is in doubt: {_said(error)}") from error

    async def confirm(self) -> None:
        """Return once the last commit is visible to readers; raises Doubtful when that cannot be learned.

        The next commit waits for the same by itself, so this is for a lane that has nothing more to commit.
        """
        try:
            async with asyncio.timeout(self._seconds_max):
                await settled(self._running())
        except (KafkaError, TimeoutError, OSError) as error:
            raise Doubtful(
                f"the last transaction of {self.transactional_id} may be invisible: {_said(error)}"
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
        _mark_seen(task, getattr(producer._txn_manager, "_transaction_waiter", None))

    async def _seal(self, producer: AIOKafkaProducer, topics: Sequence[str], before: Decision) -> None:
        """Write the markers of the transaction before once more, as it was decided; where they are, this adds nothing.

        It joins what the transaction before may have joined, and ends without a record of its own.
        """
        await producer.begin_transaction()
        for topic in topics:
            producer._txn_manager.maybe_add_partition_to_txn(TopicPartition(topic, self._source.partition))
        await producer._sender.join_group(self._group)
        await (producer.commit_transaction() if before is Decision.COMMIT else producer.abort_transaction())
        await settled(producer)

    async def _fill(self, producer: AIOKafkaProducer, batches: Sequence[tuple[str, Any]], next_offset: int) -> None:
        """Send all batches and the offset, and wait until each is acknowledged.

        A failed batch must surface here: the driver's own commit waits for batches but does not look at their errors.
        """
        partition = self._source.partition
        offsets = producer.send_offsets_to_transaction({self._source: OffsetAndMetadata(next_offset, "")}, self._group)
        waiting = [asyncio.ensure_future(offsets)]
        try:
            waiting += [await producer.send_batch(batch, topic, partition=partition) for topic, batch in batches]
            await asyncio.gather(*waiting)
        finally:
            for each in waiting:
                each.cancel()
            _mark_seen(*waiting)

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


class _Doubt(OutOfOrderSequenceNumber):  # type: ignore[misc]  # the driver has no annotations
    """An indefinite answer to a transactional request; its type makes the driver's sender end without a traceback."""


class _Strict(BaseHandler):  # type: ignore[misc]  # the driver has no annotations
    """Make every indefinite answer final.

    The driver repeats a request whose answer was lost with the same producer id and epoch; such a late EndTxn or
    TxnOffsetCommit would hit the *next* transaction. Ending the sender fails all that waits, and nothing more is sent.
    """

    async def do(self, node_id: int) -> bool:
        try:
            answer = await self._sender.client.send(node_id, self.create_request(), group=self.group)
        except KafkaError as error:
            raise _Doubt(f"{type(self).__name__}: {_said(error)}") from error
        try:
            backoff = self.handle_response(answer)
        except ProducerFenced:
            raise
        except KafkaError as error:
            raise _Doubt(f"{type(self).__name__}: {_said(error)}") from error
        if backoff is None:
            return True
        await asyncio.sleep(min(backoff, MARKER_WAIT_SECONDS))
        return False


class _AddPartitions(_Strict, AddPartitionsToTxnHandler):  # type: ignore[misc]  # the driver has no annotations
    pass


class _AddOffsets(_Strict, AddOffsetsToTxnHandler):  # type: ignore[misc]  # the driver has no annotations
    pass


class _CommitOffsets(_Strict, TxnOffsetCommitHandler):  # type: ignore[misc]  # the driver has no annotations
    pass


class _EndTransaction(_Strict, EndTxnHandler):  # type: ignore[misc]  # the driver has no annotations
    pass


class _StrictSender(WholeSender):
    """The driver's sender with the strict handlers, and a short pause where the broker only needs a moment."""

    before = Decision.NEVER_USED
    """What was decided about the last transaction of whoever had the transactional id before."""

    retry_seconds = MARKER_WAIT_SECONDS

    async def start(self) -> None:
        """Look how the transactional id stands, then take it over."""
        self.before = await decided(self)
        await super().start()

    async def join_group(self, group: str) -> None:
        """Let the group's offsets take part in the transaction, without committing any."""
        while not await _AddOffsets(self, group).do(await self._transaction_coordinator()):
            pass

    def _maybe_do_transactional_request(self) -> asyncio.Task[Any] | None:
        """Do the next step of the transaction; partitions and group join it side by side, which saves a round trip."""
        manager = self._txn_manager
        joining = []
        if partitions := manager.partitions_to_add():
            joining.append(_AddPartitions(self, set(partitions)))
        if (group := manager.consumer_group_to_add()) is not None:
            joining.append(_AddOffsets(self, group))
        if joining:
            return asyncio.ensure_future(self._join(joining))
        task: asyncio.Task[Any] | None = super()._maybe_do_transactional_request()
        return task

    async def _join(self, requests: list[_Strict]) -> None:
        node_id = await self._transaction_coordinator()
        await asyncio.gather(*(request.do(node_id) for request in requests))

    async def _do_txn_offset_commit(self, offsets: Any, group_id: str) -> None:
        if offsets:
            node_id = await self._find_coordinator(CoordinationType.GROUP, group_id)
            await _CommitOffsets(self, offsets, group_id).do(node_id)

    async def _do_txn_commit(self, commit_result: Any) -> None:
        await self._message_accumulator.flush_for_commit()
        if self._txn_manager.is_empty_transaction():
            self._txn_manager.complete_transaction()
            return
        await _EndTransaction(self, commit_result).do(await self._transaction_coordinator())

    async def _transaction_coordinator(self) -> Any:
        return await self._find_coordinator(CoordinationType.TRANSACTION, self._txn_manager.transactional_id)


def _mark_seen(*futures: asyncio.Future[Any] | None) -> None:
    """Look at the errors that nobody will wait for any more, so that the event loop does not report them."""
    for each in futures:
        if each is not None and each.done() and not each.cancelled():
            each.exception()


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")
