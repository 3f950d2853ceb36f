"""A clock that moves when it is told to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class ManualClock:
    """Wall and monotonic time under a test's control; both move together."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed_seconds = 0.0

    def now(self) -> datetime:
        """Return the wall-clock time, aware, in UTC."""
        return self._start + timedelta(seconds=self._elapsed_seconds)

    def monotonic(self) -> float:
        """Return the seconds since the clock was made."""
        return self._elapsed_seconds

    def advance(self, seconds: float) -> None:
        """Move on by so many seconds; raises ValueError for a step back."""
        if seconds < 0:
            raise ValueError("time does not go back")
        self._elapsed_seconds += seconds
