"""Reading one partition from a known offset, by a client of its own, outside of any group."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
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
    """What one look brought: records in order, the offset behind them, and how many more are known to wait."""

    records: Sequence[Any]
    next_offset: int
    lag: int


class PartitionReader:
    """Fetches one partition.

    A lane has a reader of its own because a shared client fetches for no partition of a broker while records of
    another one lie unread in its buffer, and a partition that was just read waits for the others' long poll.
    """

    def __init__(self, settings: PlatformSettings, source: TopicPartition, fetch_bytes_max: int) -> None:
        self._source = source
        self._consumer: AIOKafkaConsumer = make_consumer(
            settings, max_partition_fetch_bytes=fetch_bytes_max, fetch_max_wait_ms=FETCH_WAIT_MILLISECONDS
        )

    async def start(self, offset: int | None, seconds_max: float) -> None:
        """Connect and go to `offset`, or to the beginning where it is None. Raises Transient while Kafka is away."""
        try:
            await asyncio.wait_for(self._consumer.start(), seconds_max)
        except (KafkaError, OSError) as error:
            raise Transient(f"no reader for {self._source}: {type(error).__name__}: {error}") from error
        self._consumer._fetcher._records = _Unwrapped()  # noqa: SLF001 - the driver has no other way, see there
        self._consumer.assign([self._source])
        if offset is not None:
            self._consumer.seek(self._source, offset)

    async def take(self, seconds: float, rows_max: int) -> Taken | None:
        """Return what there is, at most `rows_max`, waiting up to `seconds` for the first record; None if none came.

        Without backlog nothing is fetched between two calls. The driver would fetch ahead the moment its buffer is
        empty, and the few records it found then would be all, and old, when the next call comes. With backlog it may.
        The offset behind the records is past the markers and aborted records that follow them, where those are known.
        """
        source, consumer = self._source, self._consumer
        try:
            consumer.resume(source)
            answer = await consumer.getmany(source, timeout_ms=int(seconds * 1000), max_records=rows_max)
            records = answer.get(source)
            if not records:
                return None
            next_offset = await consumer.position(source)
        except KafkaError as error:
            raise Transient(f"cannot read {source}: {type(error).__name__}: {error}") from error
        lag = max(0, (consumer.last_stable_offset(source) or 0) - next_offset)
        if not lag:
            consumer.pause(source)
        return Taken(records, next_offset, lag)

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
