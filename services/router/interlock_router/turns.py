"""When lanes take: each a while after its last batch, and one after the other."""

from __future__ import annotations

from collections.abc import Hashable


class Turns:
    """The turns of the lanes of a process.

    Batches that begin together wait for the same processor, replica and broker at each of their steps, and all are as
    late as the last of them. Begun one after the other, each finds the way free.
    """

    def __init__(self) -> None:
        self._last: dict[Hashable, float] = {}
        self._next = float("-inf")

    def next_seconds(self, lane: Hashable, now: float, interval_seconds: float) -> float:
        """Give a lane the next turn and return how long it has to wait for it.

        Turns are apart by the interval over the number of lanes that took within two of it, and no lane waits for
        more than that: one of a slow version, whose interval is long, does not hold up those of a quick one.
        """
        since = now - 2 * interval_seconds
        self._last = {each: at for each, at in self._last.items() if at > since}
        self._last[lane] = now
        apart = interval_seconds / len(self._last)
        at = min(max(now, self._next), now + apart)
        self._last[lane], self._next = at, at + apart
        return at - now
