"""The driver's sender taught version 2 of the transaction protocol (KIP-890), and to repeat nothing in doubt.

One step of a transaction after the other: the offset joins it while the records are still being written, then the
records do, then it ends, with a new epoch. What comes late names an epoch that is over, and the broker refuses it.
"""

# ruff: noqa: SLF001 - the driver has no public way to say that a lost answer is final

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Final

from aiokafka.client import CoordinationType
from aiokafka.errors import ConcurrentTransactions, KafkaError, OutOfOrderSequenceNumber, ProducerFenced
from aiokafka.producer.sender import (
    AddOffsetsToTxnHandler,
    AddPartitionsToTxnHandler,
    BaseHandler,
    EndTxnHandler,
    InitPIDHandler,
    TxnOffsetCommitHandler,
)
from aiokafka.producer.transaction_manager import PidAndEpoch
from aiokafka.structs import TopicPartition

from interlock.kafka import transaction_requests as requests
from interlock.kafka.produce import ProduceHandler, WholeSender
from interlock.kafka.seal_notes import SealNotes
from interlock.kafka.takeover import Before, Note, take_over
from interlock.kafka.transaction_state import Standing, standing

MARKER_WAIT_SECONDS: Final = 0.003
"""How soon to ask again while the broker still writes the markers of the transaction before."""

EPOCH_LAST: Final = 32_766
"""With this epoch the coordinator would end a transaction under another producer id, which the next life could not
seal; InitProducerId gives the new id in its stead."""

_FENCED: Final = 90
_PRODUCED_AS: Final = 8
"""The version whose answers to a produce request the driver's handler reads, but for tags."""


class Doubt(OutOfOrderSequenceNumber):  # type: ignore[misc]  # the driver has no annotations
    """An indefinite answer to a transactional request; its type makes the driver's sender end without a traceback."""


class _Strict(BaseHandler):  # type: ignore[misc]  # the driver has no annotations
    """Make every indefinite answer final.

    The driver repeats a request whose answer was lost, with the same producer id and epoch. Whoever must know what
    became of the transaction asks for the committed offset instead. Ending the sender fails all that waits, and
    nothing more is sent.
    """

    async def do(self, node_id: int) -> bool:
        try:
            answer = await self._sender.client.send(node_id, self.create_request(), group=self.group)
        except KafkaError as error:
            raise Doubt(f"{type(self).__name__}: {said(error)}") from error
        try:
            backoff = self.handle_response(answer)
        except ProducerFenced:
            raise
        except KafkaError as error:
            raise Doubt(f"{type(self).__name__}: {said(error)}") from error
        if backoff is None:
            return True
        await asyncio.sleep(min(backoff, MARKER_WAIT_SECONDS))
        return False


class _AddPartitions(_Strict, AddPartitionsToTxnHandler):  # type: ignore[misc]  # the driver has no annotations
    pass


class _AddOffsets(_Strict, AddOffsetsToTxnHandler):  # type: ignore[misc]  # the driver has no annotations
    pass


class _AskForProducerId(_Strict, InitPIDHandler):  # type: ignore[misc]  # the driver has no annotations
    """Asked twice, the epoch would not be the one that was noted."""


class _CommitOffsets(_Strict, TxnOffsetCommitHandler):  # type: ignore[misc]  # the driver has no annotations
    def create_request(self) -> requests.CommitOffsets:
        self._sender.offset_under_way.set()
        plain = super().create_request()
        producer = plain._producer_id, plain._producer_epoch
        return requests.CommitOffsets(plain._transactional_id, plain._group_id, producer, plain._topics)

    def handle_response(self, response: Any) -> float | None:
        errors = requests.without_tags(response.errors)
        codes = {code for _, partitions in errors for _, code in partitions}
        if _FENCED in codes:
            raise ProducerFenced
        if ConcurrentTransactions.errno in codes:
            return MARKER_WAIT_SECONDS
        backoff: float | None = super().handle_response(SimpleNamespace(errors=errors))
        return backoff


class _Produce(ProduceHandler):
    """Records join the transaction by being written."""

    request = requests.Produce

    def handle_response(self, response: Any) -> None:
        """Tell the batches what became of them."""
        topics = requests.without_tags(response.topics)
        super().handle_response(SimpleNamespace(API_VERSION=_PRODUCED_AS, topics=topics))

    def _can_retry(self, error: Any, batch: Any) -> bool:
        """Say whether to send a batch again: also where the markers of the transaction before are being written."""
        return isinstance(error, ConcurrentTransactions) or bool(super()._can_retry(error, batch))


class _End(_Strict, EndTxnHandler):  # type: ignore[misc]  # the driver has no annotations
    def create_request(self) -> requests.End:
        plain = super().create_request()
        producer = plain._producer_id, plain._producer_epoch
        return requests.End(plain._transactional_id, producer, bool(plain._transaction_result))

    def handle_response(self, response: Any) -> float | None:
        if response.error_code == _FENCED:
            raise ProducerFenced
        if response.error_code == 0:
            manager = self._sender._txn_manager
            manager._pid_and_epoch = PidAndEpoch(response.producer_id, response.producer_epoch)
            manager._sequence_numbers.clear()
        backoff: float | None = super().handle_response(response)
        return backoff


class TransactionSender(WholeSender):
    """The driver's sender with the strict handlers, and a short pause where the broker only needs a moment."""

    notes: SealNotes
    """Where it is noted what a seal is about to bring to its end."""

    before = Before.NOTHING
    """What became of the last transaction of whoever had the transactional id before."""

    retry_seconds = MARKER_WAIT_SECONDS
    produce_handler = _Produce

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._seals = False
        self.offset_under_way = asyncio.Event()
        """Set where the offset of the transaction that is open was asked to join it."""

    async def start(self) -> None:
        """Take the transactional id over; raises KafkaError, also where the broker is too old."""
        await requests.see_version(self.client)
        self.before = await take_over(self)

    async def standing(self) -> Standing | None:
        """Return how the transactional id stands."""
        return await standing(self)

    async def noted(self) -> Note | None:
        """Return which seal was noted last."""
        return await self.notes.read(self)

    async def note(self, note: Note) -> None:
        """Note a seal."""
        await self.notes.write(self, note)

    async def begin(self) -> tuple[int, int]:
        """Ask for the producer id, and start."""
        await super().start()
        return self._txn_manager.producer_id, self._txn_manager.producer_epoch

    async def begin_as(self, producer_id: int, epoch: int) -> None:
        """Start as a producer that was there before."""
        self._txn_manager.set_pid_and_epoch(producer_id, epoch)
        await super().start()

    @property
    def used_up(self) -> bool:
        """Say whether the producer's epochs are."""
        return bool(self._txn_manager.producer_epoch >= EPOCH_LAST)

    @contextmanager
    def sealing(self) -> Iterator[None]:
        """Let partitions and group join a transaction without records, which version 2 has no way to say."""
        self._seals = True
        try:
            yield
        finally:
            self._seals = False

    async def join_group(self, group: str) -> None:
        """Let the group's offsets take part in the transaction, without committing any."""
        while not await _AddOffsets(self, group).do(await self._transaction_coordinator()):
            pass

    def _maybe_do_transactional_request(self) -> asyncio.Task[Any] | None:
        """Do the next step of the transaction.

        While one is under way the driver holds back records for partitions that have not joined: so offset and records
        join one after the other. Side by side, the broker would refuse one of them for the moment (AddPartitionsToTxn
        that a broker asks of a coordinator displaces the one that waits there for the same producer).
        """
        manager = self._txn_manager
        if partitions := set(manager.partitions_to_add()):
            if self._seals:
                return asyncio.ensure_future(self._join(partitions))
            for partition in partitions:
                manager.partition_added(partition)
        if (group := manager.consumer_group_to_add()) is not None:
            manager.consumer_group_added(group)
        task: asyncio.Task[Any] | None = super()._maybe_do_transactional_request()
        return task

    async def _join(self, partitions: set[TopicPartition]) -> None:
        await _AddPartitions(self, partitions).do(await self._transaction_coordinator())

    async def _do_txn_offset_commit(self, offsets: Any, group_id: str) -> None:
        if offsets:
            node_id = await self._find_coordinator(CoordinationType.GROUP, group_id)
            await _CommitOffsets(self, offsets, group_id).do(node_id)

    async def _do_txn_commit(self, commit_result: Any) -> None:
        await self._message_accumulator.flush_for_commit()
        if self._txn_manager.is_empty_transaction():
            self._txn_manager.complete_transaction()
            return
        await _End(self, commit_result).do(await self._transaction_coordinator())

    async def _do_init_pid(self, node_id: Any) -> bool:
        return bool(await _AskForProducerId(self).do(node_id))

    async def _transaction_coordinator(self) -> Any:
        return await self._find_coordinator(CoordinationType.TRANSACTION, self._txn_manager.transactional_id)


def mark_seen(*futures: asyncio.Future[Any] | None) -> None:
    """Look at the errors that nobody will wait for any more, so that the event loop does not report them."""
    for each in futures:
        if each is not None and each.done() and not each.cancelled():
            each.exception()


def said(error: BaseException) -> str:
    """Return an error in words, its kind first."""
    return f"{type(error).__name__}: {error}".rstrip(": ")
