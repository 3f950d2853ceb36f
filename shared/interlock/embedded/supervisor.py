"""Starts the parts of a stack side by side, starts again what dies, and stops everything in order."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from interlock.embedded import reaper
from interlock.embedded.home import Home, write_whole
from interlock.embedded.part import CannotStart, NotReady, Part, becoming
from interlock.embedded.processes import PART_MARK, STACK_MARK, Process, end, find, identify
from interlock.errors import Transient

BACK_OFF_SECONDS_FIRST = 0.2
BACK_OFF_SECONDS_MAX = 10.0
STEADY_SECONDS = 30.0  # after so long a run, the next death starts the back-off anew
READY_PAUSE_SECONDS = 0.05
DEATHS_BEFORE_READY_MAX = 4
LEFTOVER_SECONDS = 8.0
LOG_BYTES_MAX = 20 * 1024 * 1024


class AlreadyRunning(Exception):
    """Another supervisor holds this home."""


@dataclass
class Running:
    """What the supervisor knows of one part."""

    state: str = "waiting"
    detail: str = ""
    process: Process | None = None
    started_at: float = 0.0
    ready_at: float = 0.0
    restarts: int = -1
    deaths_before_ready: int = 0


def lock(home: Home) -> IO[bytes]:
    """Take the home's lock for the life of the returned file; raises AlreadyRunning."""
    stream = (home.run / "lock").open("ab")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        raise AlreadyRunning(f"A stack is running in {home.folder}.") from None
    return stream


class Supervisor:
    """Owns the processes of one home. `run` returns after `stop` was asked for, or when the start failed."""

    def __init__(self, home: Home, parts: list[Part], environment: Mapping[str, str]) -> None:
        self._home = home
        self._parts = {part.name: part for part in parts}
        self._environment = dict(environment)
        self._known: dict[str, Running] = {part.name: Running() for part in parts}
        self._ready = {part.name: asyncio.Event() for part in parts}
        self._children: dict[str, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()
        self._state = "starting"
        self._failure = ""
        self._started_at = time.time()
        self._reaper: subprocess.Popen[bytes] | None = None

    def stop(self) -> None:
        """Ask for a clean stop."""
        self._stopping.set()

    async def run(self) -> str:
        """Run until stopped; returns what made the start fail, or an empty text."""
        leftovers = find(self._home.stack_id, self._home.folder)
        await asyncio.to_thread(end, leftovers, LEFTOVER_SECONDS)
        self._write_known()
        self._start_reaper()
        self._publish()
        keepers = [asyncio.create_task(self._keep(part), name=part.name) for part in self._parts.values()]
        keepers += [asyncio.create_task(self._announce()), asyncio.create_task(self._watch_reaper())]
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            self._failure = await _first_failure(keepers, stopping)
        finally:
            self._state = "stopping"
            self._publish()
            for task in [*keepers, stopping]:
                task.cancel()
            await asyncio.gather(*keepers, stopping, return_exceptions=True)
            await self._stop_all()
            self._say_goodbye()
            self._state = "failed" if self._failure else "stopped"
            self._publish()
        return self._failure

    # -- one part -----------------------------------------------------------------------------------------------

    async def _keep(self, part: Part) -> None:
        back_off = BACK_OFF_SECONDS_FIRST
        known = self._known[part.name]
        while True:
            for name in part.after:
                await self._ready[name].wait()
            try:
                await self._start(part)
                child = self._children[part.name]
                await self._until_ready(part, child)
            except CannotStart as error:
                if self._state == "starting":
                    raise
                self._show(part, "restarting", str(error))
                await asyncio.sleep(BACK_OFF_SECONDS_MAX)
                continue
            code = await child.wait()
            lasted = time.time() - known.started_at
            self._ready[part.name].clear()
            if not known.ready_at:
                self._count_early_death(part, code)
            self._show(part, "restarting", f"ended with {code} after {lasted:.0f} s")
            await self._sweep(part)
            back_off = BACK_OFF_SECONDS_FIRST if lasted > STEADY_SECONDS else min(back_off * 2, BACK_OFF_SECONDS_MAX)
            await asyncio.sleep(back_off)

    def _count_early_death(self, part: Part, code: int) -> None:
        known = self._known[part.name]
        known.deaths_before_ready += 1
        if known.deaths_before_ready >= DEATHS_BEFORE_READY_MAX and self._state == "starting":
            raise CannotStart(f"it ended {known.deaths_before_ready} times (exit {code}): {self._last_line(part)}")

    def _last_line(self, part: Part) -> str:
        path = self._home.log(part.name)
        lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
        return f"{lines[-1] if lines else 'no output'} (all of it: {path})"

    async def _start(self, part: Part) -> None:
        known = self._known[part.name]
        known.ready_at = 0.0
        self._show(part, "preparing", "")
        await part.prepare(lambda detail: self._show(part, "preparing", detail))
        launch = part.launch()
        marks = {STACK_MARK: self._home.stack_id, PART_MARK: part.name}
        path = self._home.log(part.name)
        if path.exists() and path.stat().st_size > LOG_BYTES_MAX:
            path.replace(path.with_suffix(".log.old"))
        with path.open("ab") as log:
            child = await asyncio.create_subprocess_exec(
                *launch.command,
                env={**launch.environment, **marks},
                cwd=launch.folder or self._home.folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **becoming(launch.user_id),
            )
        self._children[part.name] = child
        known.process = identify(child.pid)
        known.started_at = time.time()
        known.restarts += 1
        self._write_known()
        self._show(part, "starting", "")

    async def _until_ready(self, part: Part, child: asyncio.subprocess.Process) -> None:
        deadline = time.monotonic() + part.ready_seconds
        died = asyncio.create_task(child.wait())
        try:
            while not died.done():
                reason = await self._try_ready(part, died)
                if reason is None:
                    return
                if time.monotonic() > deadline and not died.done():
                    await self._too_late(part, child, reason)
                await asyncio.wait([died], timeout=READY_PAUSE_SECONDS)
        finally:
            died.cancel()

    async def _try_ready(self, part: Part, died: asyncio.Task[int]) -> str | None:
        """Check once; returns None when the part is ready, else why not. Its death ends the check."""
        check = asyncio.create_task(self._check(part))
        try:
            await asyncio.wait([check, died], return_when=asyncio.FIRST_COMPLETED)
            if check.done():
                return check.result()
        finally:
            check.cancel()
            await asyncio.gather(check, return_exceptions=True)
        return "it ended"

    async def _check(self, part: Part) -> str | None:
        try:
            await part.ready()
            await part.follow_up(lambda detail: self._show(part, "starting", detail))
        except (NotReady, OSError, Transient) as error:
            return str(error) or type(error).__name__
        self._known[part.name].ready_at = time.time()
        self._known[part.name].deaths_before_ready = 0
        self._ready[part.name].set()
        self._show(part, "ready", "")
        return None

    async def _too_late(self, part: Part, child: asyncio.subprocess.Process, reason: str) -> None:
        text = f"not ready after {part.ready_seconds:.0f} s: {reason}"
        if self._state == "starting":
            raise CannotStart(f"{text} Last line of its log: {self._last_line(part)}")
        self._show(part, "starting", text)
        if not part.patient:
            child.kill()
            await child.wait()

    async def _sweep(self, part: Part) -> None:
        """End what a dead part left behind (the children of Ray or PostgreSQL), so that its ports are free again."""
        found = find(self._home.stack_id, self._home.folder, part.name)
        await asyncio.to_thread(end, found, LEFTOVER_SECONDS)

    # -- the whole ----------------------------------------------------------------------------------------------

    async def _announce(self) -> None:
        for event in self._ready.values():
            await event.wait()
        self._state = "ready"
        self._publish()

    async def _stop_all(self) -> None:
        """Stop the parts that depend on others first, then those."""
        left = dict(self._parts)
        while left:
            needed = {name for part in left.values() for name in part.after}
            wave = [part for part in left.values() if part.name not in needed]
            await asyncio.gather(*(self._stop_part(part) for part in wave))
            for part in wave:
                del left[part.name]
        strays = find(self._home.stack_id, self._home.folder)
        await asyncio.to_thread(end, strays, LEFTOVER_SECONDS)

    async def _stop_part(self, part: Part) -> None:
        child = self._children.get(part.name)
        if child is not None and child.returncode is None:
            self._show(part, "stopping", "")
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(part.stop_signal)
            try:
                await asyncio.wait_for(child.wait(), part.stop_seconds)
            except TimeoutError:
                child.kill()
                await child.wait()
            part.stopped(child.returncode if child.returncode is not None else -1)
        await self._sweep(part)
        self._show(part, "stopped", "")

    def _show(self, part: Part, state: str, detail: str) -> None:
        known = self._known[part.name]
        known.state, known.detail = state, detail
        self._publish()

    def _publish(self) -> None:
        processes: dict[str, Any] = {}
        for name, known in self._known.items():
            processes[name] = {
                "state": known.state,
                "detail": known.detail,
                "pid": known.process.pid if known.process else None,
                "started_ticks": known.process.started_ticks if known.process else None,
                "port": self._parts[name].port,
                "started_at": known.started_at,
                "ready_at": known.ready_at,
                "restarts": max(known.restarts, 0),
            }
        self._home.write_record(
            {
                "state": self._state,
                "failure": self._failure,
                "supervisor_pid": os.getpid(),
                "reaper_pid": self._reaper.pid if self._reaper is not None else None,
                "started_at": self._started_at,
                "env": self._environment,
                "processes": processes,
            }
        )

    # -- the reaper ---------------------------------------------------------------------------------------------

    @property
    def _known_file(self) -> Path:
        return self._home.run / "processes.json"

    def _write_known(self) -> None:
        entries = [
            {
                "pid": known.process.pid,
                "started_ticks": known.process.started_ticks,
                "signal": int(self._parts[name].stop_signal),
            }
            for name, known in self._known.items()
            if known.process is not None
        ]
        write_whole(self._known_file, json.dumps(entries).encode())

    def _start_reaper(self) -> None:
        command = [sys.executable, "-I", "-S", reaper.__file__]
        arguments = [self._home.stack_id, str(self._home.folder), str(self._known_file)]
        self._reaper = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._home.log("reaper").open("ab"),
            start_new_session=True,
            env={},
            cwd="/",
        )

    async def _watch_reaper(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            if self._reaper is not None and self._reaper.poll() is not None:
                self._start_reaper()

    def _say_goodbye(self) -> None:
        if self._reaper is None or self._reaper.stdin is None:
            return
        with contextlib.suppress(BrokenPipeError):
            self._reaper.stdin.write(reaper.GOODBYE)
            self._reaper.stdin.close()
        self._reaper.wait(5)


async def _first_failure(keepers: list[asyncio.Task[None]], stopping: asyncio.Task[Any]) -> str:
    """Wait until a stop is asked for or a task raises; returns what was raised, as a sentence."""
    pending: set[asyncio.Task[Any]] = {*keepers, stopping}
    while not stopping.done():
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if (error := task.exception()) is not None:
                return f"{task.get_name()}: {error or type(error).__name__}"
    return ""


def install_signals(supervisor: Supervisor) -> None:
    """Let SIGTERM and SIGINT ask for a clean stop."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, supervisor.stop)
