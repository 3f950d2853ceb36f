"""A broker killed between the decision of a transaction and its markers: it comes back and gives the markers up."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as Place

from interlock import embedded
from interlock.errors import Transient
from interlock.kafka.admin import ensure_topics
from interlock.kafka.partition import TopicPartition
from interlock.kafka.prepared import Record
from interlock.kafka.transaction import Doubtful, Outgoing, PartitionTransactions
from interlock.kafka.transaction_sender import Doubt
from interlock.schemas import endpoint_topics
from interlock.settings import PlatformSettings
from tests.fault.victims import Stack, kill_9, killed_and_back, until

pytestmark = [pytest.mark.fault, pytest.mark.timeout(240)]

ENDPOINT = "markers"
GROUP = "router-of-markers"
SOURCE = TopicPartition(f"{ENDPOINT}.requests", 0)
RESULTS, DEAD_LETTERS = f"{ENDPOINT}.results", f"{ENDPOINT}.dead-letters"
ROUNDS = 5
ROWS = 10
OPEN_SECONDS_MAX = 3.0
BACK_SECONDS_MAX = 60.0
BALLAST = "markers.ballast"
BALLAST_PARTITIONS = 200
TIMESTAMP = 1_700_000_000_000


class Wide(PartitionTransactions):
    """Transactions that many other partitions take part in, so that writing the markers takes a while."""

    async def _fill(self, producer: Any, batches: Any, offsets: Any) -> None:
        ballast = [await producer.send(BALLAST, b"-", partition=number) for number in range(BALLAST_PARTITIONS)]
        await super()._fill(producer, batches, offsets)
        await asyncio.gather(*ballast)


class CutOff(Wide):
    """A life that ends in its seal: before anything joined it, or when only its end is missing."""

    joins = False

    async def _seal(self, producer: Any, topics: Any, *, commit: bool) -> None:
        if self.joins:

            async def cut(result: Any) -> None:
                raise Doubt("cut off")

            producer._sender._do_txn_commit = cut
            await super()._seal(producer, topics, commit=commit)
        raise Transient("cut off")


def _consumer(settings: PlatformSettings, isolation: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": settings.kafka_bootstrap_servers,
            "group.id": GROUP,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": isolation,
            "log_level": 0,
        }
    )


def _read(settings: PlatformSettings, isolation: str = "read_committed") -> list[bytes]:
    """Return all values of the results as a consumer of that isolation sees them."""
    consumer = _consumer(settings, isolation)
    consumer.assign([Place(RESULTS, 0, OFFSET_BEGINNING)])
    values: list[bytes] = []
    while True:
        message = consumer.poll(10.0)
        assert message is not None
        if message.error():
            consumer.close()
            return values
        values.append(message.value() or b"")


def _committed(settings: PlatformSettings) -> int | None:
    """Return the group's offset; None while a transaction about it is open, for as long as one may wait."""
    consumer = _consumer(settings, "read_committed")
    try:
        [found] = consumer.committed([Place(SOURCE.topic, SOURCE.partition)], OPEN_SECONDS_MAX)
    except KafkaException as error:
        if error.args[0].code() != KafkaError._TIMED_OUT:
            raise
        return None
    finally:
        consumer.close()
    return int(found.offset)


async def _killed_after_commit(stack: Stack, transactions: PartitionTransactions, first: int) -> None:
    """Commit ten results and kill the broker the moment it has promised them."""
    records: list[Record] = [(b"key", b"%d" % number, []) for number in range(first, first + ROWS)]
    await transactions.commit(lambda: [Outgoing(RESULTS, 0, records)], {SOURCE: first + ROWS}, TIMESTAMP)
    await killed_and_back(stack, "kafka", BACK_SECONDS_MAX)


async def test_transaction_whose_markers_were_given_up_is_brought_to_its_decided_end(tmp_path: Path) -> None:
    """Five times, at the worst moment: after the next start what was promised is visible, once, and its offset stands.

    Without `_seal` the offset stays where it was, and the next commit makes the results visible that it repeats.
    In every second round the next life, and the one after it, are cut off in their seals: without the notes the third
    would abort what was promised.
    """
    with embedded.running(tmp_path / "home", ("kafka",)) as environment:
        stack = Stack(environment)
        settings = PlatformSettings(kafka_bootstrap_servers=environment["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"])
        topics = endpoint_topics(ENDPOINT, 1)
        await ensure_topics(
            settings, (*topics, msgspec.structs.replace(topics[0], name=BALLAST, partitions=BALLAST_PARTITIONS))
        )
        given_up = [0, 0]
        for round_number in range(ROUNDS):
            transactions = Wide(settings, GROUP, [SOURCE], 30.0, 2**20)
            await transactions.start((RESULTS, DEAD_LETTERS))
            promised = round_number * ROWS
            assert await asyncio.to_thread(_read, settings) == [b"%d" % number for number in range(promised)]
            if promised:
                assert await asyncio.to_thread(_committed, settings) == promised
            await _killed_after_commit(stack, transactions, promised)
            await transactions.discard()
            results_given_up = len(await asyncio.to_thread(_read, settings)) == promised
            if results_given_up or await asyncio.to_thread(_committed, settings) is None:
                given_up[round_number % 2] += 1
            for joins in (False, True) if round_number % 2 else ():
                cut_off = CutOff(settings, GROUP, [SOURCE], 30.0, 2**20)
                cut_off.joins = joins
                with pytest.raises(Transient, match="cut off"):
                    await cut_off.start((RESULTS, DEAD_LETTERS))
                await cut_off.discard()
        assert all(given_up), "the moment was never hit: this proves nothing"


async def test_commit_that_nobody_can_see_is_noticed_by_an_idle_lane(tmp_path: Path) -> None:
    """`confirm` after such a kill raises Doubtful or says truly that the results are visible."""
    with embedded.running(tmp_path / "home", ("kafka",)) as environment:
        stack = Stack(environment)
        settings = PlatformSettings(kafka_bootstrap_servers=environment["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"])
        await ensure_topics(settings, endpoint_topics(ENDPOINT, 1))
        transactions = PartitionTransactions(settings, GROUP, [SOURCE], 10.0, 2**20)
        await transactions.start((RESULTS, DEAD_LETTERS))
        pid = stack.pid("kafka")
        await transactions.commit(lambda: [Outgoing(RESULTS, 0, [(b"key", b"0", [])])], {SOURCE: 1}, TIMESTAMP)
        kill_9(pid)
        with pytest.raises(Doubtful):
            await transactions.confirm()
        await transactions.discard()
        await until(lambda: stack.is_back("kafka", pid), BACK_SECONDS_MAX, "Kafka is back")
        again = PartitionTransactions(settings, GROUP, [SOURCE], 10.0, 2**20)
        await again.start((RESULTS, DEAD_LETTERS))
        await again.confirm()
        assert await asyncio.to_thread(_read, settings) == [b"0"]
        await again.discard()
