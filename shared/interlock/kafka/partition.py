"""Reading partitions from known offsets, by a client of its own, outside of any group."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import KafkaError

from interlock.errors import Transient
from interlock.kafka.closing import closed
from interlock.kafka.consumer import make_consumer
from interlock.settings import PlatformSettings

__all__ = ["PartitionReader", "Taken", "TopicPartition"]

FETCH_WAIT_MILLISECONDS = 500
CLOSE_SECONDS_MAX = 2.0


@dataclass(frozen=True)
class Taken:
    """What one look brought of a partition: records in order, the offset behind them, how many more wait there."""

    source: TopicPartition
    records: Sequence[Any]
    next_offset: int
    lag: int


class PartitionReader:
    """Fetches the partitions of one lane, all that have something by one request to their broker.

    A lane has a reader of its own because a shared client fetches for no partition of a broker while records of
    another one lie unread in its buffer, and a partition that was just read waits for the others' long poll.
    """

    def __init__(self, settings: PlatformSettings, sources: Sequence[TopicPartition], fetch_bytes_max: int) -> None:
        self._sources = tuple(sources)
        self._consumer: AIOKafkaConsumer = make_consumer(
            settings, max_partition_fetch_bytes=fetch_bytes_max, fetch_max_wait_ms=FETCH_WAIT_MILLISECONDS
        )

    async def start(self, offsets: Mapping[TopicPartition, int | None], seconds_max: float) -> None:
        """Connect and go to the offsets, to the beginning where one is None. Raises Transient while Kafka is away."""
        try:
            await asyncio.wait_for(self._consumer.start(), seconds_max)
        except (KafkaError, OSError) as error:
            raise Transient(f"no reader for {named(self._sources)}: {type(error).__name__}: {error}") from error
        self._consumer._fetcher._records = _Unwrapped()  # noqa: SLF001 - the driver has no other way, see there
        self._consumer.assign(self._sources)
        for source, offset in offsets.items():
            if offset is not None:
                self._consumer.seek(source, offset)

    async def take(self, seconds: float, rows_max: int) -> list[Taken]:
        """Return what there is, at most `rows_max`, waiting up to `seconds` for the first record; nothing if none came.

        Where one partition has records, the others are told of too, with none.

        Without backlog nothing is fetched between two calls. The driver would fetch ahead the moment its buffer is
        empty, and the few records it found then would be all, and old, when the next call comes. With backlog it may.
        The offset behind the records is past the markers and aborted records that follow them, where those are known.
        """
        sources, consumer = self._sources, self._consumer
        try:
            consumer.resume(*sources)
            answer = await consumer.getmany(*sources, timeout_ms=int(seconds * 1000), max_records=rows_max)
            if not any(answer.values()):
                return []
            behind = {source: await consumer.position(source) for source in sources}
        except KafkaError as error:
            raise Transient(f"cannot read {named(sources)}: {type(error).__name__}: {error}") from error
        taken = [
            Taken(source, answer.get(source, []), offset, max(0, (consumer.last_stable_offset(source) or 0) - offset))
            for source, offset in behind.items()
        ]
        if not any(each.lag for each in taken):
            consumer.pause(*sources)
        return taken

    async def close(self) -> None:
        """Disconnect, within a bound."""
        await closed(self._consumer, CLOSE_SECONDS_MAX)


class _Unwrapped(OrderedDict[TopicPartition, Any]):
    """The driver's buffer of fetched records, which are handed out as they were parsed.

    The driver copies each into a `ConsumerRecord`, in Python: three quarters of what reading costs a lane, which knows
    topic and partition anyway. What it was parsed into has the offset, timestamp, key, value and headers.
    """

    def __setitem__(self, partition: TopicPartition, fetched: Any) -> None:
        if isinstance(fetched, FetchResult):
            fetched._partition_records._consumer_record = _as_parsed  # noqa: SLF001 - the driver has no other way
        super().__setitem__(partition, fetched)


def _as_parsed(_: TopicPartition, record: Any) -> Any:
    return record


def named(sources: Sequence[TopicPartition]) -> str:
    """Return partitions of one topic in words."""
    return f"{sources[0].topic}/{','.join(str(each.partition) for each in sources)}"
