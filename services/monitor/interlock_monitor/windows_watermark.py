"""Watermarks: up to which moment of event time an endpoint's requests have been seen, so that windows may close."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class _Partition:
    event_time_max: int
    seen_at: int


class Watermarks:
    """One watermark per endpoint, over the partitions of its observations; all times in milliseconds since 1970.

    A partition holds the watermark back until `idle_seconds` after its last observation; then the others go on without
    it. `lateness_seconds` is how long a window stays open for requests that come behind.
    """

    def __init__(self, lateness_seconds: float, idle_seconds: float) -> None:
        self._lateness = round(lateness_seconds * 1000)
        self._idle = round(idle_seconds * 1000)
        self._partitions: dict[str, dict[int, _Partition]] = {}

    def expect(self, endpoint: str, partition: int, now: int) -> None:
        """Wait for a partition that is to be read: until its first observation, or until it is idle, nothing closes."""
        self._partitions.setdefault(endpoint, {}).setdefault(partition, _Partition(0, now))

    def observe(self, endpoint: str, partition: int, event_time_max: int, now: int) -> None:
        """Take in an observation's latest event time. One ahead of `now` counts as `now`."""
        partitions = self._partitions.setdefault(endpoint, {})
        known = partitions.get(partition)
        latest = min(event_time_max, now)
        if known is not None:
            latest = max(latest, known.event_time_max)
        partitions[partition] = _Partition(latest, now)

    def watermark(self, endpoint: str, now: int) -> int:
        """Return the moment up to which windows may close.

        The least of the partitions' latest event times, less the lateness; where all are idle or none is known, `now`
        less both. It is never ahead of `now`, but falls back when an idle partition wakes: what has closed, stays so.
        """
        partitions = self._partitions.get(endpoint, {}).values()
        awake = [each.event_time_max for each in partitions if now - each.seen_at <= self._idle]
        if not awake:
            return now - self._idle - self._lateness
        return min(*awake, now) - self._lateness

    def forget(self, endpoint: str, partition: int) -> None:
        """Drop a partition that another process reads from now on."""
        self._partitions.get(endpoint, {}).pop(partition, None)

    def endpoints(self) -> list[str]:
        """Return the endpoints that were ever observed."""
        return sorted(self._partitions)
