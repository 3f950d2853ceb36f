"""A story of routes: two deployers hear approvals and orders, one leads, Ray fails; the routes come out in order."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import cache
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from interlock.codec import rows
from interlock.codec.contract import result_schema
from interlock.dispatch import Dispatch
from interlock.errors import Transient
from interlock.kafka.consumer import ControlConsumer
from interlock.kafka.headers import cloudevents
from interlock.postgres.lease import Lease
from interlock.postgres.outbox import Relay
from interlock.schemas.events import (
    EndpointCreated,
    RollbackOrdered,
    Route,
    VersionApproved,
    VersionPromoted,
    VersionRegistered,
)
from interlock.schemas.topics import DEPLOY_EVENTS, MODEL_EVENTS, ROUTES
from interlock.serving.cluster import ApplicationState
from interlock.signature import Input, Output, Signature
from interlock_deployer import handlers
from interlock_deployer.rollout import Limits, Proof, Rollout, Stage
from interlock_deployer.serve import Keeper
from interlock_deployer.settings import Settings
from interlock_deployer.store import Store
from interlock_router.model import Routes
from tests.simulation.control_clients import SimulatedPublisher
from tests.simulation.control_world import SECONDS, Machine, World, calm, faults, in_place, stop
from tests.simulation.loop import START, SimulatedClock, VirtualLoop, current, running, simulate
from tests.simulation.network import Away, Connection, Server
from tests.simulation.outcome import Outcome, hash_of
from tests.simulation.postgres import Session, SimulatedPool
from tests.unit.deployer.rollout_facts import approved, created, digest, promoted, rollback
from tests.unit.deployer.test_convergence import in_order

REST_SECONDS_MAX = 300.0
VERSIONS_MAX = 4
SIGNATURE = Signature(inputs=(Input("f0", "double"),), outputs=(Output("score"),))
RAY = "ray"


@cache
def settings() -> Settings:
    """Return the deployer's settings, with short pauses."""
    return Settings(
        lease_seconds=4.0,
        reconcile_seconds=1.0,
        reconcile_busy_seconds=0.2,
        route_drain_seconds=2.0,
        deploy_retry_seconds=0.5,
        deploy_retry_seconds_max=2.0,
        retry_seconds_max=2.0,
        connect_retry_seconds_max=1.0,
    )


class Ray(Server):
    """Ray Serve: applications come up after a while, or fail; a restart forgets all of them."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__(loop, RAY)
        self.applications: dict[str, float] = {}  # since when it runs; infinite where it failed

    def restart(self, seconds: float) -> None:
        super().restart(seconds)
        self.applications.clear()

    def deploy(self, name: str) -> None:
        """Begin an application."""
        fails = self.loop.chance.random() < 0.1
        self.applications[name] = float("inf") if fails else self.loop.time() + self.loop.chance.random() * 2

    def delete(self, name: str) -> None:
        """End an application."""
        self.applications.pop(name, None)

    def status(self) -> dict[str, ApplicationState]:
        """Say how all applications are."""
        now = self.loop.time()
        return {name: ApplicationState(name, self._state(since, now), "") for name, since in self.applications.items()}

    @staticmethod
    def _state(since: float, now: float) -> str:
        return "DEPLOY_FAILED" if since == float("inf") else "RUNNING" if since <= now else "DEPLOYING"


class SimulatedServe:
    """`ServeControl`, `Handles` and `Warming` in one, over the simulated Ray."""

    def __init__(self) -> None:
        self._ray: Ray = running().things[RAY]
        self._wire = Connection(self._ray)

    async def status(self) -> dict[str, ApplicationState]:
        found: dict[str, ApplicationState] = await self._ask(self._ray.status)
        return found

    async def deploy(self, application: Any, name: str) -> None:
        await self._ask(self._ray.deploy, name)

    async def delete(self, name: str) -> None:
        await self._ask(self._ray.delete, name)

    def forget(self, name: str) -> None:
        """Nothing is kept."""

    async def prove(self, registered: Any, endpoint: str, application: str) -> Proof:
        if application not in await self._ask(self._ray.status):
            raise Transient("the application is gone")
        schema = json.dumps(result_schema(endpoint, SIGNATURE))
        return Proof(SIGNATURE.to_json(), schema, 1000 + registered.version, 8, 0.5)

    async def _ask(self, what: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return await self._wire.ask(what, *arguments)
        except Away as error:
            raise Transient(f"Ray: {error}") from error


async def deployer(world: World) -> None:
    """Be a deployer: hear, lead or wait, keep Ray as it should be, and publish."""
    pool: Any = SimulatedPool(world.databases["deployer"])
    store, serve, clock = Store(pool), SimulatedServe(), SimulatedClock(world.loop)
    limits = Limits(
        settings().warm_versions_max,
        settings().route_drain_seconds,
        settings().deploy_retry_seconds,
        settings().deploy_retry_seconds_max,
    )
    lease = Lease(pool, "deployer", f"{current().name}", settings().lease_seconds)
    anything: Any = serve
    keeper = Keeper(
        pool, store, anything, anything, anything, lease, _no_topics, limits, settings(), clock, world.stopping
    )
    needs = {"store": store, "keeper": keeper, "limits": limits}
    dispatch = Dispatch("deployer", {MODEL_EVENTS: handlers.MODEL}, needs, pool, clock)
    consumer = ControlConsumer(
        settings(), "deployer", [MODEL_EVENTS], dispatch.decode, dispatch.handle, stopping=world.stopping, clock=clock
    )
    relay = Relay(
        "deployer", SimulatedPublisher("interlock.deployer.outbox"), "deployer", stopping=world.stopping,
        retry_seconds_max=1.0,
    )  # fmt: skip
    await asyncio.gather(keeper.lead(), keeper.run(), consumer.run(), relay.run())


async def _no_topics(endpoint: str, partitions: int) -> None:
    await asyncio.sleep(0)


def history(chance: random.Random) -> list[Any]:
    """Draw what a registry could have written: approvals before promotions, rollbacks only to what served."""
    told: list[Any] = [created()]
    champion: int | None = None
    served: list[int] = []
    number = 0
    for version in range(1, 1 + chance.randrange(1, VERSIONS_MAX + 1)):
        told += [_registered(version), approved(version)]
        if chance.random() < 0.7:
            number += 1
            told.append(promoted(version, number, champion))
            champion = version
            served.append(version)
        others = [earlier for earlier in served if earlier != champion]
        if champion is not None and others and chance.random() < 0.4:
            number += 1
            target = chance.choice(others)
            told.append(rollback(champion, target, number))
            champion = target
    return told


def _registered(version: int) -> VersionRegistered:
    return VersionRegistered(
        model="fraud",
        version=version,
        digest=digest(version),
        manifest="",
        manifest_digest=digest(version),
        artifact_digest=digest(version),
        artifact_format="onnx",
        artifact_bytes=1,
        files={},
        commit="c",
        author="ada",
        at=START,
    )


async def registry(world: World, told: list[Any]) -> None:
    """Publish the history in order; now and then again what was published, as a relay that was killed does."""
    chance = world.loop.chance
    for number in range(len(told)):
        await asyncio.sleep(chance.random() * 2 * SECONDS / len(told))
        for each in (number, *([chance.randrange(number + 1)] if chance.random() < 0.3 else [])):
            envelope = cloudevents(type(told[each]).TYPE, event_id=f"e-{each}", source="/registry", at=START)
            world.cluster.write((MODEL_EVENTS, 0), [(b"fraud", rows.encode(told[each]), envelope)], 0)


def run(seed: int, put_in: Callable[[], AbstractContextManager[None]] = nullcontext) -> Outcome:
    """Tell the story of a seed; `put_in` makes the product worse meanwhile."""
    worlds: list[World] = []
    told = history(random.Random(seed))

    async def story(loop: VirtualLoop) -> bool:
        world = World.make(loop, {MODEL_EVENTS: 1, DEPLOY_EVENTS: 1, ROUTES: 1}, ("deployer",))
        loop.things[RAY] = ray = Ray(loop)
        world.servers.append(ray)
        worlds.append(world)
        _watch_leaders(world)
        world.machines = [Machine(world, f"deployer{number}", deployer) for number in range(2)]
        for machine in world.machines:
            machine.begin()
        await asyncio.gather(loop.world.spawn(registry(world, told)), loop.world.spawn(faults(world)))
        calm(world)
        complete = await _rest(world, told)
        await stop(world)
        return complete

    with in_place(), _without_ray(), put_in():
        complete, loop = simulate(seed, story)
    found = _violations(worlds[0], told, complete)
    return Outcome(seed, found, hash_of(loop, worlds[0].cluster), list(loop.lines), len(told))


def _watch_leaders(world: World) -> None:
    """Look at each commit behind a fence whether the lease is still his who commits."""
    database = world.databases["deployer"]

    def look(session: Session) -> None:
        if session.fenced is not None:
            name, holder, epoch = session.fenced
            row = database.row(session, "lease", name)
            if row is None or (row["holder"], row["epoch"]) != (holder, epoch):
                world.bugs.append(f"LEADERS {holder} acts in epoch {epoch}, while the lease is {row}")

    database.at_commit.append(look)


def rollout(world: World) -> Rollout | None:
    """Return the rollout as it stands."""
    import msgspec

    found = world.databases["deployer"].rows(None, "rollouts")
    return msgspec.json.decode(found[0]["state"], type=Rollout) if found else None


async def _rest(world: World, told: list[Any]) -> bool:
    """Wait until everything was heard, carried out and published."""
    database, deadline = world.databases["deployer"], world.loop.time() + REST_SECONDS_MAX
    while world.loop.time() < deadline and not world.bugs:
        state = rollout(world)
        unsaid = [row for row in database.rows(None, "outbox") if row["published_at"] is None]
        if len(database.rows(None, "inbox")) == len(told) and state is not None and _at_rest(state) and not unsaid:
            return True
        await asyncio.sleep(0.5)
    return False


def _at_rest(state: Rollout) -> bool:
    """Say whether what was heard is carried out: no order is before the endpoint is open."""
    return state.opened and all(each.stage is Stage.WARM for each in state.placements.values())


def _essence(state: Rollout) -> dict[str, Any]:
    """Return what must not depend on when what was heard."""
    return {
        "applied": state.applied,
        "champion": state.champion,
        "previous": state.previous,
        "order": state.order,
        "approvals": {version: each.digest for version, each in state.approvals.items()},
        "orders": state.orders,
        "way back": state.way_back,
        "placed": {version: (each.digest, each.stage) for version, each in state.placements.items()},
    }


def _violations(world: World, told: list[Any], complete: bool) -> list[str]:
    found = [bug.replace("LEADERS ", "LEADERS: ") if bug.startswith("LEADERS") else f"BUG: {bug}" for bug in world.bugs]
    state = rollout(world)
    facts = [e for e in told if isinstance(e, EndpointCreated | VersionApproved | VersionPromoted | RollbackOrdered)]
    if state is None or not complete:
        return found or ["LOST: the rollout never came to rest"]
    wanted, is_now = _essence(in_order(facts).rollout), _essence(state)
    found += [f"STATE: {name} is {is_now[name]}, not {wanted[name]}" for name in wanted if is_now[name] != wanted[name]]
    routes = [rows.decode(record.value or b"") for record in world.cluster.logs[(ROUTES, 0)].records if record.visible]
    first = list({route.epoch: route for route in routes}.values())
    if [route.epoch for route in first] != list(range(1, len(first) + 1)):
        found.append(f"EPOCHS: {[route.epoch for route in routes]}")
    orders = [route.promotion for route in first]
    if orders != sorted(set(orders)):
        found.append(f"ORDERS: carried out as {orders}")
    followed = Routes()
    for route in routes:
        assert isinstance(route, Route)
        followed.apply(route)
    if first and followed.of("fraud").arms[0].version != state.champion:
        found.append(f"CHAMPION: routers have {followed.of('fraud')}, the rollout {state.champion}")
    return found


@contextmanager
def _without_ray() -> Iterator[None]:
    """Build no application and read no manifest: what runs here is a name."""
    resources = SimpleNamespace(cpus=1, gpus=0, memory_mib=1)
    with ExitStack() as stack:
        stack.enter_context(patch("interlock_deployer.serve.replica.application", lambda *_, **__: None))
        manifest = SimpleNamespace(parse=lambda _: SimpleNamespace(resources=resources))
        stack.enter_context(patch("interlock_deployer.serve.Manifest", manifest))
        yield
