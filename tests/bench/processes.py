"""Processes that are measured: started, waited for until they say `ready`, watched from /proc, and ended."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

import psutil

from interlock.embedded.home import Home
from interlock.embedded.processes import find, pss_bytes

ROOT: Final = Path(__file__).parents[2]
READY_SECONDS_MAX: Final = 120.0
STOP_SECONDS_MAX: Final = 25.0
CHILDREN_SECONDS: Final = 0.5
TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")


class Failed(RuntimeError):
    """A contender did not do what it is there for; the message says why."""


class Child:
    """A contender's process and all that descend from it."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._log = log.open("wb")
        self._process = subprocess.Popen(
            list(command),
            env=dict(environment),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._tree = [self._process.pid]
        self._looked_at = 0.0
        self._log_path = log

    def __enter__(self) -> Self:
        """Wait until it says that it is ready."""
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not self._ready.wait(0.05):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise Failed(f"not ready (exit status {self._process.returncode}): {self._tail()}")
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.stop()

    def stop(self) -> None:
        """Ask it to end; kill it, and whatever it started, when it does not."""
        tree = self.tree(fresh=True)
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pid in tree[1:]:
            if psutil.pid_exists(pid):
                psutil.Process(pid).kill()
        self._log.close()

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def tree(self, *, fresh: bool = False) -> list[int]:
        """Return its pid and those of its descendants; looked up now and then, as that takes a while."""
        now = time.monotonic()
        if fresh or now - self._looked_at > CHILDREN_SECONDS:
            self._looked_at = now
            try:
                found = psutil.Process(self._process.pid).children(recursive=True)
            except psutil.NoSuchProcess:
                found = []
            self._tree = [self._process.pid, *(each.pid for each in found)]
        return self._tree

    def cpu_seconds(self) -> float:
        """Return the processor time of the tree."""
        return cpu_seconds(self.tree())

    def pss_bytes(self) -> int:
        """Return the memory of the tree, shared pages counted once over their users."""
        return sum(pss_bytes(pid) for pid in self.tree(fresh=True))

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip() == b"ready":
                self._ready.set()

    def _tail(self) -> str:
        return self._log_path.read_text(errors="replace")[-2000:]


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the processor time that processes have used, user and system, ended children included."""
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS_PER_SECOND


def machine_seconds() -> tuple[float, float]:
    """Return for how long the machine's processors have worked, and for how long they were stolen."""
    times = psutil.cpu_times()
    steal: float = getattr(times, "steal", 0.0)
    return sum(times[:3]) + sum(times[5:7]), steal


class Surroundings:
    """The parts of the stack that work for every contender: Kafka, and Ray with its replicas."""

    def __init__(self, home: Path) -> None:
        self._home = Home(home)
        self.pids: dict[str, list[int]] = {"kafka": [], "ray": []}
        self.look()

    def look(self) -> None:
        """See which processes these are now."""
        for part in self.pids:
            self.pids[part] = [each.pid for each in find(self._home.stack_id, self._home.folder, part)]

    def cpu_seconds(self, part: str) -> float:
        """Return the processor time of a part."""
        return cpu_seconds(self.pids[part])
