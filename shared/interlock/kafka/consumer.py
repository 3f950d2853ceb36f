"""The control consumer: one record after another, four outcomes, and no offset before its unit has committed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.commit import OffsetFetchResponse_v2, OffsetFetchResponse_v3

from interlock import metrics
from interlock.backoff import Backoff, pause
from interlock.clock import Clock, SystemClock
from interlock.errors import InterlockError, Poison, Refusal, Transient
from interlock.kafka import REQUEST_TIMEOUT_MILLISECONDS, connection
from interlock.kafka.checksums import FETCH, all_sound
from interlock.kafka.closing import closed
from interlock.settings import PlatformSettings

POLL_MILLISECONDS = 200
POLL_ROWS_MAX = 100
STOP_SECONDS_MAX = 5.0

log = structlog.get_logger("interlock.consumer")

Decode = Callable[[ConsumerRecord[bytes, bytes]], Any]
"""Bytes to an event, or None for one this service does not listen to; raises Poison."""
Handle = Callable[[ConsumerRecord[bytes, bytes], Any], Awaitable[None]]
"""Carry the event out, commit included; raises Refusal or Transient. Anything else is a bug and ends the process."""


class Done(msgspec.Struct, frozen=True):
    """The event's effect is committed, or there is none to have; `kind` is done, duplicate or ignored."""

    kind: str = "done"


class Refused(msgspec.Struct, frozen=True):
    """The domain said no; it is final."""

    refusal: Refusal


class Poisoned(msgspec.Struct, frozen=True):
    """The bytes are no event; no retry will mend them."""

    poison: Poison


class Later(msgspec.Struct, frozen=True):
    """Not now: the same record again after a pause."""

    transient: Transient


Outcome = Done | Refused | Poisoned | Later


class Skipped(InterlockError):
    """A handler's way to say that the event needs nothing: it was heard before."""


class Stuck(Exception):
    """Nothing moves although there is something to do: the process must end, so that another may take over."""


HEARTBEAT_MILLISECONDS_MAX = 500
"""By its heartbeat a member learns that another one left or came: partitions lie still for as long."""


def make_consumer(settings: PlatformSettings, group_id: str | None = None, **overrides: Any) -> AIOKafkaConsumer:
    """Return a consumer (not started): only committed records, from the earliest, no commits of its own accord."""
    session = int(settings.kafka_session_seconds * 1000)
    arguments: dict[str, Any] = connection(settings) | {
        "group_id": group_id,
        "isolation_level": "read_committed",
        "auto_offset_reset": "earliest",
        "enable_auto_commit": False,
        "session_timeout_ms": session,
        "heartbeat_interval_ms": min(HEARTBEAT_MILLISECONDS_MAX, session // 4),
        "fetch_max_wait_ms": 500,
    }
    consumer = AIOKafkaConsumer(**(arguments | overrides))
    client = consumer._client  # noqa: SLF001 - the driver has no other way
    client.send = _checking(consumer, _heeding_group_errors(client.send))
    return consumer


def _checking(consumer: AIOKafkaConsumer, send: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Return the client's `send` that has the driver check only what is not sound."""

    async def checking(*arguments: Any, **more: Any) -> Any:
        answer = await send(*arguments, **more)
        if getattr(answer, "API_KEY", None) == FETCH:
            consumer._fetcher._check_crcs = not all_sound(answer)  # noqa: SLF001 - the driver has no other way
        return answer

    return checking


def _heeding_group_errors(send: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Return the client's `send` that raises what a coordinator says about a whole group.

    The driver looks at the partitions of the answer only. A coordinator that is still loading after a restart names
    none, which the driver takes for "nothing was ever committed": everything would be read from the beginning.
    """

    async def heeding(*arguments: Any, **more: Any) -> Any:
        answer = await send(*arguments, **more)
        if isinstance(answer, (OffsetFetchResponse_v2, OffsetFetchResponse_v3)) and answer.error_code:
            error = for_code(answer.error_code)
            raise error
        return answer

    return heeding


class ControlConsumer:
    """Consumes control topics for one service, in the group `interlock.<service>`."""

    def __init__(
        self,
        settings: PlatformSettings,
        service: str,
        topics: Sequence[str],
        decode: Decode,
        handle: Handle,
        *,
        stopping: asyncio.Event | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._settings = settings
        self._group = f"interlock.{service}"
        self._topics = list(topics)
        self._decode = decode
        self._handle = handle
        self._stopping = stopping or asyncio.Event()
        self._clock = clock or SystemClock()
        self._consumer: AIOKafkaConsumer | None = None
        self._paused_until: dict[TopicPartition, float] = {}
        self._backoffs: dict[TopicPartition, Backoff] = {}
        self._moved_at = self._clock.monotonic()

    async def ready(self) -> None:
        """Return if partitions are assigned; raises Transient while they are not."""
        if self._consumer is None or not self._consumer.assignment():
            raise Transient(f"{self._group} has no partitions yet.")

    async def run(self) -> None:
        """Consume until `stopping` is set; a broker that is away is waited for.

        Raises whatever a handler raised that is none of the four kinds, and Stuck when nothing moves for
        `progress_seconds_max`.
        """
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(self._watch())
            await self._consume()
            watch.cancel()

    async def _consume(self) -> None:
        consumer = await self._start()
        if consumer is None:
            return
        try:
            while not self._stopping.is_set():
                self._resume(consumer)
                batch = await consumer.getmany(timeout_ms=POLL_MILLISECONDS, max_records=POLL_ROWS_MAX)
                for partition, records in batch.items():
                    await self._take(consumer, partition, records)
                await self._measure(consumer)
        finally:
            await closed(consumer, STOP_SECONDS_MAX)

    async def _start(self) -> AIOKafkaConsumer | None:
        """Return a started consumer, or None if the process is to stop before Kafka answers."""
        backoff, said = Backoff(self._settings.connect_retry_seconds_max), False
        while not self._stopping.is_set():
            consumer = make_consumer(
                self._settings,
                self._group,
                max_poll_interval_ms=int(self._settings.progress_seconds_max * 1000),
                client_id=self._group,
            )
            consumer.subscribe(self._topics)
            try:
                await consumer.start()
            except (KafkaError, OSError) as error:
                await closed(consumer, STOP_SECONDS_MAX)
                if not said:
                    log.warning("kafka.away", detail=f"{type(error).__name__}: {error}", todo="waiting")
                    said = True
            else:
                self._consumer = consumer
                log.info("consumer.started", group=self._group, topics=self._topics)
                return consumer
            self._moved_at = self._clock.monotonic()
            await pause(self._stopping, backoff.next_seconds())
        return None

    async def _take(
        self, consumer: AIOKafkaConsumer, partition: TopicPartition, records: Sequence[ConsumerRecord[bytes, bytes]]
    ) -> None:
        """Carry out the records of one partition in order; what was done is committed even when a bug ends it."""
        reached: int | None = None
        try:
            for record in records:
                if self._stopping.is_set() or partition not in consumer.assignment():
                    break
                outcome = await self._outcome(record)
                self._moved_at = self._clock.monotonic()
                self._report(record, outcome)
                if isinstance(outcome, Later):
                    self._pause(consumer, record, outcome.transient)
                    break
                self._backoffs.pop(partition, None)
                reached = record.offset + 1
        finally:
            if reached is not None:
                await self._commit(consumer, partition, reached)

    async def _outcome(self, record: ConsumerRecord[bytes, bytes]) -> Outcome:
        """Decide what becomes of a record: the only place that knows the four kinds of failure. A bug goes through."""
        try:
            event = self._decode(record)
        except Poison as poison:
            return Poisoned(poison)
        if event is None:
            return Done("ignored")
        try:
            with metrics.EVENT_SECONDS.labels(record.topic).time():
                await self._handle(record, event)
        except Skipped:
            return Done("duplicate")
        except Refusal as refusal:
            return Refused(refusal)
        except Transient as transient:
            return Later(transient)
        return Done()

    def _report(self, record: ConsumerRecord[bytes, bytes], outcome: Outcome) -> None:
        """Log and count an outcome."""
        place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
        match outcome:
            case Done(kind):
                label = kind
            case Refused(refusal):
                label = "refused"
                log.warning("event.refused", code=refusal.code.id, detail=refusal.detail, **place)
            case Poisoned(poison):
                label = "poisoned"
                log.error(
                    "event.poisoned",
                    reason=str(poison.reason),
                    detail=poison.detail,
                    todo="the record was skipped; find who wrote it",
                    **place,
                )
            case Later(transient):
                label = "later"
                log.warning("event.later", detail=transient.detail, **place)
        metrics.EVENTS_CONSUMED.labels(record.topic, label).inc()

    def _pause(self, consumer: AIOKafkaConsumer, record: ConsumerRecord[bytes, bytes], transient: Transient) -> None:
        """Hold the partition back and go to the same record again: what follows it on the partition must wait too."""
        partition = TopicPartition(record.topic, record.partition)
        if partition not in consumer.assignment():
            return  # it went while the record was being carried out; whoever has it now takes the record again
        backoff = self._backoffs.setdefault(
            partition,
            Backoff(self._settings.retry_seconds_max, min(transient.retry_seconds, self._settings.retry_seconds_max)),
        )
        self._paused_until[partition] = self._clock.monotonic() + backoff.next_seconds()
        consumer.seek(partition, record.offset)
        consumer.pause(partition)

    def _resume(self, consumer: AIOKafkaConsumer) -> None:
        """Let partitions go on whose pause is over; forget those that went to somebody else."""
        assigned = consumer.assignment()
        for partition, until in list(self._paused_until.items()):
            if partition not in assigned:
                del self._paused_until[partition]
                self._backoffs.pop(partition, None)
            elif self._clock.monotonic() >= until:
                del self._paused_until[partition]
                consumer.resume(partition)

    async def _commit(self, consumer: AIOKafkaConsumer, partition: TopicPartition, offset: int) -> None:
        """Commit an offset; a failure only means that some events come again, and the inbox knows them."""
        try:
            await asyncio.wait_for(consumer.commit({partition: offset}), REQUEST_TIMEOUT_MILLISECONDS / 1000)
        except (KafkaError, OSError, TimeoutError) as error:
            log.info(
                "offset.uncommitted", detail=f"{type(error).__name__}: {error}", topic=partition.topic, offset=offset
            )

    async def _measure(self, consumer: AIOKafkaConsumer) -> None:
        """Note the lag; with nothing to do, or with a retry ahead, standing still is no fault."""
        waiting = 0
        for partition in consumer.assignment():
            if partition not in consumer.assignment():
                continue  # it went while the position of another was awaited
            end = consumer.last_stable_offset(partition)
            if end is None or end < 0:
                continue
            with contextlib.suppress(KafkaError, TimeoutError):
                lag = max(0, end - await asyncio.wait_for(consumer.position(partition), POLL_MILLISECONDS / 1000))
                metrics.CONSUMER_LAG.labels(partition.topic, str(partition.partition)).set(lag)
                waiting += lag
        if not waiting or self._paused_until:
            self._moved_at = self._clock.monotonic()

    async def _watch(self) -> None:
        """Raise Stuck when nothing has moved for too long: a handler that hangs, or a client that no longer fetches."""
        limit = self._settings.progress_seconds_max
        while True:
            await asyncio.sleep(min(1.0, limit / 4))
            still = self._clock.monotonic() - self._moved_at
            if still > limit:
                raise Stuck(f"{self._group} has not moved for {still:.0f} s (progress_seconds_max is {limit:g}).")
