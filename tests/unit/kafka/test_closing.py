"""Ending a client of the driver never harms who ends it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from interlock.kafka.closing import closed

SECONDS_MAX = 0.05


class Connections:
    """Stands for the driver's connections; counts how often they were closed."""

    def __init__(self) -> None:
        self.closed = 0

    async def close(self) -> None:
        self.closed += 1


class Client:
    """A client of the driver whose `stop` ends as told."""

    def __init__(self, ending: Any) -> None:
        self._ending = ending
        self._client = Connections()

    async def stop(self) -> None:
        await self._ending()


async def _cancelled_inside() -> None:
    raise asyncio.CancelledError


async def _fails() -> None:
    raise ValueError


async def _hangs() -> None:
    await asyncio.Event().wait()


async def _ends() -> None:
    pass


@pytest.mark.parametrize(("ending", "abandoned"), [(_cancelled_inside, 1), (_fails, 1), (_hangs, 1), (_ends, 0)])
async def test_stop_that_goes_wrong_is_no_fault_of_the_caller(ending: Any, abandoned: int) -> None:
    """A stop that raises CancelledError, fails or hangs returns as if it had ended, its connections closed."""
    client = Client(ending)
    await closed(client, SECONDS_MAX)
    assert client._client.closed == abandoned
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_real_cancellation_goes_through() -> None:
    """Who is cancelled while it waits for a stop that hangs ends as cancelled."""
    task = asyncio.create_task(closed(Client(_hangs), 60.0))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
