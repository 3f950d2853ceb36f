"""Routers at work in a simulated world: their own lanes, scorer, routes and codec, over servers that fail."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from unittest.mock import patch

import fastavro
import numpy as np

from interlock.codec import rows
from interlock.codec.contract import request_schema, result_schema
from interlock.codec.framing import frame
from interlock.codec.plan import Plan, compile_plan
from interlock.errors import Transient
from interlock.schemas import endpoint_topics
from interlock.schemas.events import Route
from interlock.schemas.topics import ROUTES
from interlock.serving.failures import ModelDied
from interlock.signature import Input, Matrix, Output, Signature
from interlock_router.lanes import Lanes
from interlock_router.live import Live
from interlock_router.model import Routes
from interlock_router.routes import RouteFollower
from interlock_router.score import Scorer
from interlock_router.settings import Settings
from tests.integration.router.rig import route_arms, version_digest
from tests.simulation.group import Group
from tests.simulation.kafka import Cluster
from tests.simulation.kafka_clients import (
    CLUSTER,
    GROUPS,
    SimulatedMember,
    SimulatedReader,
    SimulatedTransactions,
    simulated_follow,
)
from tests.simulation.loop import START, Process, SimulatedClock, VirtualLoop, current

ENDPOINT = "e"
REQUESTS = f"{ENDPOINT}.requests"
REQUEST_SCHEMA_ID, RESULT_SCHEMA_ID = 1001, 1002
SIGNATURE = Signature(inputs=(Input("f0", "double"),), outputs=(Output("score", "double", 0.0, 1e9),))
REQUEST_SCHEMA = request_schema(ENDPOINT, SIGNATURE)
RESULT_SCHEMA = result_schema(ENDPOINT, SIGNATURE)
PARTITIONS = 3
TOGETHER = (1, 2)
"""How many of them one lane may have."""
KEYS = 5
ANSWERED_SECONDS_MAX = 240.0


@cache
def settings() -> Settings:
    """Return the router's own settings, with small batches and slow looks: virtual time is cheap, steps are not."""
    return Settings(batch_rows_max=6, poll_seconds=1.0, transaction_seconds_max=8.0, death_pause_seconds=0.1)


@cache
def _parsed_request() -> Any:
    return fastavro.parse_schema(REQUEST_SCHEMA, named_schemas={})


@cache
def _plan() -> Plan:
    return compile_plan(REQUEST_SCHEMA)


def request(number: int) -> bytes:
    """Return a framed request that bears its number twice."""
    stream = io.BytesIO()
    row = {"request_id": f"r{number}", "requested_at": 1_767_312_000_000 + number, "f0": float(number)}
    fastavro.schemaless_writer(stream, _parsed_request(), row)
    return frame(REQUEST_SCHEMA_ID, stream.getvalue())


def route(epoch: int, *shares: tuple[int, int]) -> Route:
    """Return a route of (version, weight)."""
    return Route(
        endpoint=ENDPOINT,
        epoch=epoch,
        promotion=epoch,
        result_schema=json.dumps(RESULT_SCHEMA),
        result_schema_id=RESULT_SCHEMA_ID,
        arms=route_arms(shares, SIGNATURE),
        at=START,
    )


class Schemas:
    """The one schema that requests have here."""

    async def plan(self, schema_id: int) -> Plan | None:
        return _plan() if schema_id == REQUEST_SCHEMA_ID else None


class NoCache:
    """A cache that is away."""

    async def put_live(self, name: str, value: dict[str, Any], ttl_seconds: float) -> None:
        raise Transient("away")


class Versions:
    """The versions' replicas: the score is the request's number, and the version in its thousandths."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.fails = 0.0

    async def call(self, name: str, matrix: Matrix, seconds_max: float) -> tuple[str, Matrix]:
        current()
        version = int(name.split("--v")[1].partition("--")[0])
        await asyncio.sleep(self._loop.chance.random() * 0.03)
        current()
        if self._loop.chance.random() < self.fails:
            raise ModelDied("a replica died") if self._loop.chance.random() < 0.3 else Transient("no replica")
        return version_digest(version), np.floor(matrix[:, :1]) + version / 1000


@dataclass
class World:
    """One run: the cluster, the routers, and what was asked and routed."""

    loop: VirtualLoop
    cluster: Cluster
    versions: Versions
    settings: Settings
    routers: list[Router] = field(default_factory=list)
    routes: dict[int, Route] = field(default_factory=dict)
    asked: dict[tuple[str, int, int], int] = field(default_factory=dict)  # coordinates of sound requests: number
    bugs: list[str] = field(default_factory=list)
    stopping: bool = False

    @classmethod
    def make(cls, loop: VirtualLoop) -> World:
        """Make a world with nobody in it."""
        topics = {each.name: each.partitions for each in endpoint_topics(ENDPOINT, PARTITIONS)} | {ROUTES: 1}
        cluster = Cluster(loop, topics)
        loop.things |= {CLUSTER: cluster, GROUPS: Group(cluster, settings().kafka_session_seconds)}
        together = loop.chance.choice(TOGETHER)
        return cls(loop, cluster, Versions(loop), settings().model_copy(update={"lane_partitions": together}))

    def publish(self, what: Route) -> None:
        """Append a route, as the deployer's relay does."""
        self.routes.setdefault(what.epoch, what)
        self.loop.note("deployer", f"route epoch={what.epoch}", *(f"v{arm.version}" for arm in what.arms))
        self.cluster.write((ROUTES, 0), [(ENDPOINT.encode(), rows.encode(what), [])], 0)


class Router:
    """One router, over all the processes that it is: killed, it is begun anew."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.lives = 0
        self.process: Process | None = None
        self.stopping = asyncio.Event()
        self.main: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Start a process."""
        self.lives += 1
        self.process = self.world.loop.process(f"{self.name}.{self.lives}")
        self.world.loop.note(self.process.name, "begins")
        self.main = self.process.spawn(self._run())

    def kill(self) -> None:
        """Kill the process."""
        if self.process is not None:
            self.process.kill()

    def stop(self) -> None:
        """Tell it to drain and end (SIGTERM)."""
        self.stopping.set()

    async def _run(self) -> None:
        loop, settings, self.stopping = self.world.loop, self.world.settings, asyncio.Event()
        clock, live_routes = SimulatedClock(loop, loop.chance.uniform(-2, 2)), Routes()
        follower = RouteFollower(settings, live_routes, self.stopping)
        scorer = Scorer(settings, self.world.versions, clock)
        live = Live(settings, NoCache(), clock, self.stopping)
        schemas: Any = Schemas()
        lanes = Lanes(settings, clock, follower, live_routes, scorer, schemas, live, self.stopping)
        following = asyncio.create_task(self._loop(follower.run))
        try:
            await self._loop(lanes.run)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _loop(self, step: Callable[[], Awaitable[None]]) -> None:
        """Run a loop of the service as its runner does: again after a Transient; anything else is a bug."""
        process = current()
        while not self.stopping.is_set():
            try:
                await step()
                return
            except Transient:
                await asyncio.sleep(0.5)
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                if not process.dead:
                    self.world.bugs.append(f"{process.name}: {type(error).__name__}: {error}")
                raise


async def callers(world: World, begin: int, end: int, seconds: float) -> None:
    """Write requests from `begin` to `end` within about so many seconds.

    Some are written in transactions of their callers', of which some are aborted, and some are spoilt.
    """
    chance = world.loop.chance
    number, apart_seconds = begin, 2 * seconds / (end - begin) * 4
    while number < end:
        await asyncio.sleep(chance.random() * apart_seconds)
        burst = [number + index for index in range(min(chance.choice((1, 1, 3, 12)), end - number))]
        number += len(burst)
        place = (REQUESTS, chance.randrange(PARTITIONS))
        log = world.cluster.logs[place]
        values = [request(each) for each in burst]
        if chance.random() < 0.1:
            values[0] = values[0][: chance.randrange(len(values[0]))]
        sent: list[tuple[bytes | None, bytes | None, Any]] = [
            (f"k{each % KEYS}".encode(), value, []) for each, value in zip(burst, values, strict=True)
        ]
        producer = 10_000 + number if chance.random() < 0.3 else None
        first = len(log.records)
        log.append(sent, int(world.loop.time() * 1000), producer)
        aborted = producer is not None and chance.random() < 0.4
        if producer is not None:
            await asyncio.sleep(chance.random() * 0.5)
            log.mark(producer, not aborted)
        if not aborted:
            world.asked |= {(*place, first + index): each for index, each in enumerate(burst)}


async def all_answered(world: World) -> bool:
    """Wait until the group has passed every request, with a bound."""
    deadline = world.loop.time() + ANSWERED_SECONDS_MAX
    ends = dict(_ends(world))
    while world.loop.time() < deadline and not world.bugs:
        reached = {place: world.cluster.offsets.get((settings().group, place), 0) for place in ends}
        if all(reached[place] > end for place, end in ends.items()) and not _open(world):
            return True
        await asyncio.sleep(0.5)
    return False


def _ends(world: World) -> Iterator[tuple[tuple[str, int], int]]:
    for partition in range(PARTITIONS):
        offsets = [offset for topic, number, offset in world.asked if number == partition]
        if offsets:
            yield (REQUESTS, partition), max(offsets)


def _open(world: World) -> bool:
    return any(log.open for log in world.cluster.logs.values()) or bool(world.cluster.pending)


@contextmanager
def in_place() -> Iterator[None]:
    """Put the simulated Kafka where the router finds the real one."""
    with ExitStack() as stack:
        for target, fake in (
            ("interlock_router.lane.PartitionTransactions", SimulatedTransactions),
            ("interlock_router.lane.PartitionReader", SimulatedReader),
            ("interlock_router.lanes.Member", SimulatedMember),
            ("interlock_router.routes.follow", simulated_follow),
        ):
            stack.enter_context(patch(target, fake))
        yield
