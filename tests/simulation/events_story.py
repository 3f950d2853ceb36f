"""A story of events: commands decide them, an outbox brings them to Kafka, an inbox keeps them from coming twice."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from interlock.cause import Cause
from interlock.codec import rows
from interlock.dispatch import Dispatch
from interlock.errors import Transient
from interlock.kafka.consumer import ControlConsumer
from interlock.postgres import journal
from interlock.postgres.outbox import Relay
from interlock.schemas.events import ModelCreated
from tests.simulation.control_clients import SimulatedPublisher
from tests.simulation.control_world import Machine, World, calm, faults, in_place, settings, stop
from tests.simulation.loop import START, VirtualLoop, simulate
from tests.simulation.outcome import Outcome, hash_of
from tests.simulation.postgres import SimulatedPool
from tests.simulation.postgres_statements import APPLY

TOPIC = ModelCreated.TOPIC
WRITERS = 3
COMMANDS_EACH = 6
KEYS = 3
PAUSES_SECONDS = (0.0, 0.05, 0.3, 3.0)
UNIT_SECONDS_MAX = 0.2
QUIET_SECONDS_MAX = 200.0


async def publisher(world: World) -> None:
    """Be the publishing service's relay; a second process of it waits to take over."""
    found = SimulatedPublisher("interlock.registry.outbox")
    await Relay("registry", found, "registry", stopping=world.stopping, poll_seconds=0.5, retry_seconds_max=1.0).run()


async def reader(world: World) -> None:
    """Be the consuming service: what it hears is applied in the unit that hears it."""

    async def on_model_created(event: ModelCreated, unit: journal.Unit) -> None:
        await unit.connection.execute(APPLY, event.model, int(event.owner))

    pool: Any = SimulatedPool(world.databases["audit"])
    dispatch = Dispatch("auditor", {TOPIC: {ModelCreated: on_model_created}}, {}, pool, world.clock)
    consumer = ControlConsumer(
        settings(), "auditor", [TOPIC], dispatch.decode, dispatch.handle, stopping=world.stopping, clock=world.clock
    )
    await consumer.run()


async def writer(world: World, name: str) -> None:
    """Send commands, each again under its key until it is answered."""
    chance, pool = world.loop.chance, SimulatedPool(world.databases["registry"])
    for number in range(COMMANDS_EACH):
        await asyncio.sleep(chance.choice(PAUSES_SECONDS))
        world.written += 1
        serial, keys = world.written, chance.sample(range(KEYS), chance.choice((1, 1, 2)))

        async def decide(unit: journal.Unit, serial: int = serial, keys: list[int] = keys) -> list[str]:
            await asyncio.sleep(chance.random() * UNIT_SECONDS_MAX)
            said = []
            for key in sorted(keys):
                event = ModelCreated(model=f"k{key}", owner=str(serial), created_by=name, at=START)
                said.append(await unit.append(f"model/k{key}", event))
                await asyncio.sleep(chance.random() * UNIT_SECONDS_MAX)
            return said

        while True:
            try:
                await journal.command(
                    pool, f"{name}/{number}", _cause(serial), decide, request=number, clock=world.clock
                )
                break
            except Transient:
                await asyncio.sleep(chance.random())


def _cause(serial: int) -> Cause:
    return Cause(event_id=f"c-{serial}", correlation_id=f"c-{serial}", actor="ada")


def run(seed: int, put_in: Callable[[], AbstractContextManager[None]] = nullcontext) -> Outcome:
    """Tell the story of a seed; `put_in` makes the product worse meanwhile."""
    worlds: list[World] = []

    async def story(loop: VirtualLoop) -> bool:
        world = World.make(loop, {TOPIC: 2}, ("registry", "audit"))
        worlds.append(world)
        world.machines = [
            *(Machine(world, f"relay{number}", publisher) for number in range(2)),
            *(Machine(world, f"reader{number}", reader) for number in range(1 + loop.chance.randrange(2))),
        ]
        for machine in world.machines:
            machine.begin()
        writers = [loop.process(f"writer{number}") for number in range(WRITERS)]
        await asyncio.gather(
            *(process.spawn(writer(world, process.name)) for process in writers), loop.world.spawn(faults(world))
        )
        calm(world)
        complete = await _quiet(world)
        await stop(world)
        return complete

    with in_place(), put_in():
        complete, loop = simulate(seed, story)
    return Outcome(
        seed, _violations(worlds[0], complete), hash_of(loop, worlds[0].cluster), list(loop.lines), worlds[0].written
    )


async def _quiet(world: World) -> bool:
    """Wait until everything that was decided was applied."""
    deadline = world.loop.time() + QUIET_SECONDS_MAX
    while world.loop.time() < deadline and not world.bugs:
        outbox = world.databases["registry"].rows(None, "outbox")
        applied = world.databases["audit"].rows(None, "applied")
        if all(row["published_at"] is not None for row in outbox) and len(applied) >= len(outbox):
            return True
        await asyncio.sleep(0.5)
    return False


def _violations(world: World, complete: bool) -> list[str]:
    found = [f"BUG: {bug}" for bug in world.bugs]
    decided: dict[str, list[int]] = defaultdict(list)
    for row in world.databases["registry"].rows(None, "journal"):
        event = rows.decode(row["value"])
        decided[event.model].append(int(event.owner))
    applied: dict[str, list[int]] = defaultdict(list)
    for row in world.databases["audit"].rows(None, "applied"):
        applied[row["stream"]].append(row["serial"])
    published = _published(world)
    for key, serials in sorted(decided.items()):
        found += _of_stream(key, serials, published[key], applied[key])
    if not complete and not found:
        found.append("EVENT_LOST: it never came to rest")
    return found


def _published(world: World) -> dict[str, list[int]]:
    """Return what readers of committed records get, by key, each event where it comes first."""
    published: dict[str, list[int]] = defaultdict(list)
    for (topic, _), log in sorted(world.cluster.logs.items()):
        for record in log.records:
            if topic == TOPIC and record.visible:
                event = rows.decode(record.value or b"")
                if int(event.owner) not in published[event.model]:
                    published[event.model].append(int(event.owner))
    return published


def _of_stream(key: str, decided: list[int], published: list[int], applied: list[int]) -> list[str]:
    """Decided once each; published at least once, in order; applied exactly once, in order."""
    found = []
    if len(decided) != len(set(decided)):
        found.append(f"EVENT_TWICE_DECIDED: {key} {decided}")
    if len(applied) != len(set(applied)):
        found.append(f"EVENT_DUPLICATE: {key} applied {applied}")
    for what, there in (("published", published), ("applied", list(dict.fromkeys(applied)))):
        if set(decided) - set(there):
            found.append(f"EVENT_LOST: {key} decided {decided}, {what} {there}")
        elif there != list(dict.fromkeys(decided)):
            found.append(f"EVENT_ORDER: {key} decided {decided}, {what} {there}")
    return found
