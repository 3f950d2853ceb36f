"""An observation read once: its columns, when its requests happened, and the windows of event time they fall into."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from interlock.clock import milliseconds
from interlock.codec.observations import PANE_SECONDS, GroupColumns, columns, event_time
from interlock.schemas.events import FeatureSketch, Observation, ObservedGroup, ObservedRejection
from interlock_monitor.windows_columns import Pane

PANE_MILLISECONDS = PANE_SECONDS * 1000

Times = NDArray[np.int64]
Rows = slice | NDArray[np.intp]
"""Some rows, in their order: a slice where they adjoin."""


@dataclass(frozen=True)
class Answered:
    """What one version answered: `times` are event times in milliseconds, `windows` the start and the rows of each.

    `panes` are by the start of a window, where sketches came in place of columns.
    """

    columns: GroupColumns
    times: Times
    windows: tuple[tuple[int, Rows], ...]
    panes: dict[int, list[Pane]]

    @property
    def group(self) -> ObservedGroup:
        """What was read."""
        return self.columns.group


@dataclass(frozen=True)
class Rejected:
    """The requests that were rejected for one reason, by the start of their window in milliseconds."""

    rejection: ObservedRejection
    counts: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Reading:
    """An observation with all that is told by its bytes; times in milliseconds since 1970."""

    observation: Observation
    window_milliseconds: int
    taken_at: int
    scored_at: int
    answered: tuple[Answered, ...]
    rejected: tuple[Rejected, ...]
    event_time_max: int
    """The latest event time; the observation's own where it has no rows."""


def read(observation: Observation, window_milliseconds: int) -> Reading:
    """Read an observation. Raises ValueError if its columns or sketches do not fit its rows."""
    scored_at = milliseconds(observation.at)
    answered = tuple(_answered(group, scored_at, window_milliseconds) for group in observation.groups)
    latest = [int(each.times.max()) for each in answered if each.times.size]
    rejected = []
    for each in observation.rejected:
        times = _times(each, scored_at)
        if times.size:
            latest.append(int(times.max()))
        counts = tuple((start, _count(rows)) for start, rows in _windows(times, window_milliseconds))
        rejected.append(Rejected(each, counts))
    return Reading(
        observation,
        window_milliseconds,
        milliseconds(observation.taken_at),
        scored_at,
        answered,
        tuple(rejected),
        max(latest, default=scored_at),
    )


def alike(numbers: Times) -> Iterator[tuple[int, Rows]]:
    """Yield each number that there is, from the least, and the rows that have it."""
    if not numbers.size:
        return
    least = int(numbers.min())
    if least == int(numbers.max()):
        yield least, slice(0, numbers.size)
        return
    order = np.argsort(numbers, kind="stable")  # quick where time goes on, as it mostly does
    sorted_numbers = numbers[order]
    cuts = np.flatnonzero(sorted_numbers[1:] != sorted_numbers[:-1]) + 1
    for begin, end in pairwise([0, *cuts.tolist(), numbers.size]):
        rows = order[begin:end]
        first, last = int(rows[0]), int(rows[-1])
        adjoin = last - first + 1 == rows.size
        yield int(sorted_numbers[begin]), slice(first, last + 1) if adjoin else rows


def within(rows: Rows, places: Rows) -> Rows:
    """Return the rows that stand at these places among `rows`."""
    if isinstance(rows, slice):
        return (
            slice(rows.start + places.start, rows.start + places.stop)
            if isinstance(places, slice)
            else (places + rows.start)
        )
    return rows[places]


def _answered(group: ObservedGroup, scored_at: int, window_milliseconds: int) -> Answered:
    told = columns(group)
    times = _times(group, scored_at)
    windows = tuple(_windows(times, window_milliseconds))
    if told.features is not None:
        return Answered(told, times, windows, {})
    if window_milliseconds % PANE_MILLISECONDS:
        raise ValueError(f"windows of {window_milliseconds} ms cannot take sketches of {PANE_MILLISECONDS} ms")
    sketches: dict[int, list[FeatureSketch]] = {}
    for sketch in group.sketches:
        sketches.setdefault(milliseconds(sketch.pane), []).append(sketch)
    panes = {start: Pane.of(group.feature_names, each) for start, each in sketches.items()}
    counted = {start: _count(rows) for start, rows in _windows(times, PANE_MILLISECONDS)}
    if counted != {start: pane.rows for start, pane in panes.items()}:
        raise ValueError("a group's sketches are of other panes, or of more or fewer rows, than its times say")
    by_window: dict[int, list[Pane]] = {}
    for start, pane in panes.items():
        by_window.setdefault(start - start % window_milliseconds, []).append(pane)
    return Answered(told, times, windows, by_window)


def _times(rows: ObservedGroup | ObservedRejection, scored_at: int) -> Times:
    if len(rows.requested_at) != 8 * rows.rows:
        raise ValueError(f"{rows.rows} requests of {rows.model or 'no version'} have {len(rows.requested_at)} bytes")
    return event_time(np.frombuffer(rows.requested_at, dtype="<i8"), scored_at)


def _windows(times: Times, window_milliseconds: int) -> Iterator[tuple[int, Rows]]:
    """Yield the start of each window that the times fall into, and which of them do."""
    for number, rows in alike(times // window_milliseconds):
        yield number * window_milliseconds, rows


def _count(rows: Rows) -> int:
    return rows.stop - rows.start if isinstance(rows, slice) else rows.size
