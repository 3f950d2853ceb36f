"""A member of a group that reads its partitions from positions kept elsewhere, beside what was made of the records."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from interlock.errors import Transient
from interlock.kafka.closing import closed
from interlock.kafka.consumer import make_consumer
from interlock.kafka.partition import Taken
from interlock.settings import PlatformSettings

CLOSE_SECONDS_MAX = 3.0
SESSIONS_IDLE_MAX = 10


class PositionedConsumer(ConsumerRebalanceListener):  # type: ignore[misc]  # the driver has no annotations
    """Reads nothing of a partition until it is placed, and nothing any more once the partition is taken away."""

    def __init__(self, settings: PlatformSettings, group: str) -> None:
        session = int(settings.kafka_session_seconds * 1000)
        self._consumer: AIOKafkaConsumer = make_consumer(
            settings, group, max_poll_interval_ms=SESSIONS_IDLE_MAX * session
        )
        self._group = group
        self._mine: set[TopicPartition] = set()  # the driver's own book keeps what is revoked until the group has met
        self._placed: set[TopicPartition] = set()

    async def start(self) -> None:
        """Connect; raises Transient while Kafka is away."""
        try:
            await self._consumer.start()
        except (KafkaError, OSError) as error:
            await self.close()
            raise Transient(f"the group {self._group} is out of reach: {type(error).__name__}: {error}") from error

    def subscribe(self, topics: Iterable[str]) -> None:
        """Ask for a share of these topics instead of those before."""
        self._forget()
        self._consumer.subscribe(sorted(topics), listener=self)

    @property
    def placed(self) -> frozenset[TopicPartition]:
        """The partitions that are read."""
        return frozenset(self._placed)

    @property
    def unplaced(self) -> list[TopicPartition]:
        """The partitions of this member that wait to be placed."""
        return sorted(self._mine - self._placed)

    async def ends(self, partitions: list[TopicPartition], seconds_max: float) -> Mapping[TopicPartition, int]:
        """Return the offset behind the last record of each partition; raises Transient."""
        try:
            ends: Mapping[TopicPartition, int] = await asyncio.wait_for(
                self._consumer.end_offsets(partitions), seconds_max
            )
        except (KafkaError, OSError, TimeoutError) as error:
            raise Transient(f"the ends of {self._group} are unknown: {type(error).__name__}: {error}") from error
        return ends

    def place(self, partition: TopicPartition, offset: int) -> None:
        """Read a partition from an offset; one that was taken away meanwhile is left alone."""
        if partition in self._mine:
            self._consumer.seek(partition, offset)
            self._consumer.resume(partition)
            self._placed.add(partition)

    def displace(self, partition: TopicPartition) -> None:
        """Read a partition no further until it is placed again."""
        self._placed.discard(partition)
        if partition in self._mine:
            self._consumer.pause(partition)

    async def take(self, seconds: float, rows_max: int) -> dict[TopicPartition, Taken]:
        """Return what there is of placed partitions, waiting up to `seconds`; raises Transient when Kafka goes away."""
        try:
            answer = await self._consumer.getmany(timeout_ms=int(seconds * 1000), max_records=rows_max)
            taken = {}
            for partition, records in answer.items():
                if partition in self._placed:
                    offset = await self._consumer.position(partition)
                    lag = max(0, (self._consumer.last_stable_offset(partition) or 0) - offset)
                    taken[partition] = Taken(partition, records, offset, lag)
        except KafkaError as error:
            raise Transient(f"cannot read for {self._group}: {type(error).__name__}: {error}") from error
        return taken

    async def show(self, offsets: Mapping[TopicPartition, int], seconds_max: float) -> None:
        """Commit offsets for those who look at the group; nothing is read by them, so a failure is none."""
        mine = {each: offset for each, offset in offsets.items() if each in self._mine}
        with contextlib.suppress(KafkaError, OSError, TimeoutError):
            if mine:
                await asyncio.wait_for(self._consumer.commit(mine), seconds_max)

    async def close(self) -> None:
        """Leave the group, within a bound."""
        await closed(self._consumer, CLOSE_SECONDS_MAX)

    async def on_partitions_revoked(self, _: Iterable[TopicPartition]) -> None:
        """Called by the driver before the group meets: until it has, no partition is this member's."""
        self._forget()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Called by the driver when the group has met: each partition waits to be placed, had before or not."""
        self._mine = set(assigned)
        self._consumer.pause(*self._mine)

    def _forget(self) -> None:
        self._mine.clear()
        self._placed.clear()
