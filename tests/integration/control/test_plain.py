"""Plain consumers on a real Kafka: a member of a group that the group goes on without."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from aiokafka.protocol.group import LeaveGroupRequest

from interlock.ids import uuid7
from interlock.kafka.plain import PlainConsumer, PlainProducer
from interlock.settings import PlatformSettings

VALUES = 20


async def test_a_member_that_was_put_out_of_its_group_comes_back_and_reads_again(
    settings: PlatformSettings, topic: str
) -> None:
    """As whoever stood still for longer than a session: its commit is refused, so what it had comes once more."""
    producer, member = PlainProducer(settings), PlainConsumer(settings, topic, f"g.{uuid7()}")
    sent = [b"%d" % number for number in range(VALUES)]
    await producer.start()
    try:
        await producer.send_many(topic, ((b"k", value) for value in sent))
        await member.start()
        async with aclosing(member.batches()) as batches:
            given_out = await _some(batches)
            await _put_out(member)
            again = [await _some(batches)]
            while again[-1][-1] != sent[-1]:
                again.append(await _some(batches))
        assert [value for values in again for value in values] == sent
        assert given_out == sent[: len(given_out)]
    finally:
        await asyncio.gather(member.close(), producer.close())


async def _some(batches: AsyncIterator[list[Any]]) -> list[bytes]:
    """Return the values of the next batch that has any."""
    async with asyncio.timeout(30):
        while not (records := await anext(batches)):
            pass
    return [record.value for record in records]


async def _put_out(member: PlainConsumer) -> None:
    """Tell the coordinator that a member has left, and not the member."""
    coordinator = member._consumer._coordinator
    answer = await coordinator._send_req(LeaveGroupRequest(coordinator.group_id, coordinator.member_id))
    assert answer.error_code == 0
