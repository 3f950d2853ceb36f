"""Bugs of the lane's transactions: what is committed with what, in which order, and by whom."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from aiokafka.producer.sender import Sender

from interlock.kafka import transaction
from interlock.kafka.producer import make_producer
from interlock.kafka.transaction import Doubtful, Encode, Offsets
from tests.rig.patching import records_of, spoil

_TRANSACTIONS: Final = "interlock.kafka.transaction:PartitionTransactions"
_SENDER: Final = "interlock.kafka.transaction_sender"
_SECOND_WAIT_SECONDS: Final = 0.5
_ABORTED: Final = 3

Inner = Callable[..., Awaitable[Any]]


def commit_before_send() -> None:
    """The offset goes in a transaction of its own, before that of the results."""

    def planted(inner: Inner) -> Inner:
        async def commit(self: Any, encode: Encode, offsets: Offsets, timestamp: int) -> None:
            await inner(self, list, offsets, timestamp)
            await inner(self, encode, offsets, timestamp)

        return commit

    spoil(f"{_TRANSACTIONS}.commit", planted)


def offsets_before_the_transaction() -> None:
    """At most once: the group's offset is committed as consumers do, then the results are written."""
    members = _members()
    _without_offsets()

    def planted(inner: Inner) -> Inner:
        async def commit(self: Any, encode: Encode, offsets: Offsets, timestamp: int) -> None:
            await members[-1]._consumer.commit(dict(offsets))
            await inner(self, encode, offsets, timestamp)

        return commit

    spoil(f"{_TRANSACTIONS}.commit", planted)


def offsets_after_the_transaction() -> None:
    """At least once: the results are written, then the group's offset is committed as consumers do."""
    members = _members()
    _without_offsets()

    def planted(inner: Inner) -> Inner:
        async def commit(self: Any, encode: Encode, offsets: Offsets, timestamp: int) -> None:
            await inner(self, encode, offsets, timestamp)
            await members[-1]._consumer.commit(dict(offsets))

        return commit

    spoil(f"{_TRANSACTIONS}.commit", planted)


def offsets_outside_the_transaction() -> None:
    """The same; nobody dies, and it must show all the same."""
    offsets_after_the_transaction()


def offsets_of_every_other_batch() -> None:
    """Every second transaction has no offset."""
    count = 0

    def planted(inner: Inner) -> Inner:
        async def fill(self: Any, producer: Any, batches: Any, offsets: Offsets) -> None:
            nonlocal count
            count += 1
            await (inner if count % 2 else _fill_without_offsets)(self, producer, batches, offsets)

        return fill

    spoil(f"{_TRANSACTIONS}._fill", planted)


def offset_one_too_far() -> None:
    """The offset committed is that behind the next request."""
    _shift(1)


def offset_one_too_near() -> None:
    """The offset committed is that of the last request."""
    _shift(-1)


def at_least_once_where_exactly_once_is_asked_for() -> None:
    """The lane takes the other guarantee: no transactions at all."""

    def planted(inner: Any) -> Any:
        def transactions(self: Any) -> Any:
            self._settings = self._settings.model_copy(update={"guarantee": "at_least_once"})
            return inner(self)

        return transactions

    spoil("interlock_router.lane:Lane._transactions", planted)


def one_replica_is_enough() -> None:
    """Records count as written once the leader alone has them (acks=1)."""

    def planted(inner: Any) -> Any:
        def replacing(producer: Any) -> Any:
            sender = inner(producer)
            sender._acks = 1
            return sender

        return staticmethod(replacing)

    spoil(f"{_SENDER}:TransactionSender.replacing", planted)


def abort_taken_for_commit() -> None:
    """A transaction is aborted, and the lane goes on as if it had happened."""
    count = 0

    def planted(inner: Inner) -> Inner:
        async def commit(self: Any) -> None:
            nonlocal count
            count += 1
            await (self.abort_transaction() if count == _ABORTED else inner(self))

        return commit

    spoil("aiokafka:AIOKafkaProducer.commit_transaction", planted)


def batches_committed_out_of_order() -> None:
    """Of two batches that are scored the second is committed first."""

    def planted(inner: Inner) -> Inner:
        async def following(self: Any, transactions: Any, scored: asyncio.Queue[Any]) -> Any:
            if (kept := self.__dict__.pop("_kept", None)) is not None:
                return kept
            first = await inner(self, transactions, scored)
            if first is None:
                return None
            try:
                second = await asyncio.wait_for(scored.get(), _SECOND_WAIT_SECONDS)
            except TimeoutError:
                return first
            if second is None:
                scored.put_nowait(None)
                return first
            self._kept = first
            return second

        return following

    spoil("interlock_router.lane:Lane._next", planted)


def results_in_another_partition() -> None:
    """Results go to the partition behind the request's."""

    def planted(inner: Inner) -> Inner:
        async def send(self: Any, batch: Any, topic: str, *, partition: int) -> Any:
            elsewhere = (partition + 1) % len(self.client.cluster.partitions_for_topic(topic))
            return await inner(self, batch, topic, partition=elsewhere if topic.endswith(".results") else partition)

        return send

    spoil("aiokafka:AIOKafkaProducer.send_batch", planted)


def random_transactional_id() -> None:
    """No fencing: each producer has a name that nobody else will ever use."""
    spoil(f"{_TRANSACTIONS}.transactional_id", lambda _: property(lambda self: f"{self._sources}-{_name_of(self)}"))


def committed_read_before_the_fence() -> None:
    """The committed offset is read, and only then the owner before is fenced."""
    lanes: list[Any] = []
    read: dict[Any, int | None] = {}

    def noted(inner: Any) -> Any:
        def begin(self: Any, *arguments: Any) -> None:
            lanes.append(self)
            inner(self, *arguments)

        return begin

    def started(inner: Inner) -> Inner:
        async def start(self: Any, topics: Sequence[str]) -> None:
            read.update({source: await asked(lanes[-1], source) for source in self._sources})
            await inner(self, topics)

        return start

    def committed(inner: Inner) -> Inner:
        async def remembered(self: Any, partition: Any) -> int | None:
            return read[partition]

        return remembered

    asked = spoil("interlock_router.lanes:Lanes._committed", committed)
    spoil("interlock_router.lanes:Lanes.__init__", noted)
    spoil(f"{_TRANSACTIONS}.start", started)


def doubt_repeated_without_the_witness() -> None:
    """After a doubt the batch is taken for undone: the lane goes on from what it knows, not from what Kafka knows."""
    known: dict[Any, int | None] = {}

    def committed(inner: Inner) -> Inner:
        async def remembered(self: Any, partition: Any) -> int | None:
            if partition not in known:
                known[partition] = await inner(self, partition)
            return known[partition]

        return remembered

    def planted(inner: Inner) -> Inner:
        async def commit(self: Any, encode: Encode, offsets: Offsets, timestamp: int) -> None:
            await inner(self, encode, offsets, timestamp)
            known.update(offsets)

        return commit

    spoil("interlock_router.lanes:Lanes._committed", committed)
    spoil(f"{_TRANSACTIONS}.commit", planted)


def producer_reused_after_doubt() -> None:
    """After a doubt the lane goes on with the producer id and epoch that it had, and begins a transaction anew."""
    known: dict[str, Any] = {}

    def planted(inner: Inner) -> Inner:
        async def start(self: Any) -> None:
            manager = self._txn_manager
            before = known.get(manager.transactional_id)
            if before is None:
                await inner(self)
            else:
                manager._sequence_numbers = before._sequence_numbers
                manager.set_pid_and_epoch(before.producer_id, before.producer_epoch)
                await Sender.start(self)
            known[manager.transactional_id] = manager

        return start

    spoil(f"{_SENDER}:TransactionSender.start", planted)


def doubt_taken_for_success() -> None:
    """After a doubt the batch is taken for done: a new producer goes on behind it."""

    def planted(inner: Inner) -> Inner:
        async def commit(self: Any, encode: Encode, offsets: Offsets, timestamp: int) -> None:
            try:
                await inner(self, encode, offsets, timestamp)
            except Doubtful:
                topics = {each.topic for each in encode()}
                await self.discard()
                await self.start(topics)

        return commit

    spoil(f"{_TRANSACTIONS}.commit", planted)


def observation_outside_the_transaction() -> None:
    """The observation is sent by a producer without transactions."""
    _send_outside(".observations")


def dead_letter_outside_the_transaction() -> None:
    """Dead letters are sent by a producer without transactions."""
    _send_outside(".dead-letters")


def digest_outside_the_transaction() -> None:
    """The batch's digest is sent by a producer without transactions."""
    _send_outside(".batches")


def _members() -> list[Any]:
    """Remember every member of the group, for who commits by itself."""
    members: list[Any] = []

    def planted(inner: Any) -> Any:
        def begin(self: Any, *arguments: Any) -> None:
            members.append(self)
            inner(self, *arguments)

        return begin

    spoil("interlock.kafka.member:Member.__init__", planted)
    return members


def _without_offsets() -> None:
    spoil(f"{_TRANSACTIONS}._fill", lambda _: _fill_without_offsets)


async def _fill_without_offsets(self: Any, producer: Any, batches: Any, offsets: Offsets) -> None:
    sent = [await producer.send_batch(builder, topic, partition=partition) for (topic, partition), builder in batches()]
    await asyncio.gather(*sent)


def _shift(rows: int) -> None:
    def planted(inner: Inner) -> Inner:
        async def commit(self: Any, encode: Encode, offsets: Offsets, timestamp: int) -> None:
            await inner(self, encode, {source: offset + rows for source, offset in offsets.items()}, timestamp)

        return commit

    spoil(f"{_TRANSACTIONS}.commit", planted)


def _send_outside(suffix: str) -> None:
    """Have the records of one topic sent before the transaction, by a plain producer."""
    producers: list[Any] = []

    def planted(inner: Inner) -> Inner:
        async def commit(self: Any, encode: Encode, offsets: Offsets, timestamp: int) -> None:
            if not producers:
                producers.append(make_producer(self._settings))
                await producers[0].start()
            outgoing = encode()
            for each in outgoing:
                for key, value, headers in records_of(each) if each.topic.endswith(suffix) else ():
                    await producers[0].send_and_wait(
                        each.topic, value, key, each.partition, headers=headers, timestamp_ms=timestamp
                    )
            inside = [each for each in outgoing if not each.topic.endswith(suffix)]
            await inner(self, lambda: inside, offsets, timestamp)

        return commit

    spoil(f"{_TRANSACTIONS}.commit", planted)


def _name_of(transactions: transaction.PartitionTransactions) -> str:
    """Return a random name that stays with its object."""
    return str(transactions.__dict__.setdefault("_random_name", uuid.uuid4().hex))
