"""How many requests a lane takes at once: as many as are scored in a bounded time, and never more than so many."""

from __future__ import annotations

ROWS_FIRST = 4096
"""What is taken before anything is known about the versions."""

ROWS_MIN = 64
"""What is taken from the slowest version: fewer rows would not make a call to it quicker."""

GROWTH = 4
"""How many times more is taken than before, at most."""

VERSIONS_MAX = 4
"""For so many versions at most a lane takes more: ten that share what one would be given are asked for a tenth each."""


class Pace:
    """The pace of one lane.

    Large batches share what a call and a transaction cost among more requests; but a call has a time limit, and a
    version of which each row takes a millisecond must not be given sixteen thousand. `rows_max` is for one version.
    """

    def __init__(self, rows_max: int, seconds_aim: float) -> None:
        self._rows_max = rows_max
        self._seconds_aim = seconds_aim
        self._rows = min(ROWS_FIRST, rows_max)

    def rows(self, versions: int = 1) -> int:
        """Return how many requests to take next at most, where so many versions share them."""
        return min(self._rows, self._rows_max * min(max(versions, 1), VERSIONS_MAX))

    def scored(self, rows: int, seconds: float) -> None:
        """Learn how long it took to score so many."""
        bound = self._rows_max * VERSIONS_MAX
        within = int(rows * self._seconds_aim / seconds) if seconds > 0 else bound
        if within <= self._rows or rows > self._rows // GROWTH:  # a small batch says little about a large one
            self._rows = max(min(ROWS_MIN, self._rows_max), min(within, GROWTH * self._rows, bound))
