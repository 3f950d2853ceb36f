"""Plain clients of the data plane: send values to a topic, read a topic's committed values; no groups of services."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from interlock import semconv, telemetry
from interlock.errors import Transient
from interlock.kafka.closing import closed
from interlock.kafka.consumer import make_consumer
from interlock.kafka.producer import make_producer
from interlock.settings import PlatformSettings

TOPIC_WAIT_SECONDS_MAX: Final = 30.0
TOPIC_LOOK_SECONDS: Final = 0.2
ASSIGNMENT_LOOK_SECONDS: Final = 0.01
RECORDS_PER_POLL_MAX: Final = 2_000
POLL_SECONDS: Final = 0.5
UNACKNOWLEDGED_MAX: Final = 5_000
CLOSE_SECONDS_MAX: Final = 10.0


@dataclass(frozen=True)
class Place:
    """Where a sent value came to lie."""

    topic: str
    partition: int
    offset: int


class PlainProducer:
    """Sends keyed values and waits until Kafka has them."""

    def __init__(self, settings: PlatformSettings) -> None:
        self._producer: AIOKafkaProducer = make_producer(settings)

    async def start(self) -> None:
        """Connect. Raises Transient where no broker answers."""
        await _started(self._producer)

    async def close(self) -> None:
        """Send what is pending and disconnect."""
        await closed(self._producer, CLOSE_SECONDS_MAX)

    async def send(self, topic: str, key: bytes | None, value: bytes) -> Place:
        """Send one value and return where it lies once every in-sync replica has it.

        Within a span that is recorded, the record carries its trace.
        """
        title, attributes = semconv.messaging("send", "send", topic)
        with telemetry.inner(title, "producer", **attributes):
            traceparent = telemetry.recorded_traceparent()
            headers = [("traceparent", traceparent.encode())] if traceparent else []
            try:
                answer = await self._producer.send_and_wait(topic, value=value, key=key, headers=headers)
            except KafkaError as error:
                raise Transient(f"Kafka did not take the record for {topic}: {error}") from error
        return Place(answer.topic, answer.partition, answer.offset)

    async def send_many(self, topic: str, pairs: Iterable[tuple[bytes | None, bytes]]) -> int:
        """Send many values, at most `UNACKNOWLEDGED_MAX` under way at once; return how many Kafka has taken."""
        under_way: list[asyncio.Future[Any]] = []
        count = 0
        try:
            for key, value in pairs:
                under_way.append(await self._producer.send(topic, value=value, key=key))
                count += 1
                if len(under_way) >= UNACKNOWLEDGED_MAX:
                    await asyncio.gather(*under_way)
                    under_way.clear()
            await asyncio.gather(*under_way)
        except KafkaError as error:
            raise Transient(f"Kafka did not take all records for {topic}: {error}") from error
        return count


class PlainConsumer:
    """Reads one topic as `read_committed` consumers see it, from wherever it is told to begin."""

    def __init__(self, settings: PlatformSettings, topic: str, group: str | None = None) -> None:
        self._topic = topic
        self._group = group
        self._consumer: AIOKafkaConsumer = make_consumer(settings, group_id=group)

    async def start(self) -> None:
        """Connect and take every partition (or the group's share). Raises Transient if the topic does not come up."""
        await _started(self._consumer)
        try:
            await self._take()
        except BaseException:
            await closed(self._consumer, CLOSE_SECONDS_MAX)
            raise

    async def _take(self) -> None:
        """Subscribe once the topic is there: a subscription to a missing topic would log an error at every look."""
        try:
            async with asyncio.timeout(TOPIC_WAIT_SECONDS_MAX):
                while self._topic not in await self._consumer.topics():  # noqa: ASYNC110 - Kafka announces no new topics
                    await asyncio.sleep(TOPIC_LOOK_SECONDS)
                self._consumer.subscribe([self._topic])
                while self._group is None and not self._consumer.assignment():  # noqa: ASYNC110 - nor does the driver
                    await asyncio.sleep(ASSIGNMENT_LOOK_SECONDS)
        except TimeoutError:
            raise Transient(f"There is no topic {self._topic} after {TOPIC_WAIT_SECONDS_MAX:.0f} seconds.") from None
        except KafkaError as error:
            raise Transient(f"Kafka cannot be asked for {self._topic}: {error}") from error

    async def close(self) -> None:
        """Disconnect."""
        await closed(self._consumer, CLOSE_SECONDS_MAX)

    async def ends(self) -> dict[int, int]:
        """Return, per partition, the offset that the next committed record will lie at or after."""
        ends = await self._consumer.end_offsets(list(self._consumer.assignment()))
        return {place.partition: offset for place, offset in ends.items()}

    async def seek(self, offsets: Mapping[int, int]) -> None:
        """Go to the given offset in each partition; partitions not named begin at their beginning."""
        for place in self._consumer.assignment():
            self._consumer.seek(place, offsets.get(place.partition, 0))

    async def batches(self) -> AsyncGenerator[list[Any], None]:
        """Yield lists of records (partition, offset, timestamp, key, value), an empty one where nothing came in time.

        In a group, a batch is committed when the next one is asked for: at least once. Raises Transient where Kafka
        refuses.
        """
        while True:
            try:
                answer = await self._consumer.getmany(
                    timeout_ms=round(POLL_SECONDS * 1000), max_records=RECORDS_PER_POLL_MAX
                )
                yield [record for records in answer.values() for record in records]
                if answer and self._group is not None:
                    await self._commit()
            except KafkaError as error:
                raise Transient(f"Kafka refuses to read {self._topic}: {type(error).__name__}: {error}") from error

    async def _commit(self) -> None:
        """Commit what was given out; where the group meets just then, it comes again to whoever gets the partition."""
        with contextlib.suppress(CommitFailedError, IllegalStateError):
            await self._consumer.commit()


async def _started(client: AIOKafkaConsumer | AIOKafkaProducer) -> None:
    """Connect a client, or leave nothing of it behind."""
    try:
        await client.start()
    except KafkaError as error:
        await closed(client, CLOSE_SECONDS_MAX)
        raise Transient(f"Kafka cannot be reached: {error}") from error
