"""Bugs that a lane could have, one at a time: each is put in where the lane meets Kafka, its routes or its scorer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

from interlock.kafka.partition import TopicPartition
from interlock.kafka.takeover import Note
from interlock.kafka.together import sets
from interlock.kafka.transaction import Doubtful, Encode, Fenced, Offsets
from interlock.schemas.events import Route
from interlock_router.model import Routes, RouteTable, route_table
from interlock_router.routes import RouteFollower
from tests.simulation.kafka_clients import SimulatedMember, SimulatedReader, SimulatedTransactions, cluster, written
from tests.simulation.loop import current, running
from tests.simulation.outcome import Plant

Place = AbstractContextManager[Any]
_RETRIES_MAX = 5


def _lists(encode: Encode) -> list[tuple[tuple[str, int], list[Any]]]:
    return [((each.topic, each.partition), written(each.records)) for each in encode()]


class _OffsetFirst(SimulatedTransactions):
    async def commit(self, encode: Encode, offsets: Offsets, timestamp: int) -> None:
        await self.transact([], offsets, timestamp)
        await self.transact(_lists(encode), {}, timestamp)


class _ResultsFirst(SimulatedTransactions):
    async def commit(self, encode: Encode, offsets: Offsets, timestamp: int) -> None:
        await self.transact(_lists(encode), {}, timestamp)
        await self.transact([], offsets, timestamp)


class _LettersApart(SimulatedTransactions):
    async def commit(self, encode: Encode, offsets: Offsets, timestamp: int) -> None:
        letters = [each for each in _lists(encode) if each[0][0].endswith("dead-letters")]
        rest = [each for each in _lists(encode) if not each[0][0].endswith("dead-letters")]
        if letters:
            await self.transact(letters, {}, timestamp)
        await self.transact(rest, offsets, timestamp)


class _Reused(SimulatedTransactions):
    async def commit(self, encode: Encode, offsets: Offsets, timestamp: int) -> None:
        for _ in range(_RETRIES_MAX):
            try:
                return await super().commit(encode, offsets, timestamp)
            except Doubtful:
                await asyncio.sleep(0.1)
        return await super().commit(encode, offsets, timestamp)


class _DoubtIsDone(SimulatedTransactions):
    async def commit(self, encode: Encode, offsets: Offsets, timestamp: int) -> None:
        try:
            await super().commit(encode, offsets, timestamp)
        except Doubtful:
            return


class _FencedTriesAgain(SimulatedTransactions):
    async def commit(self, encode: Encode, offsets: Offsets, timestamp: int) -> None:
        try:
            await super().commit(encode, offsets, timestamp)
        except Fenced:
            await self.start([each.topic for each in encode()])
            await super().commit(encode, offsets, timestamp)


class _NotAwaited(SimulatedTransactions):
    async def commit(self, encode: Encode, offsets: Offsets, timestamp: int) -> None:
        task = asyncio.ensure_future(super().commit(encode, offsets, timestamp))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.sleep(0)


class _OneBehind(SimulatedTransactions):
    async def commit(self, encode: Encode, offsets: Offsets, timestamp: int) -> None:
        await super().commit(encode, {source: offset - 1 for source, offset in offsets.items()}, timestamp)


class _OneOffset(SimulatedTransactions):
    async def commit(self, encode: Encode, offsets: Offsets, timestamp: int) -> None:
        await super().commit(encode, dict([*offsets.items()][:1]), timestamp)


class _NameOfItsOwn(SimulatedTransactions):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._number = next(running().numbers)

    @property
    def transactional_id(self) -> str:
        return f"{super().transactional_id}.{self._number}"


class _Unsealed(SimulatedTransactions):
    async def seal(self, places: list[tuple[str, int]], *, commit: bool) -> None:
        """Leave the transaction before as the broker left it."""


class _Unnoted(SimulatedTransactions):
    async def noted(self) -> Note | None:
        """Know nothing of a seal that was cut off."""
        return None


class _Unconfirmed(SimulatedTransactions):
    async def confirm(self) -> None:
        """Trust that what was committed can be read."""


class _Believes(SimulatedTransactions):
    async def commit(self, encode: Encode, offsets: Offsets, timestamp: int) -> None:
        for source, offset in offsets.items():
            running().things[("believed", current().name, source)] = offset
        await super().commit(encode, offsets, timestamp)


class _BelievedMember(SimulatedMember):
    async def committed(self, partition: TopicPartition, seconds_max: float) -> int | None:
        known = await super().committed(partition, seconds_max)
        found: int | None = running().things.get(("believed", current().name, partition), known)
        return found


class _LooksFirst(SimulatedTransactions):
    async def start(self, topics: Sequence[str]) -> None:
        for source in self.sources:
            early = cluster().offsets.get((self.group, tuple(source)))
            running().things[("early", current().name, source)] = early
        await super().start(topics)


class _EarlyMember(SimulatedMember):
    async def committed(self, partition: TopicPartition, seconds_max: float) -> int | None:
        await super().committed(partition, seconds_max)
        found: int | None = running().things[("early", current().name, partition)]
        return found


class _Uncommitted(SimulatedReader):
    committed_only = False


def _singly(partitions: Iterable[TopicPartition], size: int) -> list[tuple[TopicPartition, ...]]:
    return sets(partitions, 1)


def _any_epoch(self: Routes, route: Route) -> bool:
    self._tables[route.endpoint] = route_table(route)
    return True


async def _reached(self: RouteFollower, ends: Any, seconds_max: float) -> None:
    """Say so."""


_SPLIT = RouteTable.split


def _swapped(self: RouteTable, keys: Sequence[bytes]) -> list[Any]:
    arms = dict(zip(self.arms, reversed(self.arms), strict=True))
    return [(arms[arm], rows) for arm, rows in _SPLIT(self, keys)]


def _at_its_first(behind: int | None, first_offset: int) -> int:
    return first_offset


def _transactions(fake: type[SimulatedTransactions]) -> Callable[[], Place]:
    return lambda: patch("interlock_router.lane.PartitionTransactions", fake)


def _both(transactions: type[SimulatedTransactions], member: type[SimulatedMember]) -> Callable[[], Place]:
    @contextmanager
    def put_in() -> Iterator[None]:
        with (
            patch("interlock_router.lane.PartitionTransactions", transactions),
            patch("interlock_router.lanes.Member", member),
        ):
            yield

    return put_in


PLANTS = (
    Plant("the offset is committed before the results", _transactions(_OffsetFirst), {"LOST", "OFFSET"}),
    Plant("the results are committed before the offset", _transactions(_ResultsFirst), {"DUPLICATE", "OFFSET"}),
    Plant("dead letters go in a transaction of their own", _transactions(_LettersApart), {"REJECTION"}),
    Plant("the producer is used again after a doubt", _transactions(_Reused), {"DUPLICATE"}),
    Plant("a doubt is taken for a success", _transactions(_DoubtIsDone), {"LOST", "STRETCH"}),
    Plant("whoever is fenced fences back and commits", _transactions(_FencedTriesAgain), {"DUPLICATE"}),
    Plant("a commit is not awaited", _transactions(_NotAwaited), {"LOST", "DUPLICATE", "STRETCH"}),
    Plant("the offset committed is one behind", _transactions(_OneBehind), {"DUPLICATE", "LOST", "OFFSET"}),
    Plant(
        "of a lane's partitions only the first has its offset committed",
        _transactions(_OneOffset),
        {"DUPLICATE", "OFFSET", "LOST", "STRETCH"},
    ),
    Plant(
        "the partitions of a lane are handed out singly",
        lambda: patch("tests.simulation.group.sets", _singly),
        {"DUPLICATE", "LOST"},
    ),
    Plant("each producer has a name of its own", _transactions(_NameOfItsOwn), {"DUPLICATE", "LOST"}),
    Plant("the transaction before is not sealed", _transactions(_Unsealed), {"DUPLICATE", "LOST"}),
    Plant("a seal that was cut off is forgotten", _transactions(_Unnoted), {"DUPLICATE", "LOST", "STRETCH", "OFFSET"}),
    Plant("an idle lane does not look whether its commit is visible", _transactions(_Unconfirmed), {"LOST", "STRETCH"}),
    Plant(
        "no witness is read: the lane goes on from what it believes",
        _both(_Believes, _BelievedMember),
        {"LOST", "DUPLICATE"},
    ),
    Plant("the witness is read before the fence", _both(_LooksFirst, _EarlyMember), {"DUPLICATE"}),
    Plant(
        "requests are read uncommitted",
        lambda: patch("interlock_router.lane.PartitionReader", _Uncommitted),
        {"ABORTED"},
    ),
    Plant(
        "who takes over does not wait for the newest routes",
        lambda: patch("interlock_router.lanes.RouteFollower.reached", _reached),
        {"STALE"},
    ),
    Plant("an old route is taken", lambda: patch.object(Routes, "apply", _any_epoch), {"STALE"}),
    Plant("the arms of a route are swapped", lambda: patch.object(RouteTable, "split", _swapped), {"ATTRIBUTION"}),
    Plant(
        "a batch is told to begin at its first request",
        lambda: patch("interlock_router.lane.begin", _at_its_first),
        {"STRETCH"},
    ),
)
