"""What the router asks of Kafka, answered by the simulated one: the same classes, methods and failures as the real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from aiokafka.errors import KafkaError

from interlock.errors import Transient
from interlock.kafka import LANE_TRANSACTION_TIMEOUT_MILLISECONDS
from interlock.kafka.follow import Step
from interlock.kafka.partition import Taken, TopicPartition
from interlock.kafka.prepared import Rows
from interlock.kafka.takeover import Before, Note, take_over
from interlock.kafka.transaction import Doubtful, Encode, Fenced, Offsets
from interlock.kafka.transaction_state import ENDING, UNSETTLED, Standing
from tests.simulation.group import Group
from tests.simulation.kafka import GROUP, Again, Cluster, Place, Refused, Stale
from tests.simulation.loop import current, running
from tests.simulation.network import Away, Connection

AGAIN_SECONDS = 0.005
ROUTES_POLL_SECONDS = 0.5
CLUSTER = "kafka"
GROUPS = "groups"
DEAF = "deaf"
"""With a process: until when no route reaches it."""


def cluster() -> Cluster:
    """Return the cluster of the run."""
    found = running().things[CLUSTER]
    assert isinstance(found, Cluster)
    return found


def written(records: Any) -> list[Any]:
    """Return key, value and headers of records, which come as such or as columns."""
    if isinstance(records, Rows):
        every = enumerate(zip(records.keys, records.values, strict=True))
        return [(key, value, list(records.headers.get(row, ()))) for row, (key, value) in every]
    return [(key, bytes(value), headers) for key, value, headers in records]


class SimulatedTransactions:
    """`interlock.kafka.transaction.PartitionTransactions` without the driver."""

    def __init__(
        self, settings: Any, group: str, sources: Sequence[TopicPartition], seconds_max: float, batch_bytes_max: int
    ) -> None:
        self.cluster = cluster()
        self.group = group
        self.sources = tuple(sources)
        self.seconds_max = seconds_max
        self.connection: Connection | None = None
        self.epoch = -1

    @property
    def transactional_id(self) -> str:
        return f"{self.group}.{self.sources[0].topic}.{self.sources[0].partition}"

    async def start(self, topics: Sequence[str]) -> None:
        while await self.take_over(topics) is Before.SEAL:
            await self.discard()

    async def take_over(self, topics: Sequence[str]) -> Before:
        self.connection = Connection(self.cluster)
        places = [(topic, source.partition) for topic in topics for source in self.sources]
        try:
            async with asyncio.timeout(self.seconds_max):
                for place in places:
                    if place not in self.cluster.logs:
                        raise Transient(f"{place} is missing")
                before = await take_over(self)
                if before is not Before.NOTHING:
                    await self.seal(places, commit=before is not Before.ABORTED)
        except Stale as error:
            await self.discard()
            raise Fenced(f"{self.transactional_id} has another owner") from error
        except (Away, Refused, KafkaError, TimeoutError) as error:
            await self.discard()
            raise Transient(f"no producer: {error}") from error
        return before

    async def standing(self) -> Standing | None:
        return await self.outside(ENDING)

    async def noted(self) -> Note | None:
        found = await self.ask(self.cluster.committed, f"{self.group}-seals", tuple(self.sources[0]))
        if found is None:
            return None
        epoch, (producer_id, held) = found
        return Note(producer_id, epoch, held)

    async def note(self, note: Note) -> None:
        said = (note.producer_id, note.held)
        await self.ask(self.cluster.commit_alone, f"{self.group}-seals", tuple(self.sources[0]), note.epoch, said)

    async def begin(self) -> tuple[int, int]:
        producer_id, self.epoch = await self.again(
            self.cluster.init_producer, self.transactional_id, LANE_TRANSACTION_TIMEOUT_MILLISECONDS
        )
        return producer_id, self.epoch

    async def begin_as(self, producer_id: int, epoch: int) -> None:
        self.epoch = epoch

    async def seal(self, places: list[Place], *, commit: bool) -> None:
        await self.again(self.cluster.join, self.transactional_id, self.epoch, [*places, GROUP])
        self.epoch = await self.ask(self.cluster.end, self.transactional_id, self.epoch, commit)
        await self.settle()

    async def commit(self, encode: Encode, offsets: Offsets, timestamp: int) -> None:
        batches = [((each.topic, each.partition), written(each.records)) for each in encode()]
        await self.transact(batches, offsets, timestamp)

    async def transact(self, batches: list[tuple[Place, list[Any]]], offsets: Offsets, timestamp: int) -> None:
        """Write a transaction, of records, of offsets, or of both."""
        name = self.transactional_id
        try:
            async with asyncio.timeout(self.seconds_max):
                await self.fill(batches, offsets, timestamp)
                self.epoch = await self.ask(self.cluster.end, name, self.epoch)
        except Stale as error:
            raise Fenced(f"{name} has another owner") from error
        except (Away, Refused, TimeoutError) as error:
            raise Doubtful(f"a transaction is in doubt: {error}") from error

    async def fill(self, batches: list[tuple[Place, list[Any]]], offsets: Offsets, timestamp: int) -> None:
        name = self.transactional_id
        if offsets:
            told = {tuple(source): offset for source, offset in offsets.items()}
            await self.again(self.cluster.commit_offsets, name, self.epoch, self.group, told)
        waiting = [
            asyncio.ensure_future(self.again(self.cluster.produce, name, self.epoch, place, records, timestamp))
            for place, records in batches
        ]
        try:
            await asyncio.gather(*waiting)
        finally:
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def confirm(self) -> None:
        try:
            async with asyncio.timeout(self.seconds_max):
                await self.settle()
        except (Away, TimeoutError) as error:
            raise Doubtful(f"the last transaction may be invisible: {error}") from error

    async def discard(self, seconds_max: float = 2.0) -> None:
        self.connection = None

    async def settle(self) -> None:
        await self.outside(UNSETTLED)

    async def outside(self, states: Sequence[str]) -> Standing | None:
        while True:
            found: Standing | None = await self.ask(self.cluster.describe, self.transactional_id)
            if found is None or found.state not in states:
                return found
            await asyncio.sleep(AGAIN_SECONDS)

    async def again(self, what: Callable[..., Any], *arguments: Any) -> Any:
        while True:
            try:
                return await self.ask(what, *arguments)
            except Again:
                await asyncio.sleep(AGAIN_SECONDS)

    async def ask(self, what: Callable[..., Any], *arguments: Any) -> Any:
        if self.connection is None:
            raise Doubtful(f"the producer of {self.transactional_id} was discarded")
        return await self.connection.ask(what, *arguments)


class SimulatedReader:
    """`interlock.kafka.partition.PartitionReader` without the driver."""

    committed_only = True

    def __init__(self, settings: Any, sources: Sequence[TopicPartition], fetch_bytes_max: int) -> None:
        self.cluster = cluster()
        self.positions: dict[TopicPartition, int] = dict.fromkeys(sources, 0)
        self.connection = Connection(self.cluster)

    async def start(self, offsets: Mapping[TopicPartition, int | None], seconds_max: float) -> None:
        try:
            await asyncio.wait_for(self.connection.ask(self.cluster.describe, ""), seconds_max)
        except (Away, TimeoutError) as error:
            raise Transient(f"no reader: {error}") from error
        self.positions |= {source: offset or 0 for source, offset in offsets.items()}

    async def take(self, seconds: float, rows_max: int) -> list[Taken]:
        deadline = self.cluster.loop.time() + seconds
        while True:
            try:
                taken = [await self.fetch(source, rows_max) for source in self.positions]
            except Away as error:
                # The driver asks again by itself; only what its time-outs give up comes through.
                if self.cluster.loop.chance.random() < 0.3:
                    raise Transient(f"cannot read: {error}") from error
                await asyncio.sleep(max(0.01, deadline - self.cluster.loop.time()))
                return []
            self.positions |= {each.source: each.next_offset for each in taken}
            if any(each.records for each in taken):
                return taken
            if not await moved(self.cluster, [*self.positions], deadline - self.cluster.loop.time()):
                return []

    async def fetch(self, source: TopicPartition, rows_max: int) -> Taken:
        position = self.positions[source]
        records, behind, end = await self.connection.ask(
            self.cluster.fetch, tuple(source), position, rows_max, self.committed_only
        )
        return Taken(source, records, behind, max(0, end - behind))

    async def close(self) -> None:
        """Nothing is held."""


class SimulatedMember:
    """`interlock.kafka.member.Member` without the driver: beats in the background, and joins where told to."""

    def __init__(self, settings: Any, group: str, together: int, assigned: Any, revoked: Any) -> None:
        self.cluster = cluster()
        self.name = group
        self.together = together
        self.session_seconds = settings.kafka_session_seconds
        self.assigned, self.revoked = assigned, revoked
        self.connection = Connection(self.cluster)
        self.member = f"{current().name}/{next(running().numbers)}"
        self.topics: tuple[str, ...] = ()
        self.generation = -1
        self.owned: list[TopicPartition] = []
        self.raised: BaseException | None = None
        self.task: asyncio.Task[None] | None = None

    @property
    def group(self) -> Group:
        group = running().things[GROUPS]
        assert isinstance(group, Group)
        return group

    async def start(self) -> None:
        try:
            await self.connection.ask(self.cluster.describe, "")
        except Away as error:
            raise Transient(f"the group is out of reach: {error}") from error

    def subscribe(self, topics: Iterable[str]) -> None:
        self.topics = tuple(sorted(topics))
        if self.task is None:
            self.task = asyncio.create_task(self._stay())

    async def tick(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if self.raised is not None:
            raise self.raised

    async def committed(self, partition: TopicPartition, seconds_max: float) -> int | None:
        key = (self.name, (partition.topic, partition.partition))
        try:
            found: int | None = await asyncio.wait_for(self.connection.ask(self.cluster.offsets.get, key), seconds_max)
        except (Away, TimeoutError) as error:
            raise Transient(f"the committed offset is unknown: {error}") from error
        return found

    async def known(self, seconds_max: float) -> None:
        try:
            generation = await asyncio.wait_for(self.connection.ask(self.group.beat, self.member), seconds_max)
        except (Away, TimeoutError) as error:
            raise Transient(f"the group is out of reach: {error}") from error
        if generation != self.generation:
            raise Transient("the group goes on without this member")

    async def ends(self, partitions: Sequence[TopicPartition], seconds_max: float) -> dict[TopicPartition, int]:
        try:
            async with asyncio.timeout(seconds_max):
                fetched = [await self.connection.ask(self.cluster.fetch, each, 0, 0) for each in partitions]
        except (Away, TimeoutError) as error:
            raise Transient(f"the ends are unknown: {error}") from error
        return {each: end for each, (_, _, end) in zip(partitions, fetched, strict=True)}

    async def close(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        try:
            await self.connection.ask(self.group.leave, self.member)
        except Away:
            return

    async def _stay(self) -> None:
        while True:
            try:
                generation = await self.connection.ask(self.group.beat, self.member)
                if generation != self.generation:
                    await self._call(self.revoked, self.owned)
                    self.owned = []
                    self.owned, self.generation = await self._join()
                    await self._call(self.assigned, self.owned)
            except Away:
                await asyncio.sleep(self.session_seconds / 20)
                continue
            await asyncio.sleep(self.session_seconds / 8)

    async def _join(self) -> tuple[list[TopicPartition], int]:
        generation = await self.connection.ask(self.group.join, self.member, self.topics, self.together)
        while (share := await self.connection.ask(self.group.share, self.member, generation)) is None:
            await asyncio.sleep(0.05)
            generation = await self.connection.ask(self.group.join, self.member, self.topics, self.together)
        return [TopicPartition(*each) for each in share], generation

    async def _call(
        self, change: Callable[[list[TopicPartition]], Awaitable[None]], what: list[TopicPartition]
    ) -> None:
        try:
            await change(list(what))
        except BaseException as error:
            self.raised = error
            raise


async def simulated_follow(settings: Any, topic: str) -> AsyncGenerator[Step, None]:
    """`interlock.kafka.follow.follow` without the driver."""
    kafka, place, position = cluster(), TopicPartition(topic, 0), 0
    connection = Connection(kafka)
    try:
        *_, end = await connection.ask(kafka.fetch, place, 0, 0)
        while True:
            records, position, _ = await connection.ask(kafka.fetch, place, position, 100)
            if (deaf_seconds := running().things.get((DEAF, current().name), 0.0) - kafka.loop.time()) > 0:
                await asyncio.sleep(deaf_seconds)
            yield Step([record.value for record in records], {place: position}, complete=position >= end)
            await moved(kafka, [place], ROUTES_POLL_SECONDS)
    except Away as error:
        raise Transient(f"cannot follow {topic}: {error}") from error


async def moved(kafka: Cluster, places: Sequence[Place], seconds: float) -> bool:
    """Wait until something happens in one of the partitions, and say whether it did."""
    if seconds <= 0:
        return False
    sign: asyncio.Future[None] = kafka.loop.create_future()
    for place in places:
        kafka.logs[place].waiting.append(sign)
    try:
        await asyncio.wait_for(sign, seconds)
    except TimeoutError:
        return False
    return True
