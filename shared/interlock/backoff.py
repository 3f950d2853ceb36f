"""Back-off: pauses that grow from attempt to attempt, with jitter, up to a bound; and how a pause is cut short."""

from __future__ import annotations

import asyncio
import contextlib
import random

FIRST_SECONDS = 0.1


class Backoff:
    """The pauses between attempts to do one thing."""

    def __init__(self, seconds_max: float, first_seconds: float = FIRST_SECONDS) -> None:
        self._seconds_max = seconds_max
        self._first_seconds = first_seconds
        self._attempts = 0

    def next_seconds(self) -> float:
        """Return how long to wait now: between half and all of a ceiling that doubles each time.

        The jitter keeps processes that failed together from coming back together.
        """
        ceiling = min(self._seconds_max, self._first_seconds * 2.0 ** min(self._attempts, 30))
        self._attempts += 1
        return ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing

    def reset(self) -> None:
        """Begin anew after a success."""
        self._attempts = 0


async def pause(until: asyncio.Event, seconds: float) -> None:
    """Wait for a time, or less: until the event is set."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(until.wait(), seconds)
