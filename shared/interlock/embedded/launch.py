"""Starts a stack in the background and waits until it works; stops it; says whether it runs."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from interlock.embedded.home import Home
from interlock.embedded.plan import with_needs
from interlock.embedded.processes import end, find, identify

LOOK_SECONDS = 0.05
UP_SECONDS_MAX = 600.0
DOWN_SECONDS_MAX = 90.0
LEFTOVER_SECONDS = 8.0

Watcher = Callable[[dict[str, Any]], None]
"""Is shown the running record each time it is read."""


class StartFailed(Exception):
    """The stack did not start; the text says why and what to do."""


class IsRunning(Exception):
    """A stack already runs in this home."""


def is_running(home: Home) -> bool:
    """Say whether a supervisor holds this home."""
    path = home.run / "lock"
    if not path.exists():
        return False
    with path.open("ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _spawn(home: Home, names: Iterable[str], owned: bool, usual_ports: bool) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "interlock.embedded", "--home", str(home.folder), "--parts", ",".join(names)]
    if owned:
        owner = identify(os.getpid())
        assert owner is not None
        command += ["--owner", f"{owner.pid}:{owner.started_ticks}"]
    if not usual_ports:
        command.append("--free-ports")
    with home.log("supervisor").open("ab") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=home.folder
        )


def up(
    home: Home, names: Iterable[str], watcher: Watcher | None = None, owned: bool = False, usual_ports: bool = True
) -> dict[str, str]:
    """Start the stack and return its client environment once every part has proved itself.

    `owned` ties its life to this process. Raises IsRunning, or StartFailed after having stopped what had started.
    """
    wanted = with_needs(names)
    if is_running(home):
        raise IsRunning(f"A stack is already running in {home.folder}.")
    home.create()
    home.record_file.unlink(missing_ok=True)
    child = _spawn(home, wanted, owned, usual_ports)
    try:
        return _wait(home, child, watcher)
    except BaseException:
        child.terminate()
        try:
            child.wait(DOWN_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            child.kill()
        raise


def _wait(home: Home, child: subprocess.Popen[bytes], watcher: Watcher | None) -> dict[str, str]:
    deadline = time.monotonic() + UP_SECONDS_MAX
    while time.monotonic() < deadline:
        ended = child.poll() is not None
        record = home.record()
        if record is not None:
            if watcher is not None:
                watcher(record)
            if record["state"] == "ready":
                environment: dict[str, str] = record["env"]
                return environment
            if record["state"] == "failed":
                raise StartFailed(record["failure"])
        if ended:
            raise StartFailed(f"The supervisor ended by itself; see {home.log('supervisor')}.")
        time.sleep(LOOK_SECONDS)
    raise StartFailed(f"The stack was not ready after {UP_SECONDS_MAX:.0f} s; see {home.folder / 'logs'}.")


def down(home: Home) -> bool:
    """Stop the stack of a home; returns whether there was anything to stop."""
    record = home.record() or {}
    running = is_running(home)
    if running and (pid := record.get("supervisor_pid")) is not None:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + DOWN_SECONDS_MAX
        while is_running(home) and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        if is_running(home):
            os.kill(pid, signal.SIGKILL)
    if not (home.folder / "stack-id").exists():
        return running
    left = find(home.stack_id, home.folder)
    end(left, LEFTOVER_SECONDS)
    return running or bool(left)
