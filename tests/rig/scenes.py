"""Scenes that the lane plays with and without a bug: steady work, deaths, zombies, lost answers, routes."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import psutil
from confluent_kafka import KafkaError, Message, Producer

from interlock.codec.contract import request_schema
from interlock_router.settings import Settings
from tests.integration.router.rig import REQUEST_SCHEMA_ID, RESULT_SCHEMA_ID, version_digest
from tests.rig import plants_scene
from tests.rig.history import Arm, Rules, Sent, Violation
from tests.rig.history_check import check
from tests.rig.history_reading import end_of, gather, stands, wait_for_all
from tests.rig.line import VERSIONS, Line, until
from tests.rig.nursery import Hurt, Nursery
from tests.rig.proxy_process import ProxyProcess
from tests.rig.proxy_rules import Cut, DropRequest, Side

REQUESTS: Final = 320
KEYS: Final = 37
EMPTY_EVERY, BROKEN_EVERY, ABORTED_EVERY = 41, 53, 16
"""How often a request is nothing, is cut off, and stands behind one that is aborted."""

BOUNDS: Final = {"batch_rows_max": 40, "batch_bytes_max": 1_500, "batch_interval_seconds": 0.0}
"""Small batches, and polls that are cut in pieces."""

MORE: Final = 40
"""How many requests come when a second router is at work."""

DONE_SECONDS_MAX: Final = 40.0
SPOILED_SECONDS_MAX: Final = 4.0
"""How long a scene waits for what a bug may have made impossible."""

STILL_SECONDS_MAX: Final = 8.0
READ_SECONDS_MAX: Final = 2.0

END_SECONDS_MAX: Final = 20.0
LOOK_SECONDS: Final = 0.05
SENT_SECONDS_MAX: Final = 30.0


Versions = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class World:
    """What scenes share: servers, a schema registry and the process that forks children."""

    settings: Settings
    nursery: Nursery
    owner_dsn: str = ""


class Stage:
    """One endpoint in one scene, and the bug that its routers have."""

    def __init__(self, world: World, plant: str, partitions: int = 2, bootstrap: str = "") -> None:
        self.plant = plant
        self.is_spoiled = bool(plant)
        self.bootstrap = world.settings.kafka_bootstrap_servers
        changes: dict[str, Any] = dict(BOUNDS)
        if bootstrap:
            changes["kafka_bootstrap_servers"] = bootstrap
        self.line = Line(world.settings.model_copy(update=changes), world.nursery, partitions, 1.0)
        self.sent: list[Sent] = []
        self.routes: dict[int, Versions] = {1: VERSIONS}
        self.acks: Mapping[int, int] = {}
        self._routers: list[Hurt] = []
        self._has_passed = False
        self._written = 0

    async def create(self, parts: str = "") -> None:
        """Make the topics and write the requests; `parts` is patched into the routers beside the bug."""
        self.plant = "+".join(each for each in (self.plant, parts) if each)
        await self.line.rig.create()
        await self.write(REQUESTS)

    async def write(self, count: int) -> None:
        """Write requests, the numbers going on from the ones before."""
        await asyncio.to_thread(self._write, range(self._written, self._written + count))
        self._written += count

    async def start(self, crash: str = "") -> Hurt:
        """Start a router."""
        router = await self.line.start(crash=crash, plant=self.plant)
        self._routers.append(router)
        return router

    async def passed(self) -> None:
        """Wait until the group has passed every request; one with a bug may stand still for ever."""
        rig = self.line.rig
        still_seconds_max = STILL_SECONDS_MAX if self.is_spoiled else DONE_SECONDS_MAX
        self._has_passed = await asyncio.to_thread(
            wait_for_all, self.bootstrap, rig.endpoint, rig.settings.group, DONE_SECONDS_MAX, still_seconds_max,
            self._all_gone,
        )  # fmt: skip

    async def judged(self) -> list[Violation]:
        """End the routers that live and return what is wrong."""
        for router in self._routers:
            if router.status is None:
                await _end(router, is_spoiled=self.is_spoiled)
        rig = self.line.rig
        schemas = {REQUEST_SCHEMA_ID: request_schema("any", rig.signature), RESULT_SCHEMA_ID: rig.result_schema}
        seconds_max = READ_SECONDS_MAX if self.is_spoiled else DONE_SECONDS_MAX
        read = partial(gather, sent=self.sent, seconds_max=seconds_max)
        history = await asyncio.to_thread(read, self.bootstrap, rig.endpoint, rig.settings.group, schemas.__getitem__)
        history.acks = self.acks
        # Where a bug brings everything to a stand, nothing but what the group has passed counts as lost.
        complete = self._has_passed or not self.is_spoiled
        rules = Rules(routes={epoch: arms_of(versions) for epoch, versions in self.routes.items()}, complete=complete)
        return await asyncio.to_thread(check, history, rules)

    async def stands(self) -> int:
        """Return where the group stands in the first partition."""
        rig = self.line.rig
        found = await asyncio.to_thread(stands, self.bootstrap, rig.endpoint, rig.settings.group)
        return found[0]

    async def written(self) -> int:
        """Return where the first partition of results ends, aborted and open transactions and markers included."""
        return await asyncio.to_thread(end_of, self.bootstrap, self.line.rig.topic("results"), 0)

    def _all_gone(self) -> bool:
        return all(router.status is not None for router in self._routers)

    def _write(self, numbers: range) -> None:
        """Write requests of which some are nothing, some broken, and between them some that are aborted."""
        rig = self.line.rig
        topic = rig.topic("requests")
        producer = Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "linger.ms": 2,
                "enable.idempotence": True,
                # With more a record that Kafka acknowledged may be lost when a topic has just been made.
                "max.in.flight.requests.per.connection": 1,
            }
        )
        aborting = Producer({"bootstrap.servers": self.bootstrap, "transactional.id": f"{rig.endpoint}.aborted"})
        aborting.init_transactions(SENT_SECONDS_MAX)
        aborting.begin_transaction()
        for number in numbers:
            value: bytes | None = rig.value(number, requested_at=round(time.time() * 1000))
            if number % EMPTY_EVERY == 3:
                value = None
            elif number % BROKEN_EVERY == 5 and value is not None:
                value = value[:-3]
            key = b"k%d" % (number % KEYS)
            producer.produce(topic, value, key, on_delivery=partial(self._delivered, number, key))
            if number % ABORTED_EVERY == ABORTED_EVERY - 1:
                assert producer.flush(SENT_SECONDS_MAX) == 0
                for partition in range(rig.partitions):
                    aborting.produce(topic, rig.value(10**6 + number), b"aborted", partition)
                assert aborting.flush(SENT_SECONDS_MAX) == 0
        aborting.abort_transaction(SENT_SECONDS_MAX)
        assert producer.flush(SENT_SECONDS_MAX) == 0

    def _delivered(self, number: int, key: bytes, error: KafkaError | None, message: Message) -> None:
        assert error is None, error
        self.sent.append(Sent(f"r{number}", key, message.partition() or 0, message.offset() or 0))


def arms_of(versions: Versions) -> list[Arm]:
    """Return the arms of a route as the rig makes it."""
    names = ["champion", *(f"arm{index}" for index in range(1, len(versions)))]
    pairs = zip(names, versions, strict=True)
    return [Arm(name, version, version_digest(version), weight) for name, (version, weight) in pairs]


async def steady(world: World, plant: str) -> list[Violation]:
    """Nobody is hurt."""
    stage = Stage(world, plant)
    await stage.create()
    await stage.start()
    await stage.passed()
    return await stage.judged()


async def rerouted(world: World, plant: str) -> list[Violation]:
    """Routes change while the lanes work, and one that comes late is older than the one before."""
    stage = Stage(world, plant)
    stage.routes |= {epoch: versions for _, epoch, versions in plants_scene.REROUTES}
    await stage.create("reroute")
    await stage.start()
    await stage.passed()
    return await stage.judged()


async def killed(world: World, plant: str, crash: str) -> list[Violation]:
    """A router dies at a point and another one goes on."""
    stage = Stage(world, plant, partitions=1)
    await stage.create()
    victim = await stage.start(crash)
    await _gone(victim)
    await stage.line.bury()
    heir = await stage.start()
    await heir.hear("lane.started", DONE_SECONDS_MAX)
    await stage.write(MORE)
    await stage.passed()
    return await stage.judged()


async def zombie(world: World, plant: str) -> list[Violation]:
    """A router freezes with a batch in hand, another one answers everything, the first one wakes up."""
    stage = Stage(world, plant, partitions=1)
    await stage.create()
    frozen = await stage.start("commit/before/4/freeze")
    await freezes(frozen)
    await stage.line.bury()
    await stage.start()
    await stage.passed()
    frozen.send(signal.SIGCONT)
    await _heard_of_it(frozen)
    return await stage.judged()


async def zombie_between(world: World, plant: str) -> list[Violation]:
    """A router wakes up, and commits, just before the one that took over fences it."""
    stage = Stage(world, plant, partitions=1)
    await stage.create()
    frozen = await stage.start("commit/before/3/freeze")
    await freezes(frozen)
    await stage.line.bury()
    heir = await stage.start("fence/before/1/freeze")
    await freezes(heir)
    before = await stage.stands()
    frozen.send(signal.SIGCONT)
    await _grown(stage.stands, before, SPOILED_SECONDS_MAX)
    heir.send(signal.SIGCONT)
    await stage.passed()
    return await stage.judged()


@asynccontextmanager
async def _behind_a_proxy(world: World, plant: str, **more: Any) -> AsyncIterator[tuple[Stage, ProxyProcess]]:
    """A stage whose routers reach Kafka by a proxy."""
    async with ProxyProcess(world.settings.kafka_bootstrap_servers) as proxy:
        yield Stage(world, plant, bootstrap=proxy.bootstrap, **more), proxy


async def lost_answer(world: World, plant: str) -> list[Violation]:
    """The answer to an EndTxn is lost with its connection: the transaction has happened, and nobody knows."""
    async with _behind_a_proxy(world, plant, partitions=1) as (stage, proxy):
        await stage.create()
        await proxy.on("EndTxn", Cut(Side.RESPONSE), times=1, skip=2)
        await stage.start()
        await stage.passed()
        return await stage.judged()


async def lost_request(world: World, plant: str) -> list[Violation]:
    """An EndTxn never comes to Kafka: the transaction has not happened, and nobody knows."""
    async with _behind_a_proxy(world, plant, partitions=1) as (stage, proxy):
        await stage.create("impatient")
        await proxy.on("EndTxn", DropRequest(), times=1, skip=2)
        await stage.start()
        await stage.passed()
        return await stage.judged()


async def watched(world: World, plant: str) -> list[Violation]:
    """Somebody on the wire looks which acknowledgement is asked for."""
    async with _behind_a_proxy(world, plant) as (stage, proxy):
        await stage.create()
        await stage.start()
        await stage.passed()
        stage.acks = await proxy.acks()
        assert stage.acks, "nothing was produced: this proves nothing"
        return await stage.judged()


async def _end(router: Hurt, *, is_spoiled: bool) -> None:
    """Have a router drain and end; one with a bug may have to be killed."""
    router.send(signal.SIGTERM)
    try:
        status = await router.ended(SPOILED_SECONDS_MAX if is_spoiled else END_SECONDS_MAX)
    except AssertionError:
        if not is_spoiled:
            raise
        router.send(signal.SIGKILL)
        return
    assert is_spoiled or status == 0, f"status {status}: {router.lines()[-10:]}"


async def _gone(router: Hurt) -> None:
    """Wait until a router has died by its own hand."""
    assert await router.ended(DONE_SECONDS_MAX) == -signal.SIGKILL, router.lines()[-10:]


async def freezes(router: Hurt) -> None:
    """Wait until a router has frozen by its own hand."""
    await until(lambda: _is_stopped(router), DONE_SECONDS_MAX, f"{router.name} has frozen")


def _is_stopped(router: Hurt) -> bool:
    assert router.status is None, router.lines()[-10:]
    return bool(psutil.Process(router.pid).status() == psutil.STATUS_STOPPED)


async def _grown(look: Callable[[], Awaitable[int]], before: int, seconds_max: float) -> None:
    """Wait, no longer than that, until a number is larger than before."""
    deadline = time.monotonic() + seconds_max
    while await look() <= before and time.monotonic() < deadline:
        await asyncio.sleep(LOOK_SECONDS)


async def _heard_of_it(router: Hurt) -> None:
    """Give a router that woke up the time to find out that it was fenced; one with a bug may never do."""
    deadline = time.monotonic() + SPOILED_SECONDS_MAX
    while time.monotonic() < deadline and not (router.heard("lane.fenced") or router.heard("lane.restarts")):
        await asyncio.sleep(LOOK_SECONDS)


Scene = Callable[[World, str], Awaitable[list[Violation]]]

SCENES: Final[Mapping[str, Scene]] = {
    "steady": steady,
    "rerouted": rerouted,
    "killed-at-begin": partial(killed, crash="begin/before/6"),
    "killed-behind-commit": partial(killed, crash="end-transaction/after/4"),
    "zombie": zombie,
    "zombie-between": zombie_between,
    "lost-answer": lost_answer,
    "lost-request": lost_request,
    "watched": watched,
}
