"""A partition may go to somebody else while a consumer awaits something: that is no fault of anybody's."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from interlock.errors import Transient
from interlock.kafka.consumer import ControlConsumer
from interlock.kafka.positions import PositionedConsumer
from interlock.settings import PlatformSettings

PLACES = {TopicPartition("t", number) for number in range(3)}


async def test_a_partition_that_goes_while_another_is_looked_at_is_passed_over() -> None:
    """The driver tells nothing of a partition that has gone, and says so by an assertion."""
    settings = PlatformSettings(kafka_bootstrap_servers="127.0.0.1:1")
    consumer = AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1")
    book = consumer._subscription
    book.assign_from_user(PLACES)
    for place in PLACES:
        book.subscription.assignment.state_value(place).lso = 5
    looked: list[TopicPartition] = []

    async def position(_: Any, place: TopicPartition) -> int:
        looked.append(place)
        book.assign_from_user({place})  # all others have gone
        return 3

    control = ControlConsumer(settings, "s", ["t"], lambda _: None, lambda *_: None)  # type: ignore[arg-type]  # never called
    with patch.object(AIOKafkaConsumer, "position", position):
        await control._measure(consumer)
    assert len(looked) == 1


async def test_a_partition_that_goes_while_its_record_is_carried_out_is_not_held_back() -> None:
    """The record was not to be had now, and is another's to try again: the driver would refuse to go back to it."""
    settings = PlatformSettings(kafka_bootstrap_servers="127.0.0.1:1")
    consumer = AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1")
    consumer._subscription.assign_from_user(PLACES)
    gone, *kept = sorted(PLACES)
    carried_out: list[int] = []

    async def handle(record: ConsumerRecord[bytes, bytes], _: Any) -> None:
        carried_out.append(record.offset)
        consumer._subscription.assign_from_user(set(kept))
        raise Transient("the database is away")

    control = ControlConsumer(settings, "s", ["t"], lambda record: record, handle)
    await control._take(consumer, gone, [_record(gone, offset) for offset in (7, 8)])
    assert carried_out == [7]
    assert not control._paused_until
    assert not consumer.paused()


async def test_a_partition_is_placed_anew_when_its_group_has_met() -> None:
    """While a group meets, the driver still lists what it revoked; placed then, a partition would be read no more."""
    member = PositionedConsumer(PlatformSettings(kafka_bootstrap_servers="127.0.0.1:1"), "g")
    kept, gone, new = sorted(PLACES)
    with patch.object(AIOKafkaConsumer, "seek"):  # it would want a connection
        await _met(member, {kept, gone})
        member.place(kept, 5)
        assert member.placed == {kept}
        assert member.unplaced == [gone]

        await member.on_partitions_revoked({kept, gone})
        member.place(kept, 5)  # whoever asked where it is read from has the answer only now
        assert not member.placed
        assert not member.unplaced

        await _met(member, {kept, new})
        assert member.unplaced == [kept, new]
        assert member._consumer.paused() == {kept, new}
        for each in (kept, gone, new):
            member.place(each, 5)
        assert member.placed == {kept, new}
        assert not member._consumer.paused()


async def _met(member: PositionedConsumer, places: set[TopicPartition]) -> None:
    """Do what the driver does when a group has met."""
    member._consumer._subscription.assign_from_user(places)
    await member.on_partitions_assigned(places)


def _record(place: TopicPartition, offset: int) -> ConsumerRecord[bytes, bytes]:
    return ConsumerRecord(place.topic, place.partition, offset, 0, 0, b"k", b"v", None, 1, 1, ())
