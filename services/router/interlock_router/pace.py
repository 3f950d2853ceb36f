"""The pace of a lane: how many requests it takes at once, and how soon after one another."""

from __future__ import annotations

ROWS_FIRST = 4096
"""What is taken before anything is known about the versions."""

ROWS_MIN = 64
"""What is taken from the slowest version: fewer rows would not make a call to it quicker."""

GROWTH = 4
"""How many times more is taken than before, at most."""

VERSIONS_MAX = 4
"""For so many versions at most a lane takes more: ten that share what one would be given are asked for a tenth each."""

SMOOTHING = 0.2
"""The weight of the last batch in what is thought of the next."""


class Pace:
    """The pace of one lane.

    Large batches share what a call and a transaction cost among more requests; but a call has a time limit, and a
    version of which each row takes a millisecond must not be given sixteen thousand. `rows_max` is for one version;
    the interval between two batches is as long as they take to be answered, within `interval_seconds` and
    `interval_seconds_max`: shorter, batches are small and many, and what each of them costs fills the machine.
    """

    def __init__(
        self, rows_max: int, seconds_aim: float, interval_seconds: float = 0.0, interval_seconds_max: float = 0.0
    ) -> None:
        self._rows_max = rows_max
        self._seconds_aim = seconds_aim
        self._rows = min(ROWS_FIRST, rows_max)
        self._interval_seconds = interval_seconds
        self._interval_seconds_max = interval_seconds_max
        self._answered_seconds = 0.0

    def rows(self, versions: int = 1) -> int:
        """Return how many requests to take next at most, where so many versions share them."""
        return min(self._rows, self._rows_max * min(max(versions, 1), VERSIONS_MAX))

    def scored(self, rows: int, seconds: float) -> None:
        """Learn how long it took to score so many."""
        bound = self._rows_max * VERSIONS_MAX
        within = int(rows * self._seconds_aim / seconds) if seconds > 0 else bound
        if within <= self._rows or rows > self._rows // GROWTH:  # a small batch says little about a large one
            self._rows = max(min(ROWS_MIN, self._rows_max), min(within, GROWTH * self._rows, bound))

    @property
    def interval_seconds(self) -> float:
        """How long after its last batch the lane takes the next."""
        return max(self._interval_seconds, min(self._answered_seconds, self._interval_seconds_max))

    def answered(self, seconds: float) -> None:
        """Learn how long a batch took, from when it was taken to its commit."""
        seconds = min(max(seconds, 0.0), self._interval_seconds_max)
        self._answered_seconds += SMOOTHING * (seconds - self._answered_seconds)
