"""Live figures: rates, shares and quantiles of one second; a cache that is away costs nothing but the figures."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from interlock.errors import Transient
from interlock_router.live import Live
from interlock_router.settings import Settings


class Clock:
    """A clock that the test moves."""

    seconds = 0.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.seconds


class Store:
    """Keeps what is put; away when told so."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Any]] = {}
        self.away = False

    async def put_live(self, name: str, value: dict[str, Any], ttl_seconds: float) -> None:
        if self.away:
            raise Transient("away")
        self.kept[name] = value


async def test_a_second_of_batches_becomes_rates_shares_and_quantiles() -> None:
    """1,000 rows in two seconds, a tenth by version 2, two dead letters, latencies of 10 to 1,000 ms."""
    clock, store = Clock(), Store()
    live = Live(Settings(), store, clock, asyncio.Event())
    live.note("fraud", {1: 900, 2: 98}, 2, np.linspace(10, 1000, 1000))
    live.note_lag("fraud", 0, 5)
    live.note_lag("fraud", 3, 7)
    clock.seconds = 2.0
    await live.write()
    [(name, figures)] = store.kept.items()
    assert name == f"live:fraud:{live.instance}"
    assert (figures["events_per_second"], figures["dead_letters_per_second"], figures["lag"]) == (500.0, 1.0, 12)
    assert figures["versions"] == {"1": 0.9018, "2": 0.0982}
    assert figures["latency_ms"]["p50"] == pytest.approx(505, rel=0.1)
    assert figures["latency_ms"]["p99"] == pytest.approx(990, rel=0.1)
    clock.seconds = 3.0
    live.drop_lag("fraud", 3)
    await live.write()
    assert store.kept[name]["events_per_second"] == 0 and store.kept[name]["latency_ms"] == {"p50": None, "p99": None}
    assert store.kept[name]["lag"] == 5


async def test_a_cache_that_is_away_is_counted_and_ignored() -> None:
    """Nothing is raised; the next look after it came back is written."""
    clock, store = Clock(), Store()
    live = Live(Settings(), store, clock, asyncio.Event())
    live.note("fraud", {1: 1}, 0, np.array([3.0]))
    store.away = True
    await live.write()
    assert (live.missed, store.kept) == (1, {})
    store.away = False
    await live.write()
    assert len(store.kept) == 1
