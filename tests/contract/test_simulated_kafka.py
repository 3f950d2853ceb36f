"""The simulated Kafka does what a real one does: the same assertions on both, through the interface that lanes use."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from interlock.errors import Transient
from interlock.ids import uuid7
from interlock.kafka.admin import ensure_topics
from interlock.kafka.member import Member
from interlock.kafka.partition import PartitionReader, TopicPartition
from interlock.kafka.transaction import Doubtful, Encode, Fenced, Outgoing, PartitionTransactions
from interlock.schemas import Topic
from interlock_router.settings import Settings
from tests.simulation.group import Group
from tests.simulation.kafka import Cluster
from tests.simulation.kafka_clients import (
    CLUSTER,
    GROUPS,
    SimulatedMember,
    SimulatedReader,
    SimulatedTransactions,
)
from tests.simulation.loop import VirtualLoop, simulate

AT = 1_767_312_000_000
SECONDS_MAX = 10.0
CUTS = 8
TRIES_MAX = 5


@dataclass(frozen=True)
class Side:
    """A Kafka, and how a lane gets at it."""

    settings: Settings
    transactions: Any
    reader: Any
    member: Any
    requests: str
    results: str
    group: str

    @property
    def source(self) -> TopicPartition:
        return TopicPartition(self.requests, 0)

    def owner(self, *sources: TopicPartition) -> Any:
        """Return a producer for the partitions, the first if none is named; not started."""
        return self.transactions(self.settings, self.group, sources or [self.source], SECONDS_MAX, 100_000)

    async def started(self) -> Any:
        """Return a producer that owns the partition."""
        owner = self.owner()
        await owner.start((self.results,))
        return owner

    async def owning(self, sources: list[TopicPartition]) -> Any:
        """Return a producer that owns a lane's partitions; what the one before sent may still come in between."""
        for _ in range(TRIES_MAX):
            owner = self.owner(*sources)
            try:
                await owner.start((self.results,))
            except Transient:
                continue
            return owner
        raise AssertionError(f"{TRIES_MAX} producers could not take {sources} over")

    def answers(self, *values: bytes) -> Encode:
        """Return results to be written."""
        return lambda: [Outgoing(self.results, 0, [(b"k", value, [("h", b"v")]) for value in values])]

    async def read(self, topic: str | None = None) -> list[bytes]:
        """Return everything that a reader of committed records gets, until none comes."""
        place = TopicPartition(topic or self.results, 0)
        reader = self.reader(self.settings, [place], 1_000_000)
        await reader.start({place: None}, SECONDS_MAX)
        found: list[bytes] = []
        while taken := await reader.take(0.7, 100):
            found += [record.value for each in taken for record in each.records]
        await reader.close()
        return found

    async def witness(self, source: TopicPartition | None = None) -> int | None:
        """Return the group's committed offset of a partition, the first if none is named."""
        member = self.member(self.settings, self.group, 1, _nothing, _nothing)
        await member.start()
        try:
            offset: int | None = await member.committed(source or self.source, SECONDS_MAX)
        finally:
            await member.close()
        return offset


async def _nothing(partitions: list[TopicPartition]) -> None:
    """Do nothing about an assignment."""


Scene = Callable[[Side], Awaitable[None]]


async def results_and_offset_together(side: Side) -> None:
    """Nothing is committed before the first commit; after it results, headers' order and offset are there."""
    assert await side.witness() is None
    owner = await side.started()
    await owner.commit(side.answers(b"a", b"b"), {side.source: 2}, AT)
    await owner.commit(side.answers(b"c"), {side.source: 3}, AT)
    await owner.confirm()
    assert await side.read() == [b"a", b"b", b"c"]
    assert await side.witness() == 3
    await owner.discard()


async def a_second_owner_fences_the_first(side: Side) -> None:
    """Whoever starts later owns the partition: what the first commits after that is refused and never seen."""
    first = await side.started()
    await first.commit(side.answers(b"a"), {side.source: 1}, AT)
    second = await side.started()
    assert await side.witness() == 1
    with pytest.raises((Fenced, Doubtful)):
        await first.commit(side.answers(b"zombie"), {side.source: 2}, AT)
    await second.commit(side.answers(b"b"), {side.source: 2}, AT)
    await second.confirm()
    assert await side.read() == [b"a", b"b"]
    assert await side.witness() == 2
    await first.discard()
    await second.discard()


async def a_commit_that_is_cut_off_is_all_or_nothing(side: Side) -> None:
    """Cut off at any moment, a commit happened or it did not: after the next start offset and results agree."""
    committed = 0
    for cut in range(CUTS):
        owner = await side.started()
        at = await side.witness() or 0
        committing = asyncio.create_task(owner.commit(side.answers(f"{at}".encode()), {side.source: at + 1}, AT))
        await asyncio.wait({committing}, timeout=0.003 * cut)
        committing.cancel()
        await asyncio.gather(committing, return_exceptions=True)
        await owner.discard()
        successor = await side.started()
        committed = await side.witness() or 0
        assert committed in (at, at + 1)
        assert await side.read() == [f"{number}".encode() for number in range(committed)]
        await successor.discard()


async def a_discarded_producer_commits_nothing(side: Side) -> None:
    """Once it is discarded, a producer is of no more use."""
    owner = await side.started()
    await owner.discard()
    with pytest.raises(Doubtful):
        await owner.commit(side.answers(b"a"), {side.source: 1}, AT)
    assert await side.witness() is None


async def a_missing_topic_is_waited_for(side: Side) -> None:
    """A topic that is not there is a server's fault, not ours."""
    owner = side.owner()
    with pytest.raises(Transient):
        await owner.start((self_named := f"{side.results}.missing", side.results))
    assert self_named
    await owner.discard()


async def a_reader_goes_on_behind_what_it_read(side: Side) -> None:
    """The offset behind the records leaves markers behind it; a bound on rows leaves a lag; a new reader goes on."""
    owner = await side.started()
    await owner.commit(side.answers(b"a", b"b", b"c"), {side.source: 3}, AT)
    await owner.commit(side.answers(b"d"), {side.source: 4}, AT)
    await owner.confirm()
    place = TopicPartition(side.results, 0)
    reader = side.reader(side.settings, [place], 1_000_000)
    await reader.start({place: None}, SECONDS_MAX)
    [taken] = await reader.take(SECONDS_MAX, 2)
    assert [record.value for record in taken.records] == [b"a", b"b"] and taken.next_offset == 2 and taken.lag > 0
    await reader.close()
    reader = side.reader(side.settings, [place], 1_000_000)
    await reader.start({place: taken.next_offset}, SECONDS_MAX)
    found: list[tuple[int, bytes]] = []
    while len(found) < 2:
        [taken] = await reader.take(SECONDS_MAX, 100)
        found += [(record.offset, record.value) for record in taken.records]
    assert found == [(2, b"c"), (4, b"d")]  # the marker of the first transaction is offset 3
    assert taken.next_offset in (5, 6) and taken.lag == 0
    assert await reader.take(0.2, 100) == []
    await reader.close()
    await owner.discard()


async def partitions_of_one_lane_go_together(side: Side) -> None:
    """One transaction has results and offsets of two partitions, cut off or not; one reader has what is in both."""
    sources = [side.source, TopicPartition(side.requests, 1)]
    offset = 0
    for cut in (None, *range(CUTS)):
        owner = await side.owning(sources)
        told = [Outgoing(side.results, source.partition, [(b"k", b"%d" % offset, [])]) for source in sources]
        committing = asyncio.create_task(owner.commit(lambda told=told: told, dict.fromkeys(sources, offset + 1), AT))
        await asyncio.wait({committing}, timeout=None if cut is None else 0.003 * cut)
        committing.cancel()
        await asyncio.gather(committing, return_exceptions=True)
        await owner.discard()
        successor = await side.owning(sources)
        [first, second] = [await side.witness(source) for source in sources]
        assert first == second and first in (offset or None, offset + 1)
        offset = first or 0
        await successor.discard()
    assert offset >= 1
    places = [TopicPartition(side.results, source.partition) for source in sources]
    reader = side.reader(side.settings, places, 1_000_000)
    await reader.start(dict.fromkeys(places), SECONDS_MAX)
    found: dict[TopicPartition, list[bytes]] = {place: [] for place in places}
    while taken := await reader.take(0.7, 3):
        assert [each.source for each in taken] == places and sum(len(each.records) for each in taken) <= 6
        for each in taken:
            found[each.source] += [record.value for record in each.records]
    assert list(found.values()) == [[b"%d" % number for number in range(offset)]] * 2
    await reader.close()


SCENES: tuple[Scene, ...] = (
    partitions_of_one_lane_go_together,
    results_and_offset_together,
    a_second_owner_fences_the_first,
    a_commit_that_is_cut_off_is_all_or_nothing,
    a_discarded_producer_commits_nothing,
    a_missing_topic_is_waited_for,
    a_reader_goes_on_behind_what_it_read,
)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
@pytest.mark.parametrize("seed", range(5))
def test_the_simulated_one_keeps_the_contract(scene: Scene, seed: int) -> None:
    """Each scene, with five seeds of the simulation."""

    async def story(loop: VirtualLoop) -> None:
        cluster = Cluster(loop, {"requests": 2, "results": 2})
        loop.things |= {CLUSTER: cluster, GROUPS: Group(cluster, 6.0)}
        await scene(
            Side(Settings(), SimulatedTransactions, SimulatedReader, SimulatedMember, "requests", "results", "g")
        )

    simulate(seed, story)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
async def test_the_real_one_keeps_the_contract(scene: Scene, servers: dict[str, str]) -> None:
    """Each scene, on a broker."""
    values = {name.removeprefix("INTERLOCK_").lower(): value for name, value in servers.items()}
    settings, name = Settings.model_validate(values), f"contract.{uuid7()}"
    topics = [
        Topic(
            name=f"{name}.{kind}",
            owner="test",
            key="any",
            partitions=2,
            config={"retention.ms": "3600000"},
            events=(),
            writers=(),
            readers=(),
            compatibility="NONE",
            template=False,
        )
        for kind in ("requests", "results")
    ]
    await ensure_topics(settings, topics)
    await scene(
        Side(
            settings, PartitionTransactions, PartitionReader, Member, f"{name}.requests", f"{name}.results", f"{name}.g"
        )
    )
