"""The timeline: every control event that the registry wrote or heard, in order, and the wait for the next one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from interlock.errors import Transient
from interlock.postgres.pool import Connection, Pool, passing
from interlock.schemas import Event

CHANNEL: Final = "interlock_registry_timeline"
_NOTE: Final = """
INSERT INTO timeline (event_id, type, model, endpoint, at, event) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (event_id) DO NOTHING
"""
_NEWS: Final = "SELECT pg_notify($1, '')"
_READ: Final = """
SELECT position, event_id, type, model, endpoint, at, event FROM timeline
WHERE position > $1 AND ($2::text IS NULL OR model = $2) AND ($3::text IS NULL OR endpoint = $3)
ORDER BY position LIMIT $4
"""
_END: Final = "SELECT coalesce(max(position), 0) FROM timeline"


@dataclass(frozen=True)
class Entry:
    """One line of the timeline."""

    position: int
    id: str
    type: str
    model: str | None
    endpoint: str | None
    at: datetime
    event: dict[str, Any]


async def note(connection: Connection, event_id: str, event: Event, model: str | None) -> None:
    """Add an event to the timeline, once; the caller holds the registry's lock (`store.begin`)."""
    kind = type(event).__name__
    await connection.execute(
        _NOTE,
        event_id,
        kind,
        model,
        getattr(event, "endpoint", None),
        event.at,  # type: ignore[attr-defined]  # every control event has it; the base class has no fields
        msgspec.json.encode(event).decode(),
    )
    await connection.execute(_NEWS, CHANNEL)


async def read(
    connection: Connection | Pool, after: int, model: str | None, endpoint: str | None, entries_max: int
) -> list[Entry]:
    """Return the entries behind position `after`, of all or of one model or endpoint, at most `entries_max`."""
    rows = await connection.fetch(_READ, after, model, endpoint, entries_max)
    return [
        Entry(
            row["position"], row["event_id"], row["type"], row["model"], row["endpoint"], row["at"],
            msgspec.json.decode(row["event"]),
        )
        for row in rows
    ]  # fmt: skip


async def end(connection: Connection | Pool) -> int:
    """Return the position of the newest entry, 0 where there is none."""
    return int(await connection.fetchval(_END))


class Timeline:
    """The timeline as its readers wait on it: woken by a notification of Postgres, and by a slow poll besides."""

    def __init__(self, pool: Pool, *, poll_seconds: float, entries_max: int) -> None:
        self._pool = pool
        self._poll_seconds = poll_seconds
        self._entries_max = entries_max
        self._news = asyncio.Event()

    async def watch(self, stopping: asyncio.Event) -> None:
        """Listen for notifications until `stopping`; a lost connection is opened again."""
        while not stopping.is_set():
            try:
                async with passing(), self._pool.acquire() as connection:
                    await connection.add_listener(CHANNEL, self._heard)
                    try:
                        while not stopping.is_set() and not connection.is_closed():
                            await _wait(stopping, self._poll_seconds)
                    finally:
                        if not connection.is_closed():
                            await connection.remove_listener(CHANNEL, self._heard)
            except Transient:
                await _wait(stopping, self._poll_seconds)
        self._heard()

    async def wait(
        self, after: int, *, model: str | None = None, endpoint: str | None = None, seconds: float = 0.0
    ) -> list[Entry]:
        """Return the entries behind `after`; where there is none, wait up to `seconds` for the first.

        Raises Transient where Postgres is away.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while True:
            # The event is taken before the look: news that comes in between wakes the wait at once.
            news = self._news
            async with passing():
                found = await read(self._pool, after, model, endpoint, self._entries_max)
            left = until - loop.time()
            if found or left <= 0:
                return found
            await _wait(news, min(left, self._poll_seconds))

    async def follow(
        self, after: int, *, model: str, seconds: float, idle_seconds: float
    ) -> AsyncIterator[Entry | None]:
        """Yield a model's entries behind `after` for up to `seconds`, and None for each `idle_seconds` without one."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while (left := until - loop.time()) > 0:
            found = await self.wait(after, model=model, seconds=min(left, idle_seconds))
            for entry in found:
                after = entry.position
                yield entry
            if not found:
                yield None

    def _heard(self, *_: object) -> None:
        """Wake every reader that waits now."""
        self._news.set()
        self._news = asyncio.Event()


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, at most for a time."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
