"""Services of the control plane in a simulated world: machines, servers, what happens to them, and what they left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from unittest.mock import patch

from interlock.settings import PlatformSettings
from tests.simulation.control_clients import SimulatedConsumer
from tests.simulation.kafka import Cluster
from tests.simulation.kafka_clients import CLUSTER
from tests.simulation.loop import Process, SimulatedClock, VirtualLoop, running
from tests.simulation.network import Network, Server
from tests.simulation.postgres import Database, dedicated
from tests.simulation.postgres_statements import meaning_of

SECONDS = 10.0
FAULTS_MAX = 6
UNIT_SECONDS_MAX = 3.0


@cache
def settings() -> PlatformSettings:
    """Return the platform's settings, with short pauses."""
    return PlatformSettings(retry_seconds_max=2.0, connect_retry_seconds_max=1.0)


class Machine:
    """A process that is begun anew when it was killed."""

    def __init__(self, world: World, name: str, work: Callable[[World], Coroutine[Any, Any, None]]) -> None:
        self._world = world
        self._name = name
        self._work = work
        self._lives = 0
        self.process: Process | None = None
        self.main: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Start a process."""
        self._lives += 1
        self.process = self._world.loop.process(f"{self._name}.{self._lives}")
        self.main = self.process.spawn(self._watched(self.process))

    def kill(self) -> None:
        """Kill the process."""
        if self.process is not None:
            self.process.kill()

    def freeze(self, seconds: float) -> None:
        """Stop the process for so long."""
        if self.process is not None:
            self.process.freeze(seconds)

    async def _watched(self, process: Process) -> None:
        try:
            await self._work(self._world)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            if not process.dead:
                self._world.bugs.append(f"{process.name}: {_named(error)}")
            raise


def _named(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(map(_named, error.exceptions))
    return f"{type(error).__name__}: {error}"


@dataclass
class World:
    """One run: its servers, its processes, and what they left."""

    loop: VirtualLoop
    cluster: Cluster
    databases: dict[str, Database]
    servers: list[Server]
    machines: list[Machine] = field(default_factory=list)
    bugs: list[str] = field(default_factory=list)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    written: int = 0

    @classmethod
    def make(cls, loop: VirtualLoop, topics: dict[str, int], databases: tuple[str, ...]) -> World:
        """Make the servers."""
        cluster = Cluster(loop, topics)
        made = {name: Database(loop, meaning_of, name) for name in databases}
        loop.things |= {CLUSTER: cluster, **made}
        return cls(loop, cluster, made, [cluster, *made.values()])

    @property
    def clock(self) -> SimulatedClock:
        """The clock of whoever asks."""
        return SimulatedClock(self.loop)


async def faults(world: World) -> None:
    """Let things happen to servers, processes and the network."""
    chance = world.loop.chance
    for _ in range(chance.randrange(FAULTS_MAX + 1)):
        await asyncio.sleep(chance.random() * SECONDS / 3)
        fault = chance.choice(
            (_kill, _kill, _freeze, _freeze_in_a_unit, _restart_kafka, _restart_another, _bad_network)
        )
        machine = chance.choice(world.machines)
        world.loop.note("fault", fault.__name__.strip("_"))
        await fault(world, machine)


async def _kill(world: World, machine: Machine) -> None:
    machine.kill()
    await asyncio.sleep(world.loop.chance.random() * 2)
    machine.begin()


async def _freeze(world: World, machine: Machine) -> None:
    machine.freeze(world.loop.chance.choice((0.5, 3.0, 12.0)))


async def _freeze_in_a_unit(world: World, machine: Machine) -> None:
    """Stop somebody in the middle of a transaction, for longer than a lease lasts; one behind a fence if there is."""
    deadline = world.loop.time() + UNIT_SECONDS_MAX
    while world.loop.time() < deadline:
        sessions = [session for database in world.databases.values() for session in database.sessions]
        fenced = [session for session in sessions if session.fenced is not None]
        if fenced or any(session.xid for session in sessions):
            chosen = (fenced or [session for session in sessions if session.xid])[0]
            chosen.process.freeze(world.loop.chance.choice((1.0, 8.0)))
            return
        await asyncio.sleep(0.003)


async def _restart_kafka(world: World, machine: Machine) -> None:
    world.cluster.restart(world.loop.chance.choice((0.5, 2.0)))


async def _restart_another(world: World, machine: Machine) -> None:
    chance = world.loop.chance
    chance.choice(world.servers[1:]).restart(chance.choice((0.2, 2.0)))


async def _bad_network(world: World, machine: Machine) -> None:
    chance = world.loop.chance
    bad = Network(chance.choice((0.0, 0.1)), chance.choice((0.05, 0.2)))
    for server in world.servers:
        server.network = bad
    await asyncio.sleep(chance.random() * 4)
    calm(world)


def calm(world: World) -> None:
    """Let requests arrive again."""
    for server in world.servers:
        server.network = Network()


async def stop(world: World) -> None:
    """End what runs, in time."""
    world.stopping.set()
    await asyncio.wait([each.main for each in world.machines if each.main is not None], timeout=60)


@contextmanager
def in_place() -> Iterator[None]:
    """Put the simulated servers where the control plane finds the real ones."""

    def event_id() -> str:
        return f"00000000-0000-7000-8000-{next(running().numbers):012d}"

    with ExitStack() as stack:
        for target, fake in (
            ("interlock.kafka.consumer.make_consumer", SimulatedConsumer),
            ("interlock.postgres.outbox.dedicated", dedicated),
            ("interlock.postgres.journal.uuid7", event_id),
        ):
            stack.enter_context(patch(target, fake))
        yield
