"""What the kill tests kill, found from outside, and how they see that a part is back."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from interlock.embedded.home import Home
from interlock.embedded.processes import find

REPLICA = "replica"
LOOK_SECONDS = 0.05
REPLICA_TITLE = "ray::ServeReplica:"


class Stack:
    """A running stack as its home's record and the process table show it."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self.home = Home(Path(environment["INTERLOCK_HOME"]))

    def part(self, name: str) -> dict[str, Any]:
        """Return what the supervisor last wrote of a part: state, pid, restarts."""
        record = self.home.record()
        assert record is not None
        part: dict[str, Any] = record["processes"][name]
        return part

    def restarts(self) -> dict[str, int]:
        """Return how often each part was started again."""
        record = self.home.record()
        assert record is not None
        return {name: part["restarts"] for name, part in record["processes"].items()}

    def pid(self, name: str) -> int:
        """Return the pid of a part's own process."""
        return int(self.part(name)["pid"])

    def replicas(self, model: str, version: int) -> set[int]:
        """Return the pids of the replicas that run a version of a model."""
        found = set()
        for process in find(self.home.stack_id, self.home.folder, "ray"):
            try:
                title = " ".join(psutil.Process(process.pid).cmdline())
            except psutil.Error:
                continue
            if title.startswith(f"{REPLICA_TITLE}{model}--v{version}--"):
                found.add(process.pid)
        return found

    def is_back(self, name: str, killed: int) -> bool:
        """Say whether a part that was killed works again, by the supervisor's own proof of it."""
        part = self.part(name)
        return bool(part["pid"] != killed and part["state"] == "ready")


def kill_9(pid: int) -> None:
    """End a process as the kernel would when memory runs out: no handler runs, nothing is flushed."""
    os.kill(pid, signal.SIGKILL)


async def until(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """Wait until a condition holds and return how long it took; fails with `what` after a bound."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"not within {seconds:.0f} s: {what}"
        await asyncio.sleep(LOOK_SECONDS)
    return time.monotonic() - began


async def killed_and_back(stack: Stack, name: str, seconds: float) -> float:
    """Kill -9 a part and wait until it works again; return how long it took."""
    pid = stack.pid(name)
    kill_9(pid)
    return await until(lambda: stack.is_back(name, pid), seconds, f"{name} is back")
