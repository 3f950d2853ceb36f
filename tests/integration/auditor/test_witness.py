"""The witness away: entries go on, it is said once, and said again when it is back and has caught up."""

from __future__ import annotations

from typing import Any

import pytest

from interlock.codec import rows
from interlock.kafka import chunks
from interlock.schemas.events import CheckpointSigned, WitnessLost, WitnessReturned
from interlock.schemas.topics import AUDIT_CHECKPOINTS
from tests.integration.auditor.rig import Room, model_created
from tests.integration.control.conftest import until

pytestmark = pytest.mark.timeout(300)

PUBLISHED_SECONDS_MAX = 30.0


async def test_a_lost_witness_is_told_and_caught_up_when_back(room: Room) -> None:
    """Entries are taken in without it; WitnessLost and WitnessReturned are each said once, in that order."""
    before = (await room.head())["size"]
    seen = len(await _said(room))
    room.witness.kill()
    await room.until_state("lost")
    await room.say([model_created(number) for number in range(500)])
    head = await room.until_state("lost", size=before + 500)
    assert head["witnessed_size"] == before
    room.auditor.kill()
    room.auditor.start()
    await room.until_state("lost", size=before + 500)
    room.witness.start()
    head = await room.until_state("witnessed", size=before + 500)
    assert head["witnessed_size"] == before + 500
    said: list[Any] = []

    async def last_word() -> bool:
        said[:] = (await _said(room))[seen:]  # the log's state is known before the event is on its topic
        return any(isinstance(each, WitnessReturned) for each in said)

    await until(last_word, PUBLISHED_SECONDS_MAX)
    told = [type(each).__name__ for each in said if not isinstance(each, CheckpointSigned)]
    assert told == ["WitnessLost", "WitnessReturned"]
    signed = [each for each in said if isinstance(each, CheckpointSigned)]
    assert [each.size for each in signed] == sorted(each.size for each in signed)
    assert signed[-1].witnessed
    assert {each.witnessed for each in signed} == {False, True}
    lost, back = (next(each for each in said if isinstance(each, kind)) for kind in (WitnessLost, WitnessReturned))
    assert (lost.size, back.size) == (before, before + 500)


async def _said(room: Room) -> list[Any]:
    return [rows.decode(each.value or b"") for each in await chunks.tail(room.settings, AUDIT_CHECKPOINTS, 10_000)]
