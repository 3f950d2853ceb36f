"""Interlock's lanes in processes of their own, with the real scorer over Ray Serve; the argument is one JSON object.

`settings` are the router's, `endpoint` names the topics, `arms` make the route (`tests.bench.serving` gives them).
`processes` says over how many the partitions are spread, as INTERLOCK_ROUTER_PROCESSES does for a stack.
It says `ready` when all have joined the cluster and the group may begin, and drains on SIGTERM.
BENCH_PROFILE names a file that takes a profile of cProfile, where there is one process.
"""

from __future__ import annotations

import asyncio
import cProfile
import json
import logging
import os
import signal
import subprocess
import sys
from typing import Any

import structlog
import uvloop

from interlock import memory
from interlock.clock import SystemClock
from interlock.errors import Transient
from interlock.schemas.events import Arm, Route
from interlock.serving.cluster import Handles, connect
from interlock_router.lanes import Lanes
from interlock_router.live import Live
from interlock_router.model import Routes
from interlock_router.routes import RouteFollower
from interlock_router.score import Scorer
from interlock_router.settings import Settings
from interlock_router.writer_schemas import WriterSchemas
from tests.bench import work


class NoCache:
    """A cache that is away: nobody looks at live figures here."""

    async def put_live(self, name: str, value: dict[str, Any], ttl_seconds: float) -> None:
        """Refuse."""
        raise Transient("away")


def route(endpoint: str, arms: list[dict[str, Any]]) -> Route:
    """Return the route that the arms make."""
    return Route(
        endpoint=endpoint,
        epoch=1,
        promotion=1,
        result_schema=json.dumps(work.INTERLOCK_RESULT_SCHEMA),
        result_schema_id=work.RESULT_SCHEMA_ID,
        arms=tuple(Arm(**each) for each in arms),
        at=SystemClock().now(),
    )


async def run(settings: Settings, endpoint: str, arms: list[dict[str, Any]]) -> None:
    """Route until SIGTERM, put together as `interlock_router.app` does, with a route that is known already."""
    memory.settle()
    stopping, clock, routes = asyncio.Event(), SystemClock(), Routes()
    routes.apply(route(endpoint, arms))
    follower = RouteFollower(settings, routes, stopping)
    follower.known.set()
    schemas = WriterSchemas(settings, clock)
    live = Live(settings, NoCache(), clock, stopping)
    await connect(settings.ray_address)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    scorer = Scorer(settings, Handles(settings.ray_address), clock)
    lanes = Lanes(settings, clock, follower, routes, scorer, schemas, live, stopping)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.gather(lanes.run(), live.run())
    await schemas.close()


def spread(given: dict[str, Any]) -> int:
    """Run as many processes as asked for, each with its share of the partitions, until SIGTERM."""
    command = [sys.executable, "-m", "tests.bench.lanes", json.dumps(given | {"processes": 1})]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(given["processes"])]

    def end(*_: object) -> None:
        for each in started:
            each.terminate()

    signal.signal(signal.SIGTERM, end)
    for each in started:
        assert each.stdout is not None
        if each.stdout.readline().strip() != b"ready":
            end()
            return 1
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    return max(abs(each.wait()) for each in started)


def main() -> int:
    """Read the one argument and run."""
    logging.getLogger("aiokafka").setLevel("ERROR")
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    given = json.loads(sys.argv[1])
    if given["processes"] > 1:
        return spread(given)
    work_of = run(Settings(**given["settings"]), given["endpoint"], given["arms"])
    profile = os.environ.get("BENCH_PROFILE")
    if not profile:
        uvloop.run(work_of)
        return 0
    profiler = cProfile.Profile()
    profiler.enable()
    try:
        uvloop.run(work_of)
    finally:
        profiler.disable()
        profiler.dump_stats(profile)
    return 0


if __name__ == "__main__":
    sys.exit(main())
