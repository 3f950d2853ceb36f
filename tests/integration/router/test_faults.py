"""The exactly-once contract under faults: lanes that die mid-transaction, zombies, owners that change, servers away."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from interlock.errors import Transient
from interlock.kafka.transaction import Doubtful, Fenced, Outgoing, PartitionTransactions
from interlock.kafka.transaction_sender import TransactionSender
from tests.integration.router.rig import Rig, RunningRouter, exactly_once, sums

STEPS = ("begun", "sent", "offsets", "committed")


class Interrupted(PartitionTransactions):
    """Transactions that fail at a named step, each producer once, a given number of times in all."""

    step = ""
    left = 0

    async def _fill(self, producer: Any, batches: Any, offsets: Any) -> None:
        self._fail("begun")
        if self.step == "sent" and self.left:
            for (topic, partition), builder in batches():
                await (await producer.send_batch(builder, topic, partition=partition))
            self._fail("sent")
        await super()._fill(producer, batches, offsets)
        self._fail("offsets")

    async def commit(self, encode: Any, offsets: Any, timestamp: int) -> None:
        await super().commit(encode, offsets, timestamp)
        try:
            self._fail("committed")
        except KafkaError as error:  # the commit happened, and nobody heard of it
            raise Doubtful("the answer was lost") from error

    def _fail(self, step: str) -> None:
        if type(self).step == step and type(self).left:
            type(self).left -= 1
            raise KafkaError(f"cut off when {step}")


async def _answers_a_thousand(rig: Rig) -> None:
    """Have a router answer a thousand requests, and see that each was answered exactly once."""
    rig.serving.add("m", 1)
    rig.route((1, 10_000))
    rig.produce([rig.value(number) for number in range(1000)])
    async with RunningRouter(rig, batch_rows_max=100):
        results = await rig.results(1000)
    exactly_once(results, 1000)


@pytest.mark.parametrize("step", STEPS)
async def test_a_lane_cut_off_at_any_step_of_a_transaction_repeats_or_skips_it_rightly(
    rig: Rig, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off four times before and after the point of no return: nothing lost, nothing twice, nothing aborted seen."""
    monkeypatch.setattr("interlock_router.lane.PartitionTransactions", Interrupted)
    Interrupted.step, Interrupted.left = step, 4
    await _answers_a_thousand(rig)
    assert Interrupted.left == 0


async def test_a_lane_whose_epochs_are_used_up_goes_on_with_a_new_producer(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every few transactions, in place of every 32,766: nothing lost, nothing twice."""
    found: list[int] = []

    def used_up(sender: TransactionSender) -> bool:
        found.append(sender._txn_manager.producer_epoch)
        return bool(found[-1] % 4 == 3)

    monkeypatch.setattr(TransactionSender, "used_up", property(used_up))
    await _answers_a_thousand(rig)
    assert sum(epoch % 4 == 3 for epoch in found) >= 1 and len(set(found)) >= 3


async def test_a_batch_that_kafka_refuses_takes_its_offsets_with_it(rig: Rig) -> None:
    """A record larger than the topic takes fails the whole transaction: the offset does not move without the result."""
    source = TopicPartition(rig.topic("requests"), 0)
    transactions = PartitionTransactions(rig.settings, rig.settings.group, [source], 10.0, 2**20)
    await transactions.start([rig.topic("results")])
    with pytest.raises(Doubtful):
        await transactions.commit(
            lambda: [Outgoing(rig.topic("results"), 0, [(b"k", bytes(3 * 2**20), [])])], {source: 5}, 1_700_000_000_000
        )
    await transactions.discard()
    again = PartitionTransactions(rig.settings, rig.settings.group, [source], 10.0, 2**20)
    await again.start([rig.topic("results")])
    assert await _committed(rig, source) is None
    await again.commit(lambda: [Outgoing(rig.topic("results"), 0, [(b"k", b"v", [])])], {source: 7}, 1_700_000_000_000)
    assert await _committed(rig, source) == 7
    await again.discard()
    assert [record.value() for record in rig.read("results", 1)] == [b"v"]


async def test_a_zombie_is_fenced_and_none_of_its_output_is_seen(rig: Rig) -> None:
    """An owner that comes back after another one started can neither finish its transaction nor begin one."""
    source = TopicPartition(rig.topic("requests"), 0)
    bounds = (rig.settings, rig.settings.group, [source], 10.0, 2**20)
    zombie = PartitionTransactions(*bounds)
    await zombie.start([rig.topic("results")])
    await zombie.commit(
        lambda: [Outgoing(rig.topic("results"), 0, [(b"k", b"first", [])])], {source: 1}, 1_700_000_000_000
    )
    owner = PartitionTransactions(*bounds)
    await owner.start([rig.topic("results")])
    with pytest.raises((Fenced, Doubtful)):
        await zombie.commit(
            lambda: [Outgoing(rig.topic("results"), 0, [(b"k", b"zombie", [])])], {source: 2}, 1_700_000_000_000
        )
    await owner.commit(
        lambda: [Outgoing(rig.topic("results"), 0, [(b"k", b"second", [])])], {source: 2}, 1_700_000_000_000
    )
    await zombie.discard()
    await owner.discard()
    assert [record.value() for record in rig.read("results", 2)] == [b"first", b"second"]
    assert await _committed(rig, source) == 2


async def test_two_routers_share_the_partitions_and_one_takes_over_when_the_other_goes(rig: Rig) -> None:
    """A second router joins and leaves in mid-stream; every request is answered once, and each owned some."""
    rig.serving.add("m", 1)
    rig.route((1, 10_000))
    async with RunningRouter(rig, lane_partitions=1) as first:
        await asyncio.to_thread(rig.produce, [rig.value(number) for number in range(500)])
        async with RunningRouter(rig, lane_partitions=1) as second:
            await _until(lambda: bool(second.lanes._lanes))
            await asyncio.to_thread(rig.produce, [rig.value(number) for number in range(500, 1000)])
            await _until(lambda: len(first.lanes._lanes) == 1)
            await rig.results(1000)
        await asyncio.to_thread(rig.produce, [rig.value(number) for number in range(1000, 1500)])
        results = await rig.results(1500)
        assert len(first.lanes._lanes) == 2
    exactly_once(results, 1500)


async def test_a_stop_finishes_the_batch_in_hand_and_loses_nothing(rig: Rig) -> None:
    """Routers started and drained five times in the middle of a backlog leave no hole and no double."""
    rig.serving.add("m", 1, _slowly)
    rig.route((1, 10_000))
    rig.produce([rig.value(number) for number in range(2000)])
    for calls in range(2, 12, 2):
        async with RunningRouter(rig, batch_rows_max=100):
            await _until(lambda calls=calls: len(rig.serving.calls) >= calls)
    async with RunningRouter(rig):
        results = await rig.results(2000)
    exactly_once(results, 2000)


async def test_a_router_that_would_make_other_lanes_is_refused_by_name(rig: Rig) -> None:
    """Lanes of one partition beside lanes of two could not fence one another: Kafka lets only one kind in."""
    rig.serving.add("m", 1)
    rig.route((1, 10_000))
    async with RunningRouter(rig, lane_partitions=2) as first:
        await _until(lambda: bool(first.lanes._lanes))
        other = RunningRouter(rig, lane_partitions=1)
        with pytest.raises(Transient, match="INTERLOCK_LANE_PARTITIONS"):
            await asyncio.wait_for(other.lanes.run(), 20)
        await other.schemas.close()
        await asyncio.to_thread(rig.produce, [rig.value(number) for number in range(100)])
        exactly_once(await rig.results(100), 100)


async def _slowly(matrix: Any) -> Any:
    await asyncio.sleep(0.05)
    return await sums(matrix, 1)


async def _committed(rig: Rig, source: TopicPartition) -> int | None:
    from confluent_kafka import Consumer
    from confluent_kafka import TopicPartition as Partition

    consumer = Consumer({"bootstrap.servers": rig.settings.kafka_bootstrap_servers, "group.id": rig.settings.group})
    [found] = await asyncio.to_thread(consumer.committed, [Partition(source.topic, source.partition)], 10)
    consumer.close()
    return found.offset if found.offset >= 0 else None


async def _until(condition: Any, seconds_max: float = 15.0) -> None:
    async with asyncio.timeout(seconds_max):
        while not condition():
            await asyncio.sleep(0.02)
