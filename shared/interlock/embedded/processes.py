"""Processes of this machine as /proc shows them: identity that survives pid reuse, strays, memory, ending.

Standard library only and imports nothing of Interlock: the reaper runs this file outside the virtual environment.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

STACK_MARK = "INTERLOCK_STACK"
PART_MARK = "INTERLOCK_PART"
DATABASE_PROGRAMS = ("postgres", "valkey")


@dataclass(frozen=True)
class Process:
    """A process by pid and start time (clock ticks since boot): together they are never used twice."""

    pid: int
    started_ticks: int


def _stat(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (OSError, UnicodeDecodeError):
        return None
    return text.rpartition(")")[2].split()


def identify(pid: int) -> Process | None:
    """Return the live process with this pid, or None; a zombie counts as dead."""
    fields = _stat(pid)
    if fields is None or fields[0] in "ZX":
        return None
    return Process(pid, int(fields[19]))


def is_alive(process: Process) -> bool:
    """Say whether this very process still runs."""
    return identify(process.pid) == process


def uptime_seconds(process: Process) -> float:
    """Return how long a process has been running."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - process.started_ticks / os.sysconf("SC_CLK_TCK")


def _marks(pid: int) -> dict[str, str]:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    found = {}
    for entry in environment.split(b"\0"):
        for name in (STACK_MARK, PART_MARK):
            if entry.startswith(name.encode() + b"="):
                found[name] = entry.partition(b"=")[2].decode(errors="replace")
    return found


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _tree() -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for pid in _pids():
        fields = _stat(pid)
        if fields is not None:
            children.setdefault(int(fields[1]), []).append(pid)
    return children


def find(stack_id: str, folder: Path, part: str | None = None, known: list[Process] | None = None) -> list[Process]:
    """Return the live processes of a stack (or of one part of it), this process and its ancestors excepted.

    A process belongs to it by the mark in its environment, by being one of the `known`, by being a database server
    that works inside the stack's `folder` (those overwrite their environment), or by descending from any of these.
    """
    within = folder / "data" / part if part is not None else folder
    found = {process.pid for process in known or [] if is_alive(process)}
    found |= {pid for pid in _pids() if _is_marked(pid, stack_id, part) or _is_database(pid, within)}
    children = _tree()
    queue = list(found)
    while queue:
        for child in children.get(queue.pop(), []):
            if child not in found:
                found.add(child)
                queue.append(child)
    identified = [identify(pid) for pid in found - _ancestors(os.getpid())]
    return [process for process in identified if process is not None]


def _is_marked(pid: int, stack_id: str, part: str | None) -> bool:
    marks = _marks(pid)
    return marks.get(STACK_MARK) == stack_id and (part is None or marks.get(PART_MARK) == part)


def _is_database(pid: int, within: Path) -> bool:
    try:
        program = Path(f"/proc/{pid}/exe").readlink().name
        folder = Path(f"/proc/{pid}/cwd").readlink()
    except OSError:
        return False
    return program.startswith(DATABASE_PROGRAMS) and folder.is_relative_to(within)


def _ancestors(pid: int) -> set[int]:
    found = set()
    while pid > 0 and pid not in found:
        found.add(pid)
        fields = _stat(pid)
        pid = int(fields[1]) if fields is not None else 0
    return found


def send(process: Process, number: int) -> None:
    """Signal a process if it still is the one that was meant."""
    if is_alive(process):
        # Gone in between, or not ours to end: the caller looks again.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, number)


def end(found: list[Process], seconds: float, signals: dict[int, int] | None = None) -> list[Process]:
    """End processes: their own signal (default SIGTERM) at once, SIGKILL after `seconds`. Returns those still alive."""
    for process in found:
        send(process, (signals or {}).get(process.pid, signal.SIGTERM))
    left = _wait(found, seconds)
    for process in left:
        send(process, signal.SIGKILL)
    return _wait(left, 3.0)


def _wait(found: list[Process], seconds: float) -> list[Process]:
    deadline = time.monotonic() + seconds
    left = found
    while left := [process for process in left if is_alive(process)]:
        if time.monotonic() >= deadline:
            break
        time.sleep(0.02)
    return left


def pss_bytes(pid: int) -> int:
    """Return the memory of a process with every shared page counted once over all its users (PSS); 0 if unreadable."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        return 0
    return 0
