"""Windows that grow in Postgres, transaction by transaction, whatever becomes of one of them."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np

from interlock.cause import Cause
from interlock.postgres import journal, pool
from interlock_monitor.store import Chunk, Store
from interlock_monitor.windows import WindowKey, WindowState
from tests.integration.monitor.rig import Room
from tests.unit.monitor.worlds import T0, WINDOW, window_of

ROWS = 100
KEYS = [WindowKey("fraud", "fraud", 1, "sha256:1", "champion", T0 + WINDOW * each) for each in range(40)]


class Failed(Exception):
    """The transaction does not commit."""


def grown(number: int) -> WindowState:
    """Return what is added to a window: rows of their own numbers."""
    return window_of(None, np.arange(number, number + ROWS, dtype=np.float64).reshape(-1, 1))


async def test_a_window_grows_by_what_was_committed_and_by_nothing_else(room: Room) -> None:
    """Rolled back, written by another, forgotten for others: a window at hand is used only where Postgres holds it."""
    database = await pool.connect(room.dsn)
    try:
        await _grow(room, database)
    finally:
        database.terminate()


async def _grow(room: Room, database: Any) -> None:
    rng = random.Random(3)
    stores = [Store(database, WINDOW), Store(database, WINDOW)]
    committed: dict[WindowKey, list[int]] = {}

    async def add(store: Store, numbers: dict[WindowKey, int], *, fails: bool) -> None:
        try:
            async with journal.unit(database, Cause.start("rig")) as unit:
                await store.apply(unit, Chunk(states={key: grown(number) for key, number in numbers.items()}), T0)
                if fails:
                    raise Failed
        except Failed:
            return
        for key, number in numbers.items():
            committed.setdefault(key, []).append(number)

    for turn in range(60):
        store = stores[0] if rng.random() < 0.8 else stores[1]
        keys = KEYS[:3] if turn % 20 else KEYS  # now and then more than are kept at hand
        await add(store, dict.fromkeys(keys, 1000 * turn), fails=rng.random() < 0.3)
    rows: list[Any] = await room.fetch("SELECT start_milliseconds, rows, state FROM windows")
    assert len(rows) == len(committed) == len(KEYS)
    for row in rows:
        [key] = [each for each in committed if each.start_milliseconds == row["start_milliseconds"]]
        window, numbers = WindowState.from_bytes(row["state"]), committed[key]
        told = window.features["f0"]
        assert row["rows"] == window.rows == told.count == ROWS * len(numbers), json.dumps(numbers)
        assert (told.minimum, told.maximum) == (min(numbers), max(numbers) + ROWS - 1)
        assert told.mean == np.mean([np.arange(number, number + ROWS).mean() for number in numbers])
