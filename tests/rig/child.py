"""The processes that the rig hurts: the product, with a crash point or a planted bug patched in from outside.

`python -m tests.rig.child router SETTINGS ENDPOINT PARTITIONS [ROUTE]` runs the lanes of one endpoint until SIGTERM;
ROUTE is a list of [version, weight] as JSON, by default version 1 alone. `control SETTINGS SERVICE TOPIC` is the small
service of `tests.rig.control`. INTERLOCK_RIG_CRASH names a crash point
(`tests.rig.crash_points`), INTERLOCK_RIG_PLANT a bug (`tests.rig.plants`). What the product logs comes out on standard
output, one JSON object a line; `rig.ready` says that the process works, `rig.done` that it ended as told.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, Self

import structlog
import uvloop

from interlock.service import _finish, _loop
from interlock_router.settings import Settings
from tests.integration.router.rig import Rig, RunningRouter
from tests.rig import control, crash_points

CRASH: Final = "INTERLOCK_RIG_CRASH"
PLANT: Final = "INTERLOCK_RIG_PLANT"
RETRY_SECONDS_MAX: Final = 2.0
CLOSE_SECONDS_MAX: Final = 8.0
ROUTE: Final = "[[1, 10000]]"


class ServedRouter(RunningRouter):
    """A router whose lanes begin again after a Transient, as the process runner sees to it."""

    async def __aenter__(self) -> Self:
        """Start."""
        self.task = asyncio.create_task(_loop(self.lanes.run, self.stopping, RETRY_SECONDS_MAX))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Drain, cut off what takes too long, and raise what the lanes raised."""
        self.stopping.set()
        await _finish([self.task], self.lanes._settings.drain_seconds)
        await asyncio.wait({self.task}, timeout=CLOSE_SECONDS_MAX)
        if self.task.done() and not self.task.cancelled():
            self.task.result()
        await self.schemas.close()


def prepare(environment: Mapping[str, str]) -> None:
    """Log as lines of JSON, plant the bug and set the crash point that the environment names; raises KeyError."""
    structlog.configure(
        processors=[structlog.processors.TimeStamper(), structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=False,
    )
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # it is a text stream
    if name := environment.get(PLANT):
        importlib.import_module("tests.rig.plants").apply(name)
    if crash := environment.get(CRASH):
        crash_points.install(crash_points.Crash.parse(crash))


def say(event: str, **more: Any) -> None:
    """Tell whoever started this process."""
    structlog.get_logger("rig").info(event, pid=os.getpid(), **more)


async def router(settings: str, endpoint: str, partitions: str, route: str = ROUTE) -> None:
    """Run the lanes of one endpoint until SIGTERM, then drain."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    rig = Rig(Settings(**json.loads(settings)), int(partitions))
    rig.endpoint = endpoint
    versions = [(int(version), int(weight)) for version, weight in json.loads(route)]
    for version, _ in versions:
        rig.serving.add("m", version)
    rig.route(*versions)
    async with ServedRouter(rig) as running:
        say("rig.ready")
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({running.task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if running.task.done():
            running.task.result()
    say("rig.done")


ROLES: Final[Mapping[str, Callable[..., Coroutine[Any, Any, None]]]] = {"router": router, "control": control.run}


def main(arguments: list[str], environment: Mapping[str, str]) -> None:
    """Run a role with what the environment breaks in it."""
    role, *rest = arguments
    prepare(environment)
    uvloop.run(ROLES[role](*rest))


if __name__ == "__main__":
    main(sys.argv[1:], os.environ)
