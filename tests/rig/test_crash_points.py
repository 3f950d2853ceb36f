"""The list of crash points is true: every name is still there, and dying there means what it says."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from tests.rig import crash_points
from tests.rig.crash_points import CONTROL, LANE, POINTS, Crash, Deed, Moment, Point

SEED = 5


class Steps:
    """Two steps of a toy."""

    async def asks(self, topic: str) -> str:
        if topic == "away":
            raise ConnectionResetError
        return topic

    def counts(self) -> int:
        return 1


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Take the wrappers off again."""
    asks, counts = Steps.asks, Steps.counts
    yield
    Steps.asks, Steps.counts = asks, counts  # type: ignore[method-assign]  # as they were


def _point(name: str, about: str = "") -> Point:
    return Point(name, f"{__name__}:Steps.{name}", about)


@pytest.mark.parametrize("point", POINTS.values(), ids=lambda point: point.name)
def test_every_step_is_still_there_under_its_name(point: Point) -> None:
    """A step that is renamed must be renamed here: no crash point may silently hit nothing."""
    _, _, step = point.place()
    assert callable(step)


def test_names_are_unique_and_the_list_is_closed() -> None:
    """What a child is given by name is one of these, or an error."""
    assert len(POINTS) == len(LANE) + len(CONTROL)
    with pytest.raises(KeyError):
        Crash.parse("nowhere/before/1")


def test_each_point_is_tried_once_on_either_side() -> None:
    """The same seed gives the same order and reaches; nothing is left out."""
    crashes = Crash.each(LANE, SEED)
    assert crashes == Crash.each(LANE, SEED) != Crash.each(LANE, SEED + 1)
    tried = {(crash.point.name, crash.moment) for crash in crashes}
    assert tried == {(point.name, moment) for point in LANE for moment in Moment} and len(crashes) == len(tried)
    assert all(crash.point.reaches[0] <= crash.reach <= crash.point.reaches[1] for crash in crashes)


@pytest.mark.parametrize("deed", Deed)
def test_a_crash_is_said_to_a_child_and_read_back(deed: Deed) -> None:
    """The name is all that passes between the processes."""
    crash = Crash(POINTS["end-transaction"], Moment.AFTER, 3, deed)
    assert Crash.parse(str(crash)) == crash


async def test_a_process_dies_on_the_reach_that_is_meant_and_only_there() -> None:
    """The third call of a step, before it: two have come to their end by then, the third has not begun."""
    died: list[Deed] = []
    crash_points.install(Crash(_point("asks"), Moment.BEFORE, 3), died.append)
    for reach in range(1, 5):
        assert await Steps().asks("results") == "results"
        assert len(died) == (reach >= 3)
    assert died == [Deed.KILL]


async def test_only_calls_about_the_right_topic_count() -> None:
    """One driver's method serves all topics; the step is about one of them."""
    died: list[Deed] = []
    crash_points.install(Crash(_point("asks", ".results"), Moment.AFTER, 2), died.append)
    for topic in ("e.results", "e.batches", "e.observations", "e.results"):
        assert not died
        await Steps().asks(topic)
    assert died


async def test_a_step_that_fails_has_no_afterwards() -> None:
    """Dying after a step means that it was done."""
    reached: list[Moment] = []
    crash_points.watch(_point("asks"), reached.append)
    with pytest.raises(ConnectionResetError):
        await Steps().asks("away")
    assert reached == [Moment.BEFORE]


def test_a_plain_step_stays_plain() -> None:
    """What is no coroutine does not become one."""
    reached: list[Moment] = []
    crash_points.watch(_point("counts"), reached.append)
    answer: Any = Steps().counts()
    assert answer == 1 and not inspect.isawaitable(answer)
    assert reached == [Moment.BEFORE, Moment.AFTER]
