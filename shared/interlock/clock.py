"""Time comes in as an argument: the one place that reads the system's clocks."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the platform knows of time."""

    def now(self) -> datetime:
        """Return the wall-clock time, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go backwards; only differences mean anything."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        """Return the wall-clock time, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that never go backwards."""
        return time.monotonic()


def whole_milliseconds(instant: datetime) -> datetime:
    """Return the instant without what is finer than a millisecond: every writer then says the same number."""
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)


def milliseconds(instant: datetime) -> int:
    """Return an aware instant as whole milliseconds since the epoch (Avro's timestamp-millis)."""
    return round(instant.timestamp() * 1000)
