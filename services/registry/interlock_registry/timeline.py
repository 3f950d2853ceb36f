"""The timeline as its readers wait on it: every control event the registry wrote or heard, and the next one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from interlock.backoff import pause
from interlock.errors import Transient
from interlock.postgres.pool import Pool, passing
from interlock_registry.store_timeline import CHANNEL, Entry, newest, read


class Timeline:
    """Lets readers wait: woken by a notification of Postgres, and by a slow poll besides."""

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
                            await pause(stopping, self._poll_seconds)
                    finally:
                        if not connection.is_closed():
                            await connection.remove_listener(CHANNEL, self._heard)
            except Transient:
                await pause(stopping, self._poll_seconds)
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
            await pause(news, min(left, self._poll_seconds))

    async def newest(self, count: int, *, model: str | None = None, endpoint: str | None = None) -> list[Entry]:
        """Return the newest entries, oldest first. Raises Transient where Postgres is away."""
        async with passing():
            return await newest(self._pool, model, endpoint, min(count, self._entries_max))

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
