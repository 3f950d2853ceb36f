"""What the tests of the embedded stack share: the command line as a stranger runs it, and conditions to wait for."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from interlock.embedded.home import Home
from interlock.embedded.processes import Process, find

COMMAND_SECONDS_MAX = 100.0


def interlock(
    *words: str, home: Path, more: Mapping[str, str] | None = None, prefix: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end with a home of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
    return subprocess.run(
        [*prefix, sys.executable, "-m", "interlock.cli", *words],
        env=kept | {"INTERLOCK_HOME": str(home), "COLUMNS": "200"} | dict(more or {}),
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS_MAX,
        check=False,
    )


def until(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Wait until the condition holds; say whether it did within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def processes(home: Path) -> list[Process]:
    """Return the live processes of the stack in a home."""
    place = Home(home)
    return find(place.stack_id, place.folder)


def leader(home: Path, name: str) -> int:
    """Return the pid of a part's own process."""
    record = Home(home).record()
    assert record is not None
    pid = record["processes"][name]["pid"]
    assert isinstance(pid, int)
    return pid


def psql(environment: Mapping[str, str], statement: str) -> str:
    """Run one statement as the database's owner."""
    from interlock.embedded.postgres import Binaries

    program = Binaries().folder / "psql"
    done = subprocess.run(
        [program, "--no-psqlrc", "-tA", environment["INTERLOCK_POSTGRES_OWNER_DSN"], "-c", statement],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout.strip()
