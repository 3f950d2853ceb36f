"""The demo's own child processes: the stream and the checker, spoken to in lines of JSON."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

REPOSITORY: Final = Path(__file__).resolve().parents[2]
STOP_SECONDS_MAX: Final = 20.0
LINE_BYTES_MAX: Final = 4 * 1024 * 1024


class DemoFailed(Exception):
    """The story cannot go on; the message says why."""


class Child:
    """A child process that reports in lines of JSON, the last line of each kind kept."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self._name = name
        self._process = process
        self._said: dict[str, dict[str, Any]] = {}
        self._news = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(
        cls, module: str, arguments: Sequence[str], log: Path, secrets: Mapping[str, str] | None = None
    ) -> Child:
        """Start a module of this example; what it says on standard error goes to a file.

        Secrets go by its environment: command lines can be read by everybody on the machine.
        """
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                module,
                *arguments,
                cwd=REPOSITORY,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env=os.environ | dict(secrets or {}),
                limit=LINE_BYTES_MAX,
            )
        return cls(module.rsplit(".", 1)[-1], process)

    def said(self, what: str) -> dict[str, Any]:
        """Return the last report of a kind, empty if there was none."""
        return self._said.get(what, {})

    async def hear(self, what: str, seconds: float) -> dict[str, Any]:
        """Wait for the next report of a kind (one that came already counts) and take it. Raises DemoFailed."""
        try:
            async with asyncio.timeout(seconds), self._news:
                await self._news.wait_for(lambda: what in self._said or self._reader.done())
        except TimeoutError:
            raise DemoFailed(f"The {self._name} did not say {what!r} within {seconds:.0f} seconds.") from None
        if what not in self._said:
            raise DemoFailed(f"The {self._name} ended before it said {what!r}.")
        return self._said.pop(what)

    async def tell(self, **order: Any) -> None:
        """Send an order. Raises DemoFailed if the process is gone."""
        stdin = self._process.stdin
        if stdin is None or self._process.returncode is not None:
            raise DemoFailed(f"The {self._name} is gone (status {self._process.returncode}).")
        stdin.write(json.dumps(order).encode() + b"\n")
        await stdin.drain()

    async def stop(self) -> None:
        """End the process: by closing its standard input, and by force if that does not help."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(STOP_SECONDS_MAX):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reader

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            document = json.loads(line)
            async with self._news:
                self._said[document.pop("what")] = document
                self._news.notify_all()
        async with self._news:
            self._news.notify_all()


def environment(home: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a child: ours without other stacks' addresses, and with the demo's home."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
    return kept | {"INTERLOCK_HOME": str(home)} | dict(more or {})


async def interlock(home: Path, *words: str, quiet: bool = True, settings: Mapping[str, str] | None = None) -> str:
    """Run a command of the command line and return what it printed. Raises DemoFailed with its error.

    `settings` are environment variables of the command, and of what it starts.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "interlock.cli",
        *words,
        cwd=REPOSITORY,
        env=environment(home, settings),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE if quiet else None,
        stderr=asyncio.subprocess.PIPE if quiet else None,
    )
    try:
        output, errors = await process.communicate()
    except asyncio.CancelledError:
        if process.returncode is None:
            process.terminate()
            await process.wait()
        raise
    if process.returncode:
        raise DemoFailed(f"`interlock {' '.join(words)}` failed:\n{(errors or b'').decode().strip()}")
    return (output or b"").decode()
