"""Ending a client of the driver: within a bound, whatever state it is in, and without harm to who waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Final

ABANDON_SECONDS_MAX: Final = 1.0


async def closed(client: Any, seconds_max: float) -> None:
    """Stop a consumer or producer; what does not end within `seconds_max` is abandoned. Raises nothing.

    The driver's own `stop` may wait for a broker that is away. And it may raise the CancelledError of one of its
    tasks, which in the waiting task looks as if that had been cancelled: it would end without a word.
    """
    if not await ended(client.stop(), seconds_max):
        # A producer shows its connections, a consumer does not.
        connections = getattr(client, "client", None) or client._client  # noqa: SLF001 - the driver has no other way
        await ended(connections.close(), ABANDON_SECONDS_MAX)


async def ended(ending: Awaitable[Any], seconds_max: float) -> bool:
    """Say whether something came to its end without an error; look at the error, so that nobody reports it later."""
    task = asyncio.ensure_future(ending)
    try:
        await asyncio.wait({task}, timeout=seconds_max)
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=ABANDON_SECONDS_MAX)
    finally:
        task.cancel()
    return task.done() and not task.cancelled() and task.exception() is None
