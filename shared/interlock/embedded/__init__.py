"""The embedded stack: the real servers and services as child processes on loopback, in one data folder."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

SERVERS = ("kafka", "postgres", "valkey")
SERVICES = ("registry", "builder", "deployer", "router", "monitor", "auditor", "witness")
EVERYTHING = (*SERVERS, "ray", *SERVICES)
"""All parts of a stack, in starting order."""

__all__ = ["EVERYTHING", "SERVERS", "SERVICES", "running"]


class running:  # noqa: N801 - reads as a phrase: `with running(home) as env`
    """Run a stack for the length of a `with` or `async with` block; yields the client environment.

    `parts` names what to start (a service brings the servers it needs). The stack ends with this process even if
    the block is never left. It takes free ports, so that it can live beside a stack of the user's own.
    """

    def __init__(self, home: Path | str, parts: Iterable[str] = EVERYTHING) -> None:
        self._folder = Path(home)
        self._parts = tuple(parts)

    def __enter__(self) -> dict[str, str]:
        """Start; raises launch.StartFailed or launch.IsRunning."""
        from interlock.embedded.home import Home
        from interlock.embedded.launch import up

        return up(Home(self._folder), self._parts, owned=True, usual_ports=False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        from interlock.embedded.home import Home
        from interlock.embedded.launch import down

        down(Home(self._folder))

    async def __aenter__(self) -> dict[str, str]:
        """Start without blocking the loop."""
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop without blocking the loop."""
        await asyncio.to_thread(self.__exit__, kind, error, trace)
