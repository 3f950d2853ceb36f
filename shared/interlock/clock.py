"""Time comes in as an argument: the one place that reads the system's clocks."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


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


def instant_of(milliseconds_since_1970: int) -> datetime:
    """Return the aware instant, in UTC, that `milliseconds` gave; exact for every one that a datetime can hold."""
    return _EPOCH + timedelta(milliseconds=milliseconds_since_1970)
