"""What cannot be scored becomes a dead letter in the transaction that answers it, and the partition goes on."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import numpy as np
import pytest

from interlock.errors import Reason
from interlock.serving.failures import ModelDied, ModelRaised, ModelTimedOut
from interlock.signature import Matrix
from tests.integration.router.rig import Rig, RunningRouter, exactly_once, sums, version_digest


async def test_poison_of_every_kind_is_dead_lettered_whole_and_its_neighbours_are_answered(rig: Rig) -> None:
    """Nine kinds of bad bytes among 200 good requests: each a letter with its reason and a rejection that names it."""
    rig.serving.add("m", 1)
    rig.route((1, 10_000))
    good = rig.value(1)
    poison: list[tuple[bytes | None, Reason]] = [
        (b"\x00\x00\x0f\x42\x40" + good[5:], Reason.UNKNOWN_SCHEMA),
        (good[:-3], Reason.TRUNCATED),
        (good + b"\x00\x01", Reason.TRAILING_BYTES),
        (good[:5] + b"\x03" + good[6:], Reason.MALFORMED),
        (rig.value(1, f3=math.nan), Reason.MISSING_FEATURE),
        (b"x" * 10_000_000, Reason.TOO_LARGE),
        (None, Reason.EMPTY),
        (b'{"f0": 1}', Reason.BAD_FRAMING),
        (b"", Reason.BAD_FRAMING),
    ]
    values: list[bytes | None] = [rig.value(number) for number in range(200)]
    for index, (value, _) in enumerate(poison):
        values.insert(20 * index + 3, value)
    async with RunningRouter(rig):
        rig.produce(values)
        results = await rig.results(209)
        letters = await rig.letters(9)
    assert len(results) == 209 and len(letters) == 9
    exactly_once([row for row in results if row["rejection"] is None], 200)
    rejected = {row["dead_letter"]: row for row in results if row["rejection"] is not None}
    kinds: dict[Reason, bytes | None] = {reason: value for value, reason in poison if reason is not Reason.BAD_FRAMING}
    for letter in letters:
        row = rejected[letter.name]
        assert letter.name == f"{letter.topic}/{letter.partition}/{letter.offset}"
        assert row["rejection"] == letter.reason and row["offset"] == letter.offset and row["score"] is None
        assert letter.key == row["_key"] and letter.detail
        if letter.reason in kinds:
            assert letter.value == kinds[Reason(letter.reason)]
    assert sorted(letter.reason for letter in letters) == sorted(reason.value for _, reason in poison)
    missing = next(letter for letter in letters if letter.reason == "MISSING_FEATURE")
    assert (missing.model, missing.version, missing.digest) == ("m", 1, version_digest(1)) and "f3" in missing.detail
    assert rejected[missing.name]["request_id"] == "r1"


async def test_rows_that_a_model_answers_badly_are_rejected_alone(rig: Rig) -> None:
    """NaN and a value out of range reject their own rows and no others."""

    async def answers(matrix: Matrix) -> Matrix:
        outputs = await sums(matrix, 1)
        outputs[matrix[:, 0] == 7] = math.nan
        outputs[matrix[:, 0] == 8] = -5
        return outputs

    rig.serving.add("m", 1, answers)
    rig.route((1, 10_000))
    async with RunningRouter(rig):
        rig.produce([rig.value(number) for number in range(300)])
        results = await rig.results(300)
    exactly_once(results, 300)
    assert {row["request_id"]: row["rejection"] for row in results if row["rejection"]} == {
        "r7": "MODEL_NOT_FINITE",
        "r8": "MODEL_OUT_OF_RANGE",
    }


class Killer:
    """A version that some rows kill, hang or make raise; it remembers how often."""

    def __init__(self, culprits: Sequence[int], failure: type[Exception]) -> None:
        self.culprits = culprits
        self.failure = failure
        self.failures = 0

    async def __call__(self, matrix: Matrix) -> Matrix:
        """Fail if a culprit is among the rows."""
        if np.isin(matrix[:, 0], self.culprits).any():
            self.failures += 1
            raise self.failure("because of a row")
        return await sums(matrix, 1)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [(ModelRaised, "MODEL_RAISED"), (ModelDied, "MODEL_CRASHED"), (ModelTimedOut, "MODEL_TIMEOUT")],
)
async def test_rows_that_break_their_model_are_found_among_their_neighbours(
    rig: Rig, failure: type[Exception], reason: str
) -> None:
    """Two culprits among 1,000 requests are rejected by name; everybody else is answered, and few calls are lost."""
    killer = Killer((123, 777), failure)
    rig.serving.add("m", 1, killer)
    rig.route((1, 10_000))
    rig.produce([rig.value(number) for number in range(1000)])
    async with RunningRouter(rig):
        results = await rig.results(1000)
        letters = await rig.letters(2)
    exactly_once(results, 1000)
    assert {row["request_id"]: row["rejection"] for row in results if row["rejection"]} == {
        "r123": reason,
        "r777": reason,
    }
    assert all(letter.version == 1 and "because of a row" in letter.detail for letter in letters)
    assert killer.failures <= 20


async def test_a_replica_that_is_killed_from_outside_costs_no_request_its_answer(rig: Rig) -> None:
    """A replica dies under every other call, whatever the rows: nothing is dead-lettered."""
    deaths = 0

    async def dies_now_and_then(matrix: Matrix) -> Matrix:
        nonlocal deaths
        if deaths < 6 and len(rig.serving.calls) % 2:
            deaths += 1
            raise ModelDied("killed from outside")
        return await sums(matrix, 1)

    rig.serving.add("m", 1, dies_now_and_then)
    rig.route((1, 10_000))
    async with RunningRouter(rig):
        for start in range(0, 500, 50):
            await asyncio.to_thread(rig.produce, [rig.value(number) for number in range(start, start + 50)])
            await _until(lambda goal=start // 50: len(rig.serving.calls) > goal)
        results = await rig.results(500)
    exactly_once(results, 500)
    assert deaths and not [row for row in results if row["rejection"]]


async def test_a_search_that_takes_too_long_gives_the_rest_up_and_the_partition_goes_on(rig: Rig) -> None:
    """A version that always dies, and no time for a search: all become dead letters, and the next version answers."""
    rig.serving.add("m", 1, Killer(range(100), ModelDied))
    rig.serving.add("m", 2)
    rig.route((1, 10_000))
    async with RunningRouter(rig, crash_isolation_seconds=0.001):
        rig.produce([rig.value(number) for number in range(100)])
        await rig.results(100)
        rig.route((2, 10_000))
        rig.produce([rig.value(number) for number in range(100, 200)])
        results = await rig.results(200)
    exactly_once(results, 200)
    assert {row["rejection"] for row in results if int(row["request_id"][1:]) < 100} == {"MODEL_CRASHED"}
    assert {row["rejection"] for row in results if int(row["request_id"][1:]) >= 100} == {None}


async def test_an_answer_of_the_wrong_shape_is_never_used(rig: Rig) -> None:
    """One row fewer than asked whenever row 5 is among them: only row 5 is rejected."""

    async def short(matrix: Matrix) -> Matrix:
        outputs = await sums(matrix, 1)
        return outputs[:-1] if (matrix[:, 0] == 5).any() else outputs

    rig.serving.add("m", 1, short)
    rig.route((1, 10_000))
    async with RunningRouter(rig):
        rig.produce([rig.value(number) for number in range(100)])
        results = await rig.results(100)
    exactly_once(results, 100)
    assert {row["request_id"]: row["rejection"] for row in results if row["rejection"]} == {"r5": "MODEL_WRONG_SHAPE"}


async def test_the_answer_of_another_version_is_never_given(rig: Rig) -> None:
    """A replica that echoes another digest stalls the lane; when the right one is back, it answers everything."""
    name = rig.serving.add("m", 1)
    _, behaviour = rig.serving.behaviours[name]
    rig.serving.behaviours[name] = (version_digest(9), behaviour)
    rig.route((1, 10_000))
    async with RunningRouter(rig):
        rig.produce([rig.value(number) for number in range(50)])
        await _until(lambda: len(rig.serving.calls) >= 3)
        assert rig.read("results", 0, 0.1) == []
        rig.serving.behaviours[name] = (version_digest(1), behaviour)
        results = await rig.results(50)
    exactly_once(results, 50)


async def test_a_version_that_is_away_is_waited_for_and_a_route_that_moves_on_is_followed(rig: Rig) -> None:
    """Version 1 never comes up; when the route moves to version 2 the waiting batch is answered by version 2."""
    rig.serving.add("m", 2)
    rig.route((1, 10_000))
    async with RunningRouter(rig):
        rig.produce([rig.value(number) for number in range(50)])
        await _until(lambda: len(rig.serving.calls) >= 2)
        rig.route((2, 10_000))
        results = await rig.results(50)
    exactly_once(results, 50)
    assert {(row["version"], row["epoch"]) for row in results} == {(2, 2)}


async def _until(condition: object, seconds_max: float = 10.0) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(seconds_max):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.02)
