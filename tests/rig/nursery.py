"""Many processes to be hurt, started fast: one process imports the product once, and each child is a fork of it.

Orders come on standard input as lines of JSON (`name`, `arguments`, `environment`, `log`), reports go out the same way:
`{"name", "pid"}` when a child was born, `{"name", "pid", "status"}` when it ended. Standard input closed: all children
are killed, so that nobody survives the test.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from tests.rig import child

LOOK_SECONDS: Final = 0.02
BORN_SECONDS_MAX: Final = 30.0
END_SECONDS_MAX: Final = 30.0
REPOSITORY: Final = Path(__file__).resolve().parents[2]


@dataclass
class Hurt:
    """A child seen from outside: its pid, its log, its end."""

    name: str
    log: Path
    pid: int = 0
    status: int | None = None
    """As `subprocess` has it: the exit status, or minus the signal that ended it."""
    born: float = 0.0
    stopped: bool = False
    _lines: list[dict[str, Any]] = field(default_factory=list)
    _read_bytes: int = 0

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless the child is gone."""
        if self.status is None:
            self.stopped = number is signal.SIGSTOP or (self.stopped and number is not signal.SIGCONT)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def heard(self, event: str) -> list[dict[str, Any]]:
        """Return what the child has logged of a kind so far."""
        return [line for line in self.lines() if line.get("event") == event]

    def lines(self) -> list[dict[str, Any]]:
        """Return all that the child has logged so far; a line that is no JSON (a traceback) stands under `text`."""
        with self.log.open("rb") as stream:
            stream.seek(self._read_bytes)
            text = stream.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read_bytes += len(whole)
        self._lines += [_parsed(line) for line in whole.splitlines() if line]
        return self._lines

    async def ended(self, seconds: float = END_SECONDS_MAX) -> int:
        """Wait for the end and return the status; fails after a bound."""
        deadline = time.monotonic() + seconds
        while self.status is None:
            assert time.monotonic() < deadline, f"{self.name} goes on after {seconds:.0f} s: {self.lines()[-3:]}"
            await asyncio.sleep(LOOK_SECONDS)
        return self.status

    async def hear(self, event: str, seconds: float = BORN_SECONDS_MAX, times: int = 1) -> dict[str, Any]:
        """Wait until the child has logged an event so many times; fails after a bound or when the child ends."""
        deadline = time.monotonic() + seconds
        while len(found := self.heard(event)) < times:
            assert self.status is None, f"{self.name} ended ({self.status}) before {event}: {self.lines()[-3:]}"
            assert time.monotonic() < deadline, f"{self.name}: no {event} in {seconds:.0f} s: {self.lines()[-3:]}"
            await asyncio.sleep(LOOK_SECONDS)
        return found[-1]


class Nursery:
    """The process that forks, from the side of the test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: dict[str, Hurt] = {}
        self._count = 0

    async def __aenter__(self) -> Self:
        """Start it; the first child waits for its imports."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "nursery.log").open("wb") as errors:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.rig.nursery", cwd=REPOSITORY, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=errors,
            )  # fmt: skip
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        """End it, and with it all that still live."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        await self._reading

    async def start(self, *arguments: str, crash: str = "", plant: str = "") -> Hurt:
        """Fork a child that runs a role, and return it as soon as it has a pid."""
        self._count += 1
        name = f"{arguments[0]}-{self._count}"
        hurt = self._children[name] = Hurt(name, self._folder / f"{name}.log", born=time.time())
        hurt.log.touch()
        broken = {child.CRASH: crash, child.PLANT: plant}
        order = {"name": name, "arguments": arguments, "environment": broken, "log": str(hurt.log)}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        await self._process.stdin.drain()
        deadline = time.monotonic() + BORN_SECONDS_MAX
        while not hurt.pid:
            assert time.monotonic() < deadline and not self._reading.done(), f"{name} was not born"
            await asyncio.sleep(LOOK_SECONDS)
        return hurt

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            report = json.loads(line)
            hurt = self._children[report["name"]]
            hurt.pid, hurt.status = report["pid"], report.get("status")


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except ValueError:
        return {"text": line.decode(errors="replace")}
    return document if isinstance(document, dict) else {"text": line.decode(errors="replace")}


def _fork(order: Mapping[str, Any]) -> int:
    """Be two: return the pid in the one, be the child to its end in the other."""
    pid = os.fork()
    if pid:
        return pid
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    status = 1
    try:
        child.main(list(order["arguments"]), order["environment"])
        status = 0
    finally:
        sys.stdout.flush()
        if status:
            sys.excepthook(*sys.exc_info())
        os._exit(status)


def _say(**report: Any) -> None:
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.flush()


def _reap(living: dict[int, str]) -> None:
    """Report who has ended."""
    while living:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        _say(name=living.pop(pid), pid=pid, status=os.waitstatus_to_exitcode(status))


def run(orders: int) -> None:
    """Fork as told until the orders end."""
    living: dict[int, str] = {}
    rest = b""
    while True:
        _reap(living)
        if not select.select([orders], [], [], LOOK_SECONDS)[0]:
            continue
        text = os.read(orders, 65_536)
        if not text:
            break
        *lines, rest = (rest + text).split(b"\n")
        for line in lines:
            order = json.loads(line)
            pid = _fork(order)
            living[pid] = order["name"]
            _say(name=order["name"], pid=pid)
    for pid in living:
        os.kill(pid, signal.SIGKILL)
    _finish(tuple(living))


def _finish(pids: Sequence[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


if __name__ == "__main__":
    run(0)
