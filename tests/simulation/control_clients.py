"""What the control plane asks of Kafka, answered by the simulated one: its consumer's driver, and its publisher."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, KafkaConnectionError

from interlock.clock import milliseconds
from interlock.errors import Transient
from interlock.kafka import TRANSACTION_TIMEOUT_MILLISECONDS
from interlock.kafka.message import Message
from interlock.kafka.transaction_state import UNSETTLED
from tests.simulation.group import Group
from tests.simulation.kafka import Again, Place, Refused, Stale
from tests.simulation.kafka_clients import AGAIN_SECONDS, cluster, moved
from tests.simulation.loop import current, running
from tests.simulation.network import Away, Connection

SESSION_SECONDS = 6.0
PUBLISH_SECONDS_MAX = 20.0


class Heard(NamedTuple):
    """A record as the driver hands it out."""

    topic: str
    partition: int
    offset: int
    value: bytes | None
    headers: list[tuple[str, bytes]]


class SimulatedConsumer:
    """The driver's consumer, as far as `interlock.kafka.consumer.ControlConsumer` uses it."""

    def __init__(self, settings: Any, group_id: str | None = None, **overrides: Any) -> None:
        self.kafka = cluster()
        self.connection = Connection(self.kafka)
        self.group_id = group_id
        self.member = f"{current().name}/{next(running().numbers)}"
        self.topics: tuple[str, ...] = ()
        self.generation = -1
        self.positions: dict[TopicPartition, int] = {}
        self.paused: set[TopicPartition] = set()
        self.task: asyncio.Task[None] | None = None
        groups = running().things.setdefault("groups of control", {})
        if group_id not in groups:
            groups[group_id] = Group(self.kafka, SESSION_SECONDS)
        self.group: Group = groups[group_id]

    def subscribe(self, topics: Sequence[str]) -> None:
        self.topics = tuple(sorted(topics))

    async def start(self) -> None:
        await self._ask(self.kafka.describe, "")
        self.task = asyncio.create_task(self._stay())

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        with contextlib.suppress(KafkaConnectionError):
            await self._ask(self.group.leave, self.member)

    def assignment(self) -> set[TopicPartition]:
        return set(self.positions)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.positions[partition] = offset

    def pause(self, *partitions: TopicPartition) -> None:
        self.paused.update(partitions)

    def resume(self, *partitions: TopicPartition) -> None:
        self.paused.difference_update(partitions)

    async def position(self, partition: TopicPartition) -> int:
        return self.positions.get(partition, 0)

    def last_stable_offset(self, partition: TopicPartition) -> int | None:
        return self.kafka.logs[_place(partition)].last_stable

    async def getmany(self, *, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[Heard]]:
        for partition in sorted(self.positions):
            if partition in self.paused or partition not in self.positions:
                continue
            place, position = _place(partition), self.positions[partition]
            try:
                records, after, _ = await self._ask(self.kafka.fetch, place, position, max_records)
            except KafkaConnectionError:
                continue  # the driver asks again by itself
            if self.positions.get(partition) != position:
                continue
            self.positions[partition] = after
            if records:
                return {
                    partition: [Heard(*place, each.offset, each.value, each.headers) for each in records],
                }
        waiting = [each for each in sorted(self.positions) if each not in self.paused]
        if waiting:
            await moved(self.kafka, [_place(waiting[0])], timeout_ms / 1000)
        else:
            await asyncio.sleep(timeout_ms / 1000)
        return {}

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        generation = self.generation
        for partition, offset in offsets.items():
            key = (str(self.group_id), _place(partition))
            if not await self._ask(self._commit, generation, key, offset):
                raise CommitFailedError("the group has moved on")

    def _commit(self, generation: int, key: tuple[str, Place], offset: int) -> bool:
        if generation != self.group.generation:
            return False
        self.kafka.offsets[key] = offset
        return True

    async def _stay(self) -> None:
        while True:
            try:
                if await self._ask(self.group.beat, self.member) != self.generation:
                    self.positions = {}
                    await self._join()
            except KafkaConnectionError:
                await asyncio.sleep(0.3)
                continue
            await asyncio.sleep(SESSION_SECONDS / 8)

    async def _join(self) -> None:
        generation = await self._ask(self.group.join, self.member, self.topics)
        while (share := await self._ask(self.group.share, self.member, generation)) is None:
            await asyncio.sleep(0.05)
            generation = await self._ask(self.group.join, self.member, self.topics)
        positions = {}
        for place in share:
            offset = await self._ask(self.kafka.offsets.get, (str(self.group_id), place))
            positions[TopicPartition(*place)] = offset or 0
        self.generation, self.positions, self.paused = generation, positions, set()

    async def _ask(self, what: Any, *arguments: Any) -> Any:
        try:
            return await self.connection.ask(what, *arguments)
        except Away as error:
            raise KafkaConnectionError(str(error)) from error


def _place(partition: TopicPartition) -> Place:
    return (partition.topic, partition.partition)


class SimulatedPublisher:
    """`interlock.kafka.producer.TransactionalPublisher` without the driver."""

    def __init__(self, name: str) -> None:
        self.kafka = cluster()
        self.name = name
        self.epoch = -1
        self.connection: Connection | None = None

    async def open(self) -> None:
        self.connection = Connection(self.kafka)
        try:
            async with asyncio.timeout(PUBLISH_SECONDS_MAX):
                _, self.epoch = await self._again(self.kafka.init_producer, self.name, TRANSACTION_TIMEOUT_MILLISECONDS)
        except (Away, TimeoutError) as error:
            raise Transient(f"Kafka: {error}") from error

    async def publish(self, messages: Sequence[Message]) -> None:
        partitions = {topic: number + 1 for topic, number in sorted(self.kafka.logs)}
        rows: dict[Place, list[Any]] = {}
        for message in messages:
            place = (message.topic, sum(message.key or b"") % partitions[message.topic])
            rows.setdefault(place, []).append((message.key, message.value, message.headers))
        at = milliseconds(messages[0].at)
        try:
            async with asyncio.timeout(PUBLISH_SECONDS_MAX):
                await self._again(self.kafka.join, self.name, self.epoch, sorted(rows))
                for place in sorted(rows):
                    await self._again(self.kafka.produce, self.name, self.epoch, place, rows[place], at)
                self.epoch = await self._again(self.kafka.end, self.name, self.epoch)
                while (await self._again(self.kafka.describe, self.name)).state in UNSETTLED:
                    await asyncio.sleep(AGAIN_SECONDS)
        except (Away, Stale, Refused, TimeoutError) as error:
            self.connection = None
            raise Transient(f"Kafka: {error}") from error

    async def close(self) -> None:
        self.connection = None

    async def _again(self, what: Any, *arguments: Any) -> Any:
        while True:
            if self.connection is None:
                raise Transient("Kafka: the publisher is not open.")
            try:
                return await self.connection.ask(what, *arguments)
            except Again:
                await asyncio.sleep(AGAIN_SECONDS)
