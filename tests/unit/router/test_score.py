"""The search for rows that break their model: innocents are answered, culprits alone condemned, and it is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.errors import Reason, Transient
from interlock.kafka.partition import TopicPartition
from interlock.serving.failures import ModelDied, ModelRaised, ModelTimedOut
from interlock.signature import Input, Matrix, Output, Signature
from interlock_router.batch import Batch, Group, Share
from interlock_router.errors import RouteMoved
from interlock_router.model import Arm, RouteTable
from interlock_router.score import Scored, Scorer
from interlock_router.settings import Settings

SOURCE = TopicPartition("m.requests", 0)

SIGNATURE = Signature(inputs=(Input("x", "double"),), outputs=(Output("score"),))
ARM = Arm("champion", "m", 1, "sha256:00", "m1", 10_000, SIGNATURE)
TABLE = RouteTable("e", 1, (ARM,), 1002, ("score",))


class Clock:
    """Time that passes by a step at each look."""

    def __init__(self, step: float = 0.0) -> None:
        self.seconds = 0.0
        self.step = step

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        self.seconds += self.step
        return self.seconds


class Serving:
    """A version that fails whenever certain rows are among those asked for."""

    def __init__(self, failing: dict[int, Callable[[], Exception]]) -> None:
        self.failing = failing
        self.calls = 0
        self.failures = 0

    async def call(self, name: str, matrix: Matrix, seconds_max: float) -> tuple[str, Matrix]:
        self.calls += 1
        for row in matrix[:, 0].astype(int).tolist():
            if row in self.failing:
                self.failures += 1
                failure = self.failing[row]()
                raise failure
        return ARM.digest, matrix * 2


class Numbers:
    """Columns of one feature `x`, the row's number."""

    def __init__(self, count: int) -> None:
        self.count = count

    def feature(self, name: str, categories: Any) -> tuple[Any, Any]:
        return np.arange(self.count, dtype=np.float64), np.zeros(self.count, dtype=np.bool_)

    def matrix(self, names: tuple[str, ...]) -> None:
        """There is no block of several features."""


class Record:
    """As much of a Kafka record as the split into arms looks at."""

    key = b"k"


def score(count: int, serving: Serving, clock: Clock | None = None) -> Scored:
    """Score a batch of rows numbered from 0."""
    rows = np.arange(count)
    records: Any = [Record() for _ in range(count)]
    columns: Any = Numbers(count)
    batch = Batch(records, [Share(SOURCE, 0, count)], [b"r"] * count, rows, rows, [Group(1001, rows, columns)])
    bounds = Settings(death_pause_seconds=0, lane_retry_seconds=0.001, lane_retry_seconds_max=0.001)
    scorer = Scorer(bounds, serving, clock or Clock())
    return asyncio.run(scorer.score(batch, TABLE, lambda: False))


FAILURES: dict[type[Exception], Reason] = {
    ModelRaised: Reason.MODEL_RAISED,
    ModelDied: Reason.MODEL_CRASHED,
    ModelTimedOut: Reason.MODEL_TIMEOUT,
}


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 600), st.sets(st.integers(0, 599), max_size=4), st.sampled_from(sorted(FAILURES, key=str)))
def test_exactly_the_culprits_are_condemned(count: int, culprits: set[int], failure: type[Exception]) -> None:
    """Whatever the size and the culprits: all others are answered, once each, and rightly."""
    culprits = {each for each in culprits if each < count}
    serving = Serving({each: lambda: failure("row") for each in culprits})
    scored = score(count, serving)
    assert {each.row: each.rejection.reason for each in scored.rejected} == dict.fromkeys(culprits, FAILURES[failure])
    answered = np.concatenate([answer.rows for answer in scored.answers]) if scored.answers else np.array([])
    assert sorted(answered.tolist()) == sorted(set(range(count)) - culprits)
    for answer in scored.answers:
        assert (answer.outputs[:, 0] == answer.rows * 2).all()
    assert serving.failures <= 2 + 5 * len(culprits)


def test_a_search_ends_at_its_deadline_and_gives_up_what_is_not_cleared() -> None:
    """Time runs out in the middle: what was answered stays answered, the rest is condemned, nobody is forgotten."""
    scored = score(512, Serving({each: lambda: ModelDied("row") for each in range(0, 512, 7)}), Clock(step=2.0))
    answered = sum(answer.rows.size for answer in scored.answers)
    assert answered + len(scored.rejected) == 512
    assert {each.rejection.reason for each in scored.rejected} == {Reason.MODEL_CRASHED}


def test_one_death_from_outside_is_nobodys_fault() -> None:
    """The same rows asked again are answered: no part is tried, nobody condemned."""
    deaths = iter([ModelDied("killed"), None])

    class Once(Serving):
        async def call(self, name: str, matrix: Matrix, seconds_max: float) -> tuple[str, Matrix]:
            death = next(deaths)
            if death is not None:
                raise death
            return await super().call(name, matrix, seconds_max)

    serving = Once({})
    scored = score(100, serving)
    assert not scored.rejected and serving.calls == 1


def test_a_version_that_stays_away_is_left_when_the_route_moves() -> None:
    """Waiting ends with RouteMoved, so that the batch goes by the new route; nothing is condemned for being away."""

    class Away(Serving):
        async def call(self, name: str, matrix: Matrix, seconds_max: float) -> tuple[str, Matrix]:
            self.calls += 1
            raise Transient("away")

    serving = Away({})
    rows = np.arange(3)
    records: Any = [Record() for _ in rows]
    columns: Any = Numbers(3)
    batch = Batch(records, [Share(SOURCE, 0, 3)], [b"r"] * 3, rows, rows, [Group(1001, rows, columns)])
    scorer = Scorer(Settings(lane_retry_seconds=0.001, lane_retry_seconds_max=0.001), serving, Clock())
    with pytest.raises(RouteMoved):
        asyncio.run(scorer.score(batch, TABLE, lambda: serving.calls >= 5))
    assert serving.calls == 5
