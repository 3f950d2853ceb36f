"""The control consumer on a real Kafka: four outcomes, order kept, offsets behind their units."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from interlock.cause import Cause
from interlock.clock import SystemClock
from interlock.codec import rows
from interlock.dispatch import Dispatch
from interlock.errors import Code, Refusal, Transient
from interlock.ids import uuid7
from interlock.kafka.consumer import ControlConsumer, Stuck, make_consumer
from interlock.kafka.headers import cloudevents
from interlock.kafka.message import Message
from interlock.kafka.producer import TransactionalPublisher
from interlock.postgres import journal
from interlock.postgres.outbox import Relay
from interlock.schemas.events import BuildStarted, ModelCreated
from interlock.settings import PlatformSettings
from tests.integration.control.conftest import until

AT = datetime(2026, 1, 2, tzinfo=UTC)
NO = Code("TEST_CONSUMER_NO", 409, "No")
TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


def _event(model: str) -> ModelCreated:
    return ModelCreated(model=model, owner="risk", created_by="ada", at=AT)


def _message(topic: str, event: Any, event_id: str | None = None) -> Message:
    named = cloudevents(type(event).TYPE, event_id=event_id or uuid7(), source="/test", at=AT, traceparent=TRACE)
    return Message(topic, event.model.encode(), rows.encode(event), named, AT)


async def _publish(settings: PlatformSettings, *messages: Message) -> None:
    publisher = TransactionalPublisher(settings, f"test.{uuid7()}")
    await publisher.open()
    await publisher.publish(messages)
    await publisher.close()


class _Run:
    """A consumer at work: what its handler saw, and how it is stopped."""

    def __init__(
        self, settings: PlatformSettings, service: str, topic: str, database: Any, act: Callable[[Any], None]
    ) -> None:
        self.seen: list[str] = []
        self.causes: list[Cause] = []
        self.stopping = asyncio.Event()

        async def on_model_created(event: ModelCreated, unit: journal.Unit, *, log: list[str]) -> None:
            log.append(event.model)
            self.causes.append(unit.cause)
            act(event)
            await unit.append(f"model/{event.model}", event)

        dispatch = Dispatch(
            service, {topic: {ModelCreated: on_model_created}}, {"log": self.seen}, database, SystemClock()
        )
        consumer = ControlConsumer(settings, service, [topic], dispatch.decode, dispatch.handle, stopping=self.stopping)
        self.consumer = consumer
        self.task = asyncio.create_task(consumer.run())

    async def stop(self) -> None:
        self.stopping.set()
        await self.task


async def _committed(settings: PlatformSettings, service: str, topic: str) -> int | None:
    from aiokafka import TopicPartition

    reader = make_consumer(settings, f"interlock.{service}")
    await reader.start()
    found: int | None = await reader.committed(TopicPartition(topic, 0))
    await reader.stop()
    return found


async def _journalled(database: Any) -> list[str]:
    return [row["m"] for row in await database.fetch("SELECT event->>'model' AS m FROM journal ORDER BY position")]


async def test_events_are_handled_in_order_and_repeats_are_skipped(
    settings: PlatformSettings, service: str, topic: str, database: Any
) -> None:
    """Three events, the second published twice under one id: each has its effect once, in order."""
    messages = [_message(topic, _event(name)) for name in ("a", "b", "c")]
    await _publish(settings, messages[0], messages[1], messages[1], messages[2])
    run = _Run(settings, service, topic, database, lambda _: None)
    await until(lambda: run.seen == ["a", "b", "c"])
    await run.stop()
    assert await _journalled(database) == ["a", "b", "c"]


async def test_a_restart_goes_on_behind_the_last_commit(
    settings: PlatformSettings, service: str, topic: str, database: Any
) -> None:
    """Stopped and begun again, the consumer takes what is new; nothing is handled twice."""
    await _publish(settings, _message(topic, _event("a")))
    first = _Run(settings, service, topic, database, lambda _: None)
    await until(lambda: first.seen == ["a"])
    await first.stop()
    await _publish(settings, _message(topic, _event("b")))
    second = _Run(settings, service, topic, database, lambda _: None)
    await until(lambda: "b" in second.seen)
    await second.stop()
    assert second.seen == ["b"]


async def test_a_transient_failure_is_tried_again_before_what_follows(
    settings: PlatformSettings, service: str, topic: str, database: Any
) -> None:
    """The second of three fails twice: the third waits, and the effects keep their order."""
    left = [2]

    def act(event: ModelCreated) -> None:
        if event.model == "b" and left[0]:
            left[0] -= 1
            raise Transient("not now", retry_seconds=0.05)

    await _publish(settings, *(_message(topic, _event(name)) for name in ("a", "b", "c")))
    run = _Run(settings, service, topic, database, act)
    await until(lambda: run.seen[-1:] == ["c"])
    await run.stop()
    assert run.seen == ["a", "b", "b", "b", "c"]
    assert await _journalled(database) == ["a", "b", "c"]


async def test_a_refusal_and_a_poisoned_record_do_not_stop_the_partition(
    settings: PlatformSettings, service: str, topic: str, database: Any
) -> None:
    """Refused: no effect, the offset advances. Undecodable: skipped. An event nobody listens to: ignored."""

    def act(event: ModelCreated) -> None:
        if event.model == "refused":
            raise Refusal(NO, "no")

    poison = Message(topic, b"k", b"not a frame", [], AT)
    stranger = Message(topic, b"k", b"\x00\x00\x00\x03\xe7\x00", [], AT)
    tail = _message(topic, _event("b"))
    trailing = Message(topic, b"k", tail.value + b"!", tail.headers, AT)
    ignored = _message(topic, BuildStarted(model="x", version=1, digest="sha256:" + "0" * 64, attempt=1, at=AT))
    await _publish(settings, _message(topic, _event("refused")), poison, stranger, trailing, ignored, tail)
    run = _Run(settings, service, topic, database, act)
    await until(lambda: run.seen[-1:] == ["b"])
    await run.stop()
    assert await _journalled(database) == ["b"]
    assert await _committed(settings, service, topic) == 6


async def test_a_bug_ends_the_consumer_and_the_offset_stays(
    settings: PlatformSettings, service: str, topic: str, database: Any
) -> None:
    """What was handled before the bug is committed; the culprit comes again to the next process."""

    def act(event: ModelCreated) -> None:
        if event.model == "b":
            raise ZeroDivisionError

    await _publish(settings, *(_message(topic, _event(name)) for name in ("a", "b", "c")))
    run = _Run(settings, service, topic, database, act)
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(run.task, 30)
    assert caught.group_contains(ZeroDivisionError)
    assert await _committed(settings, service, topic) == 1
    assert await _journalled(database) == ["a"]


async def test_a_handler_that_hangs_ends_the_process(
    settings: PlatformSettings, service: str, topic: str, database: Any
) -> None:
    """Nothing moves while there is something to do: the watchdog raises Stuck."""
    short = settings.model_copy(update={"progress_seconds_max": 0.5})

    async def hang(event: Any, unit: Any) -> None:
        await asyncio.Event().wait()

    dispatch = Dispatch(service, {topic: {ModelCreated: hang}}, {}, database, SystemClock())
    await _publish(settings, _message(topic, _event("a")))
    consumer = ControlConsumer(short, service, [topic], dispatch.decode, dispatch.handle)
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(consumer.run(), 30)
    assert caught.group_contains(Stuck)


async def test_an_idle_consumer_is_not_stuck(
    settings: PlatformSettings, service: str, topic: str, database: Any
) -> None:
    """With everything handled, standing still longer than the bound is no fault."""
    short = settings.model_copy(update={"progress_seconds_max": 0.5})
    await _publish(settings, _message(topic, _event("a")))
    run = _Run(short, service, topic, database, lambda _: None)
    await until(lambda: run.seen == ["a"])
    _, pending = await asyncio.wait({run.task}, timeout=1.5)
    assert pending
    await run.stop()


async def test_the_trace_and_the_story_go_through_outbox_kafka_and_unit(
    settings: PlatformSettings,
    service: str,
    service_dsn: str,
    topic: str,
    database: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Command → journal → relay → Kafka → consumer → unit: one trace, one correlation, causes that name each other."""
    monkeypatch.setattr(ModelCreated, "TOPIC", topic)
    start = Cause.start("ada", TRACE)
    async with journal.unit(database, start) as unit:
        event_id = await unit.append("model/a", _event("a"))
    relaying = asyncio.Event()
    relay = asyncio.create_task(
        Relay(service_dsn, TransactionalPublisher(settings, f"test.{service}"), service, stopping=relaying).run()
    )
    run = _Run(settings, service, topic, database, lambda _: None)
    await until(lambda: run.causes)
    await run.stop()
    relaying.set()
    await relay
    cause = run.causes[0]
    assert (cause.event_id, cause.correlation_id, cause.actor) == (event_id, start.correlation_id, "ada")
    assert cause.traceparent is not None
    assert cause.traceparent.split("-")[1] == "a" * 32


async def test_a_publisher_that_was_fenced_cannot_publish(settings: PlatformSettings, topic: str) -> None:
    """Opening under the same id shuts the first out: its batch is refused as a whole."""
    name = f"test.{uuid7()}"
    old, new = TransactionalPublisher(settings, name), TransactionalPublisher(settings, name)
    await old.open()
    await old.publish([_message(topic, _event("a"))])
    await new.open()
    with pytest.raises(Transient):
        await old.publish([_message(topic, _event("b"))])
    await new.publish([_message(topic, _event("c"))])
    await new.close()
    reader = make_consumer(settings, auto_offset_reset="earliest")
    await reader.start()
    from aiokafka import TopicPartition

    reader.assign([TopicPartition(topic, 0)])
    read = [rows.decode((await asyncio.wait_for(reader.getone(), 10)).value).model for _ in range(2)]
    await reader.stop()
    assert read == ["a", "c"]
