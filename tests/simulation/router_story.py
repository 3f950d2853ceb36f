"""A story of routers: what is asked of them, and what happens to them, all of it drawn from the seed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from tests.simulation.kafka_clients import DEAF
from tests.simulation.loop import VirtualLoop, simulate
from tests.simulation.network import Network
from tests.simulation.outcome import Outcome, hash_of
from tests.simulation.router_check import violations
from tests.simulation.router_world import Router, World, all_answered, callers, in_place, route

REQUESTS = 40
SECONDS = 15.0
ROUTERS_MAX = 3
FAULTS_MAX = 7
MARKERS_SECONDS_MAX = 4.0
SEAL_SECONDS_MAX = 12.0
WHOLE = 10_000


def run(seed: int, put_in: Callable[[], AbstractContextManager[None]] = nullcontext) -> Outcome:
    """Tell the story of a seed; `put_in` makes the product worse meanwhile."""
    worlds: list[World] = []

    async def story(loop: VirtualLoop) -> bool:
        world = World.make(loop)
        worlds.append(world)
        world.publish(route(1, (1, WHOLE)))
        world.routers = [Router(world, f"router{number}") for number in range(1 + loop.chance.randrange(ROUTERS_MAX))]
        for router in world.routers:
            router.begin()
        happening = [
            loop.world.spawn(callers(world, 0, REQUESTS, SECONDS)),
            loop.world.spawn(_routing(world)),
            loop.world.spawn(_faults(world)),
        ]
        await asyncio.gather(*happening)
        await _crash_behind_the_last(world)
        world.cluster.network = Network()
        world.versions.fails = 0.0
        complete = await all_answered(world)
        for router in world.routers:
            router.stop()
        await asyncio.wait([each.main for each in world.routers if each.main is not None], timeout=60)
        return complete

    with in_place(), put_in():
        complete, loop = simulate(seed, story)
    found = violations(worlds[0], complete)
    return Outcome(seed, found, hash_of(loop, worlds[0].cluster), list(loop.lines), len(worlds[0].asked))


async def _routing(world: World) -> None:
    """Change the route, and say old routes again, as a relay that was killed between publishing and marking does."""
    chance = world.loop.chance
    for epoch in range(2, 2 + chance.randrange(4)):
        await asyncio.sleep(chance.random() * SECONDS / 3)
        weight = chance.choice((WHOLE, WHOLE, 3_000))
        shares = [(epoch, weight)] if weight == WHOLE else [(epoch, weight), (epoch - 1, WHOLE - weight)]
        world.publish(route(epoch, *shares))
        if chance.random() < 0.4:
            await asyncio.sleep(chance.random())
            world.publish(world.routes[chance.randrange(1, epoch)])


async def _faults(world: World) -> None:
    chance = world.loop.chance
    for _ in range(chance.randrange(FAULTS_MAX + 1)):
        await asyncio.sleep(chance.random() * SECONDS / 3)
        router = chance.choice(world.routers)
        fault = chance.choice(
            (
                _kill, _kill, _freeze, _freeze, _replace, _restart_kafka, _kill_while_sealing, _bad_network,
                _deaf_to_routes, _failing_versions,
            )
        )  # fmt: skip
        world.loop.note("fault", fault.__name__.strip("_"), router.name)
        await fault(world, router)


async def _crash_behind_the_last(world: World) -> None:
    """In some stories, ask once more and kill the broker while it writes the answer's markers: nobody asks again."""
    chance = world.loop.chance
    if chance.random() < 0.3:
        world.loop.note("fault", "crash_behind_the_last")
        asking = world.loop.world.spawn(callers(world, REQUESTS, REQUESTS + 1, 0.2))
        await _restart_kafka(world, chance.choice(world.routers))
        await asking


async def _kill(world: World, router: Router) -> None:
    router.kill()
    await asyncio.sleep(world.loop.chance.random() * 3)
    router.begin()


async def _freeze(world: World, router: Router) -> None:
    if router.process is not None:
        router.process.freeze(world.loop.chance.choice((0.3, 2.0, 9.0, 20.0)))


async def _replace(world: World, router: Router) -> None:
    """Begin another before this one is told to end: a planned hand-over."""
    router.stop()
    if router.main is not None:
        await asyncio.wait([router.main], timeout=30)
    router.kill()
    router.begin()


async def _restart_kafka(world: World, router: Router) -> None:
    """Kill the broker, at any moment or while it writes markers; a real one takes seconds to come back."""
    chance = world.loop.chance
    world.cluster.gives_markers_up = chance.choice((0.0, 0.7))
    deadline = world.loop.time() + MARKERS_SECONDS_MAX
    while world.cluster.gives_markers_up and not world.cluster.is_marking and world.loop.time() < deadline:
        await asyncio.sleep(chance.random() * 0.01)
    world.cluster.restart(chance.choice((2.0, 3.0, 5.0)))


async def _kill_while_sealing(world: World, router: Router) -> None:
    """Kill the broker, and then whoever has just fenced and was about to see to the markers that were lost."""
    await _restart_kafka(world, router)
    deadline = world.loop.time() + SEAL_SECONDS_MAX
    while not world.cluster.is_taken_over and world.loop.time() < deadline:
        await asyncio.sleep(world.loop.chance.random() * 0.01)
    for each in world.routers:
        each.kill()
    await asyncio.sleep(world.loop.chance.random() * 3)
    for each in world.routers:
        each.begin()


async def _deaf_to_routes(world: World, router: Router) -> None:
    """Let one router hear of no route for a while, in which the others leave: what they had becomes its own."""
    chance = world.loop.chance
    if router.process is not None:
        world.loop.things[(DEAF, router.process.name)] = world.loop.time() + chance.choice((2.0, 6.0, 12.0))
    await asyncio.sleep(chance.random() * 4)
    others = [each for each in world.routers if each is not router]
    for each in others:
        each.stop()
    await asyncio.sleep(chance.random() * 6)
    for each in others:
        each.kill()
        each.begin()


async def _bad_network(world: World, router: Router) -> None:
    chance = world.loop.chance
    lost, late = (0.0, 0.05, 0.2), (0.0, 0.05)
    world.cluster.network = Network(chance.choice(lost), chance.choice(lost), chance.choice(late))
    await asyncio.sleep(chance.random() * 4)
    world.cluster.network = Network()


async def _failing_versions(world: World, router: Router) -> None:
    world.versions.fails = 0.5
    await asyncio.sleep(world.loop.chance.random() * 3)
    world.versions.fails = 0.0
