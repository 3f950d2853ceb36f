"""Live figures: what the lanes did in the last second, for whoever looks; nothing depends on them."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from interlock.backoff import pause
from interlock.clock import Clock
from interlock.errors import Transient
from interlock_router.settings import Settings

_STEPS_PER_DOUBLING = 8
_BUCKETS = 24 * _STEPS_PER_DOUBLING
"""Logarithmic buckets from one millisecond to 2**24 of them, 9 % wide."""


class LiveStore(Protocol):
    """Where live figures are put (`interlock.cache.Cache`)."""

    async def put_live(self, name: str, value: dict[str, Any], ttl_seconds: float) -> None:
        """Keep a JSON object for a while; raises Transient when the cache is away."""
        ...


@dataclass
class _Figures:
    """What happened at one endpoint since the last look."""

    rows: int = 0
    dead_letters: int = 0
    versions: Counter[int] = field(default_factory=Counter)
    latency: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BUCKETS, dtype=np.int64))
    lag: dict[int, int] = field(default_factory=dict)


class Live:
    """Collects figures batch by batch and puts them into the cache every `live_seconds`."""

    def __init__(self, settings: Settings, store: LiveStore, clock: Clock, stopping: asyncio.Event) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._stopping = stopping
        self._figures: dict[str, _Figures] = {}
        self._looked_at = clock.monotonic()
        self.instance = f"{socket.gethostname()}-{os.getpid()}"
        self.missed = 0

    def note(self, endpoint: str, versions: dict[int, int], dead_letters: int, milliseconds: npt.NDArray[Any]) -> None:
        """Note one committed batch: rows by version, dead letters, and each row's time from request to commit."""
        figures = self._figures.setdefault(endpoint, _Figures())
        figures.rows += milliseconds.size
        figures.dead_letters += dead_letters
        figures.versions.update(versions)
        place = np.log2(np.maximum(milliseconds, 1).astype(np.float64)) * _STEPS_PER_DOUBLING
        figures.latency += np.bincount(np.minimum(place.astype(np.int64), _BUCKETS - 1), minlength=_BUCKETS)

    def note_lag(self, endpoint: str, partition: int, lag: int) -> None:
        """Note how many requests of a partition wait."""
        self._figures.setdefault(endpoint, _Figures()).lag[partition] = lag

    def drop_lag(self, endpoint: str, partition: int) -> None:
        """Forget a partition that another router owns now."""
        self._figures.setdefault(endpoint, _Figures()).lag.pop(partition, None)

    async def run(self) -> None:
        """Write the figures until told to stop. A cache that is away is ignored, and counted in `missed`."""
        while not self._stopping.is_set():
            await pause(self._stopping, self._settings.live_seconds)
            await self.write()

    async def write(self) -> None:
        """Write what was noted since the last time."""
        now = self._clock.monotonic()
        seconds, self._looked_at = max(now - self._looked_at, 1e-3), now
        for endpoint, figures in list(self._figures.items()):
            self._figures[endpoint] = _Figures(lag=figures.lag)
            try:
                await self._store.put_live(
                    f"live:{endpoint}:{self.instance}",
                    self._summary(endpoint, figures, seconds),
                    self._settings.live_ttl_seconds,
                )
            except Transient:
                self.missed += 1

    def _summary(self, endpoint: str, figures: _Figures, seconds: float) -> dict[str, Any]:
        total = max(sum(figures.versions.values()), 1)
        return {
            "endpoint": endpoint,
            "instance": self.instance,
            "at": self._clock.now().isoformat(timespec="milliseconds"),
            "events_per_second": round(figures.rows / seconds, 1),
            "lag": sum(figures.lag.values()),
            "latency_ms": {"p50": quantile(figures.latency, 0.5), "p99": quantile(figures.latency, 0.99)},
            "versions": {str(version): round(rows / total, 4) for version, rows in sorted(figures.versions.items())},
            "dead_letters_per_second": round(figures.dead_letters / seconds, 1),
        }


def quantile(histogram: npt.NDArray[np.int64], share: float) -> float | None:
    """Return the upper edge, in milliseconds, of the bucket that holds a quantile; None where nothing was counted."""
    total = int(histogram.sum())
    if not total:
        return None
    place = int(np.searchsorted(np.cumsum(histogram), share * total))
    return float(round(2.0 ** ((place + 1) / _STEPS_PER_DOUBLING), 1))
