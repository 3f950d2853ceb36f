"""Dead letters are listed, shown and sent again by the command line, each once; a replay is answered like a request."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from interlock.client.dead_letters import Choice, DeadLetters, Replay
from interlock.clock import SystemClock
from interlock.codec.contract import request_schema
from interlock.errors import Refusal
from tests.integration.router.letters import PLANTED, STEPS, bury, ending, interlock, replayed
from tests.integration.router.rig import SIGNATURE, Rig, RunningRouter

LETTERS = 300


async def test_a_schema_that_was_unknown_is_registered_and_the_request_replayed(
    rig: Rig, registry: tuple[str, dict[int, Any]]
) -> None:
    """The letter keeps the bytes; once the cause is gone, replay has it scored and the result says what it replays."""
    rig.serving.add("m", 1)
    rig.route((1, 10_000))
    late = b"\x00\x00\x00\x07\xd0" + rig.value(7)[5:]
    async with RunningRouter(rig, schema_unknown_seconds=0.01):
        rig.produce([late, rig.value(8)])
        await rig.results(2)
        [letter] = await interlock(rig, "list", rig.endpoint)
        assert (letter["reason"], letter["schema_id"], letter["key"]) == ("UNKNOWN_SCHEMA", 2000, "k0")
        shown = await interlock(rig, "show", rig.endpoint, letter["name"])
        assert bytes.fromhex(shown["value"]) == late
        registry[1][2000] = request_schema("any", SIGNATURE)
        told = await interlock(rig, "replay", rig.endpoint, letter["name"])
        assert (told["sent"], told["chosen"], told["reasons"]) == (1, 1, {"UNKNOWN_SCHEMA": 1})
        results = await rig.results(3)
        records = rig.read("results", 3)
    answered = [row for row in results if row["rejection"] is None]
    assert {row["request_id"] for row in answered} == {"r7", "r8"} and len(results) == 3
    marks = [record.headers() for record in records if record.headers()]
    assert marks == [[("interlock-replay-of", letter["name"].encode())]]


@pytest.mark.parametrize("step", STEPS)
async def test_a_replay_killed_at_any_step_and_begun_again_sends_each_letter_once(rig: Rig, step: str) -> None:
    """Killed with a transaction open, and with one just committed: the next run goes on where the last one was."""
    letters = await asyncio.to_thread(bury, rig, LETTERS)
    assert await ending(rig, step, 4) == -9
    assert await ending(rig, step, 2) == -9
    told = await interlock(rig, "replay", rig.endpoint, "--all")
    assert told["sent"] + told["passed"] == len(letters)
    found = await asyncio.to_thread(replayed, rig, len(letters))
    assert (set(found), set(found.values())) == ({each.name for each in letters}, {1})
    assert (await interlock(rig, "replay", rig.endpoint, "--all"))["sent"] == 0


async def test_a_replay_without_transactions_would_send_letters_twice(rig: Rig) -> None:
    """The planted bug: sent first, and how far one has come noted after. The check above sees it."""
    letters = await asyncio.to_thread(bury, rig, 100)
    assert await ending(rig, PLANTED, 2) == -9
    await interlock(rig, "replay", rig.endpoint, "--all")
    found = await asyncio.to_thread(replayed, rig, len(letters))
    assert set(found.values()) == {1, 2}


async def test_what_one_replay_has_sent_another_leaves_out(rig: Rig) -> None:
    """By reason, by version, by name, then all: each letter once; once more only under a name of its own, and once."""
    letters = await asyncio.to_thread(bury, rig, LETTERS)
    raised = [each for each in letters if each.reason == "MODEL_RAISED"]
    dry = await interlock(rig, "replay", rig.endpoint, "--reason", "MODEL_RAISED", "--dry-run")
    assert (dry["sent"], dry["chosen"], dry["dry_run"]) == (len(raised), len(raised), True)
    told = await interlock(rig, "replay", rig.endpoint, "--reason", "MODEL_RAISED")
    assert (told["sent"], told["reasons"]) == (len(raised), {"MODEL_RAISED": len(raised)})
    one = letters[0].name
    assert (await interlock(rig, "replay", rig.endpoint, one, raised[0].name))["already"] == 1
    told = await interlock(rig, "replay", rig.endpoint, "--version", "1")
    both = [each for each in raised if each.version == 1]
    assert (told["chosen"], told["already"]) == (len(letters) // 2, len(both) + 1)
    told = await interlock(rig, "replay", rig.endpoint, "--all")
    assert told["sent"] + told["already"] == len(letters)
    found = await asyncio.to_thread(replayed, rig, len(letters))
    assert (len(found), set(found.values())) == (len(letters), {1})
    for sent in (1, 0):
        assert (await interlock(rig, "replay", rig.endpoint, one, "--again", "second"))["sent"] == sent
    assert (await asyncio.to_thread(replayed, rig, len(letters) + 1))[one] == 2


async def test_a_second_replay_at_the_same_time_takes_over(rig: Rig) -> None:
    """The one before is fenced and says so; together they send each letter once."""
    letters = await asyncio.to_thread(bury, rig, LETTERS)
    pile = DeadLetters(rig.settings, rig.endpoint)
    first = Replay(pile, Choice(), SystemClock(), 10)
    steps = first.run()
    for _ in range(3):
        await anext(steps)
    told = await interlock(rig, "replay", rig.endpoint, "--all")
    with pytest.raises(Refusal, match="another owner"):
        async for _ in steps:
            pass
    await pile.close()
    assert told["sent"] + told["passed"] == len(letters)
    found = await asyncio.to_thread(replayed, rig, len(letters))
    assert (len(found), set(found.values())) == (len(letters), {1})


async def test_letters_are_listed_from_the_newest_back_page_by_page(rig: Rig) -> None:
    """Pages join without a gap; by time, reason and version; a name is found without reading all."""
    letters = await asyncio.to_thread(bury, rig, LETTERS)
    newest = sorted(letters, key=lambda each: (each.at, each.partition, each.offset), reverse=True)
    listed = await interlock(rig, "list", rig.endpoint, "--limit", "20")
    assert [each["name"] for each in listed] == [each.name for each in newest[:20]]
    pile = DeadLetters(rig.settings, rig.endpoint)
    names: list[str] = []
    before: dict[int, int] = {}
    whole = False
    while not whole:
        page = await pile.page(Choice(reasons=("TRUNCATED",)), 37, before)
        names += [each.letter.name for each in page.letters]
        before, whole = page.before, page.whole
    assert names == [each.name for each in newest if each.reason == "TRUNCATED"]
    for each in (letters[0], letters[-1], letters[LETTERS]):
        found = await pile.find(each.name)
        assert found is not None and found.letter == each
    assert await pile.find(f"{rig.topic('requests')}/0/{LETTERS}") is None
    assert await pile.find("nonsense") is None
    await pile.close()
    since = newest[50].at.isoformat()
    recent = await interlock(rig, "list", rig.endpoint, "--since", since, "--version", "2", "--limit", "1000")
    expected = [each.name for each in newest if each.at >= newest[50].at and each.version == 2]
    assert [each["name"] for each in recent] == expected
