"""The supervisor's process: `python -m interlock.embedded --home FOLDER --parts a,b`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from pathlib import Path

from interlock.embedded.home import Home
from interlock.embedded.part import CannotStart
from interlock.embedded.plan import build
from interlock.embedded.ports import NoFreePort, Ports
from interlock.embedded.processes import STACK_MARK, Process, is_alive
from interlock.embedded.supervisor import AlreadyRunning, Supervisor, install_signals, lock

OWNER_LOOK_SECONDS = 0.5


def main() -> int:
    """Run the supervisor until it is told to stop; exit 1 when the stack could not start, 2 when one is running."""
    parser = argparse.ArgumentParser(prog="python -m interlock.embedded")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--parts", required=True, help="comma-separated")
    parser.add_argument("--owner", help="PID:TICKS of a process without which the stack shall not go on")
    parser.add_argument("--free-ports", action="store_true", help="leave the usual ports to others")
    given = parser.parse_args()
    home = Home(given.home)
    home.create()
    try:
        held = lock(home)
    except AlreadyRunning as error:
        sys.stderr.write(f"{error}\n")
        return 2
    # Not in this process's own /proc entry, but in that of everything it starts, one-off commands included.
    os.environ[STACK_MARK] = home.stack_id
    with held:
        ports = Ports(home)
        try:
            parts, environment = build(home, given.parts.split(","), ports, usual=not given.free_ports)
        except (CannotStart, NoFreePort) as error:
            home.write_record({"state": "failed", "failure": str(error), "processes": {}, "env": {}})
            return 1
        owner = Process(*(int(word) for word in given.owner.split(":"))) if given.owner else None
        return asyncio.run(_supervise(Supervisor(home, parts, environment), owner))


async def _supervise(supervisor: Supervisor, owner: Process | None) -> int:
    install_signals(supervisor)
    watch = asyncio.create_task(_stop_with(owner, supervisor)) if owner is not None else None
    failure = await supervisor.run()
    if watch is not None:
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch
    if failure:
        sys.stderr.write(f"{failure}\n")
    return 1 if failure else 0


async def _stop_with(owner: Process, supervisor: Supervisor) -> None:
    while is_alive(owner):  # noqa: ASYNC110 - a process that is nobody's child can only be looked at
        await asyncio.sleep(OWNER_LOOK_SECONDS)
    supervisor.stop()


if __name__ == "__main__":
    sys.exit(main())
