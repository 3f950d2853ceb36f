"""A lane that takes over answers by no older route than the one before it did, however late its router hears of it."""

from __future__ import annotations

import asyncio

from confluent_kafka import Producer

from interlock.codec.rows import encode
from interlock.kafka.admin import ensure_topics
from interlock.schemas import control_topics
from interlock.schemas.events import Route
from interlock.schemas.topics import ROUTES
from interlock_router.model import Routes
from tests.integration.router.rig import Rig, RunningRouter, exactly_once

OLDER_SECONDS = 3.0
"""How long a router that knows the older route alone gets to answer by it."""


def _publish(rig: Rig, route: Route) -> None:
    producer = Producer({"bootstrap.servers": rig.settings.kafka_bootstrap_servers})
    producer.produce(ROUTES, key=rig.endpoint, value=encode(route))
    assert producer.flush(10) == 0


async def test_who_takes_over_waits_until_it_knows_the_route_that_was_answered_by(rig: Rig) -> None:
    """It knows epoch 1, those before answered by epoch 2: it answers nobody until it has read epoch 2 as well."""
    await ensure_topics(rig.settings, control_topics())
    for version in (1, 2):
        rig.serving.add("m", version)
    _publish(rig, rig.route((1, 10_000)))
    late = RunningRouter(rig, routes=Routes())
    following = asyncio.create_task(late.follower.run())
    await asyncio.wait_for(late.follower.known.wait(), 20)
    following.cancel()
    _publish(rig, rig.route((2, 10_000)))
    rig.produce([rig.value(number) for number in range(100)])
    async with RunningRouter(rig):
        assert {row["epoch"] for row in await rig.results(100)} == {2}
    rig.produce([rig.value(number) for number in range(100, 200)])
    async with late:
        assert len(await rig.results(101, OLDER_SECONDS)) == 100
        following = asyncio.create_task(late.follower.run())
        results = await rig.results(200)
    await asyncio.wait_for(following, 20)
    exactly_once(results, 200)
    assert {row["epoch"] for row in results} == {2}
