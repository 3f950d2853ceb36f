"""Chunks: every record of a growing set of topics, from positions that the caller keeps, outside of any group.

Nothing is committed to Kafka and nothing is skipped in silence: where Kafka no longer has what comes next, the
stretch that is gone is told as a gap.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from interlock.errors import Transient
from interlock.kafka.closing import closed
from interlock.kafka.consumer import make_consumer
from interlock.settings import PlatformSettings

FETCH_WAIT_MILLISECONDS: Final = 250
FETCH_BYTES_MAX: Final = 2 * 1024 * 1024
CLOSE_SECONDS_MAX: Final = 3.0
START_SECONDS_MAX: Final = 15.0
TAIL_POLL_SECONDS: Final = 0.2
TAIL_LOOKS_MAX: Final = 50

Positions = Mapping[tuple[str, int], int]
"""For (topic, partition), the offset of the first record that was not taken yet."""


class ChunkRecord(Protocol):
    """What a record of a chunk has; `timestamp` in ms since 1970."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Any


class Gap(msgspec.Struct, frozen=True):
    """Records that Kafka no longer has, and that nobody will read: from one offset up to another."""

    topic: str
    partition: int
    from_offset: int
    next_offset: int
    detail: str


class ChunkReader:
    """Reads the partitions of several topics side by side; each partition's records come in their order.

    `positions` is where each partition goes on; a partition that it does not name begins at 0.
    """

    def __init__(self, settings: PlatformSettings, positions: Positions, rows_max: int) -> None:
        self._rows_max = rows_max
        self._positions = {TopicPartition(*name): offset for name, offset in positions.items()}
        self._assigned: list[TopicPartition] = []
        self._lost: set[TopicPartition] = set()
        self._topics: set[str] = set()
        self._gaps: list[Gap] = []
        self._consumer: AIOKafkaConsumer = make_consumer(
            settings,
            auto_offset_reset="none",
            fetch_max_wait_ms=FETCH_WAIT_MILLISECONDS,
            max_partition_fetch_bytes=FETCH_BYTES_MAX,
        )

    async def start(self, topics: Iterable[str]) -> None:
        """Connect and take the partitions of those topics that exist. Raises Transient while Kafka is away."""
        self._topics.update(topics)
        try:
            await asyncio.wait_for(self._consumer.start(), START_SECONDS_MAX)
        except (KafkaError, OSError, TimeoutError) as error:
            raise Transient(f"no reader of {len(self._topics)} topics: {type(error).__name__}: {error}") from error
        await self.join()

    async def close(self) -> None:
        """Disconnect, within a bound."""
        await closed(self._consumer, CLOSE_SECONDS_MAX)

    def want(self, topic: str) -> bool:
        """Ask for one more topic, which may not exist yet; say whether it was not asked for before."""
        new = topic not in self._topics
        self._topics.add(topic)
        return new

    @property
    def missing(self) -> set[str]:
        """The topics asked for that did not exist at the last `join`."""
        return self._topics - {each.topic for each in self._assigned} - {each.topic for each in self._lost}

    def gaps(self) -> list[Gap]:
        """Return the gaps noticed since the last call."""
        found, self._gaps = self._gaps, []
        return found

    async def join(self) -> None:
        """Take the partitions that have appeared since the last call; raises Transient while Kafka is away."""
        try:
            metadata = await self._consumer._client.fetch_all_metadata()  # noqa: SLF001 - the public call gives names alone
            found = [
                TopicPartition(topic, number)
                for topic in sorted(self._topics)
                for number in sorted(metadata.partitions_for_topic(topic) or ())
            ]
            if set(found) - set(self._assigned) - self._lost:
                await self._assign(found)
        except (KafkaError, OSError) as error:
            raise Transient(f"cannot look for topics: {type(error).__name__}: {error}") from error

    async def take(self, seconds: float) -> list[ChunkRecord]:
        """Return the records that came within `seconds`, at most `rows_max`. Raises Transient while Kafka is away."""
        if not self._assigned:
            await asyncio.sleep(seconds)
            return []
        try:
            answer = await self._consumer.getmany(timeout_ms=int(seconds * 1000), max_records=self._rows_max)
        except (OffsetOutOfRangeError, NoOffsetForPartitionError):
            await self._assign([*self._assigned])
            return []
        except (KafkaError, OSError) as error:
            raise Transient(f"cannot read chunks: {type(error).__name__}: {error}") from error
        for place, records in answer.items():
            self._positions[place] = records[-1].offset + 1
        return [record for records in answer.values() for record in records]

    async def lag(self) -> int:
        """Return how many offsets lie ahead, the broker's own marks among them. Raises Transient."""
        if not self._assigned:
            return 0
        try:
            ends = await self._consumer.end_offsets(self._assigned)
            return sum([max(0, end - await self._consumer.position(place)) for place, end in ends.items()])
        except (KafkaError, OSError) as error:
            raise Transient(f"the ends of the topics are unknown: {type(error).__name__}: {error}") from error

    async def _assign(self, places: Sequence[TopicPartition]) -> None:
        """Read these partitions, each from where it stands, or from where Kafka still has records."""
        places = [each for each in places if each not in self._lost]
        begins = await self._consumer.beginning_offsets(places)
        ends = await self._consumer.end_offsets(places)
        for place in places:
            self._place(place, begins[place], ends[place])
        self._assigned = [each for each in places if each not in self._lost]
        self._consumer.assign(self._assigned)
        for place in self._assigned:
            self._consumer.seek(place, self._positions[place])

    def _place(self, place: TopicPartition, begin: int, end: int) -> None:
        """Note where a partition is to be read from, and what of it is gone."""
        at = self._positions.setdefault(place, 0)
        if at > end:
            said = f"{place.topic}/{place.partition} ends at {end}, but was read up to {at}: it was made anew."
            self._gaps.append(Gap(place.topic, place.partition, end, at, said))
            self._lost.add(place)  # its offsets would name other records than those that were read
        elif at < begin:
            said = f"{place.topic}/{place.partition} begins at {begin}, but was read only up to {at}."
            self._gaps.append(Gap(place.topic, place.partition, at, begin, said))
            self._positions[place] = begin


async def tail(settings: PlatformSettings, topic: str, rows_max: int) -> list[ConsumerRecord[bytes, bytes]]:
    """Return the newest committed records of a topic with one partition, at most `rows_max` offsets back, in order.

    None where the topic does not exist or is empty. Raises Transient while Kafka is away.
    """
    consumer = make_consumer(settings, fetch_max_wait_ms=FETCH_WAIT_MILLISECONDS)
    place = TopicPartition(topic, 0)
    found: list[ConsumerRecord[bytes, bytes]] = []
    try:
        await asyncio.wait_for(consumer.start(), START_SECONDS_MAX)
        metadata = await consumer._client.fetch_all_metadata()  # noqa: SLF001 - asking for one topic might make it
        if not metadata.partitions_for_topic(topic):
            return []
        consumer.assign([place])
        begin = (await consumer.beginning_offsets([place]))[place]
        end = (await consumer.end_offsets([place]))[place]
        consumer.seek(place, max(begin, end - rows_max))
        for _ in range(TAIL_LOOKS_MAX):
            if await consumer.position(place) >= end:
                return found
            answer = await consumer.getmany(place, timeout_ms=int(TAIL_POLL_SECONDS * 1000))
            found += answer.get(place, [])
    except (KafkaError, OSError, TimeoutError) as error:
        raise Transient(f"cannot read the end of {topic}: {type(error).__name__}: {error}") from error
    finally:
        await closed(consumer, CLOSE_SECONDS_MAX)
    raise Transient(f"the end of {topic} cannot be reached")
