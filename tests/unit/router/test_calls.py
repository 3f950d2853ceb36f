"""Calls that lanes share: each gets its own answer, nobody is blamed for another, nobody is kept waiting for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from interlock.errors import InterlockError, Transient
from interlock.serving.failures import ModelDied, ModelRaised
from interlock.signature import Matrix
from interlock_router.calls import SHARED_BYTES_MAX, SharedCalls

BOUND_SECONDS = 5.0
POISON = 666.0


class Gated:
    """A version whose answers wait for `open`; it doubles its rows, and does what `behaviour` says before."""

    def __init__(self, behaviour: Callable[[Matrix], Any] = lambda _: None) -> None:
        self.calls: list[list[float]] = []
        self.open = asyncio.Event()
        self._behaviour = behaviour

    async def call(self, name: str, matrix: Matrix, seconds_max: float) -> tuple[str, Matrix]:
        self.calls.append([float(each) for each in matrix[:, 0]])
        await asyncio.wait_for(self.open.wait(), seconds_max)
        answer = self._behaviour(matrix)
        return f"sha256:{name}", matrix * 2 if answer is None else answer


def rows(*numbers: float) -> Matrix:
    return np.array([[number] for number in numbers])


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(BOUND_SECONDS):
            await story()

    asyncio.run(bounded())


async def asked(calls: SharedCalls, *matrices: Matrix, name: str = "m1") -> list[asyncio.Task[Any]]:
    """Ask for each in turn, as lanes do; all of them are under way when this returns."""
    tasks = [asyncio.ensure_future(calls.call(name, each, BOUND_SECONDS)) for each in matrices]
    await asyncio.sleep(0)
    return tasks


def test_what_is_asked_meanwhile_goes_in_one_call_and_each_gets_its_own_rows() -> None:
    """The first goes at once; three lanes behind it share the second call, in the order in which they asked."""

    async def story() -> None:
        version = Gated()
        calls = SharedCalls(version)
        tasks = await asked(calls, rows(1), rows(2, 3), rows(4), rows(5, 6, 7))
        assert version.calls == [[1]]
        version.open.set()
        answers = [await each for each in tasks]
        assert version.calls == [[1], [2, 3, 4, 5, 6, 7]]
        assert [outputs[:, 0].tolist() for _, outputs in answers] == [[2], [4, 6], [8], [10, 12, 14]]
        assert {digest for digest, _ in answers} == {"sha256:m1"}
        assert await calls.call("m1", rows(8), 1.0) == ("sha256:m1", rows(16))

    run(story)


def test_other_versions_and_large_matrices_do_not_wait() -> None:
    """Only small calls to the same version are shared, and a shared call is no larger than its bound."""

    async def story() -> None:
        version = Gated()
        calls = SharedCalls(version)
        half = np.ones((SHARED_BYTES_MAX // 16 + 1, 1))
        large = np.ones((SHARED_BYTES_MAX // 8 + 1, 1))
        tasks = await asked(calls, rows(1), large, half, half)
        tasks += await asked(calls, rows(2), name="m2")
        assert [len(each) for each in version.calls] == [1, len(large), 1]
        version.open.set()
        assert [len((await each)[1]) for each in tasks] == [1, len(large), len(half), len(half), 1]
        assert [len(each) for each in version.calls][3:] == [len(half), len(half)]

    run(story)


def refuses_poison(matrix: Matrix) -> None:
    if POISON in matrix:
        raise ModelRaised("ValueError: poison")


def test_a_row_that_raises_fails_its_own_lane_only() -> None:
    """The shared call raises; each lane's rows are asked for alone, and only the culprit's lane hears of it."""

    async def story() -> None:
        version = Gated(refuses_poison)
        calls = SharedCalls(version)
        tasks = await asked(calls, rows(1), rows(2), rows(POISON), rows(3))
        version.open.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(each, ModelRaised) for each in answers] == [False, False, True, False]
        assert version.calls == [[1], [2, POISON, 3], [2], [POISON], [3]]

    run(story)


@pytest.mark.parametrize("error", [ModelDied("died"), Transient("away")])
def test_a_death_is_told_to_all_who_were_in_the_call(error: InterlockError) -> None:
    """As to calls of their own that were under way; and the next call goes through."""

    def fail(matrix: Matrix) -> None:
        if 2.0 in matrix:
            raise error

    async def story() -> None:
        version = Gated(fail)
        calls = SharedCalls(version)
        tasks = await asked(calls, rows(1), rows(2), rows(3))
        version.open.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert answers[1:] == [error, error]
        assert (await calls.call("m1", rows(4), 1.0))[1] == rows(8)

    run(story)


@pytest.mark.parametrize("answer", [np.ones((1, 1)), "nonsense", None])
def test_an_answer_that_cannot_be_divided_is_asked_for_again_by_each(answer: Any) -> None:
    """What the version answers to a lane's own rows is for the lane to judge."""

    def strange(matrix: Matrix) -> Any:
        return ("nothing" if answer is None else answer) if len(matrix) > 1 else None

    async def story() -> None:
        version = Gated(strange)
        calls = SharedCalls(version)
        tasks = await asked(calls, rows(1), rows(2), rows(3))
        version.open.set()
        assert [(await each)[1].tolist() for each in tasks] == [[[2]], [[4]], [[6]]]

    run(story)


def test_a_lane_that_gives_up_holds_up_nobody() -> None:
    """Cancelled while it waits, or while it is the one that asks: the others are answered."""

    async def story() -> None:
        version = Gated()
        calls = SharedCalls(version)
        first, second, third = await asked(calls, rows(1), rows(2), rows(3))
        second.cancel()
        first.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        version.open.set()
        assert (await third)[1] == rows(6)
        assert version.calls == [[1], [3]]
        assert (await calls.call("m1", rows(4), 1.0))[1] == rows(8)

    run(story)
