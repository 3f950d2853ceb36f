"""Versions from approval to drain, through the real topics, tables and Ray."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

import httpx
import pytest

from interlock.kafka import admin
from interlock.schemas import endpoint_topics
from interlock.schemas.events import (
    DeployFailed,
    RolledBack,
    Route,
    RouteCause,
    RouteChanged,
    VersionDrained,
    VersionServing,
    VersionWarmed,
)
from interlock.signature import Signature
from tests.integration.deployer.conftest import Setting
from tests.integration.deployer.rig import TRACEPARENT, RegistryVoice, names

log = logging.getLogger(__name__)
pytestmark = pytest.mark.timeout(300)  # Ray starts a replica in seconds, but three failing ones take minutes under load
FLIP_SECONDS_MAX = 1.0
"""Far above what is measured (tens of milliseconds), so that a busy machine does not turn it red."""


def _of(version: int) -> Callable[[VersionWarmed], bool]:
    return lambda event: event.version == version


async def _serve(registry: RegistryVoice, *versions: int) -> None:
    """Register, approve, warm and promote versions one after the other."""
    previous = None
    for version in versions:
        await registry.register(version)
        await registry.approve(version)
        await registry.wait_for(VersionWarmed, _of(version))
        await registry.promote(version, previous)
        await registry.wait_for(Route, names(version))
        previous = version


async def test_a_version_is_warmed_promoted_and_rolled_back(setting: Setting, registry: RegistryVoice) -> None:
    """The whole walk, read from the real topics: warm, route, serving, rollback; digest, schema and trace as said."""
    await registry.create_endpoint(partitions=2)
    digest = await registry.register(1)
    await registry.approve(1)
    warm = (await registry.wait_for(VersionWarmed)).event
    assert (warm.version, warm.digest, warm.vectors) == (1, digest, 1)
    assert registry.all_of(Route) == [], "warm is not serving"

    began = await registry.promote(1)
    heard = await registry.wait_for(Route)
    log.info("promotion to route: %d ms", (heard.at - began) * 1000)
    assert heard.at - began < FLIP_SECONDS_MAX
    route = heard.event
    assert (route.epoch, route.promotion) == (1, 1)
    (arm,) = route.arms
    assert (arm.version, arm.digest, arm.weight, arm.application) == (1, digest, 10_000, warm.application)
    assert [column.name for column in Signature.from_json(arm.signature).inputs] == ["amount"]
    assert '"Result"' in route.result_schema
    assert route.result_schema_id > 1000
    assert heard.envelope.correlation_id == f"story-{registry.model}"
    assert heard.envelope.traceparent is not None
    assert heard.envelope.traceparent.split("-")[1] == TRACEPARENT.split("-")[1], "one trace from command to route"

    await _serve(registry, 2)
    began = await registry.roll_back(2, 1)
    heard = await registry.wait_for(Route, lambda event: event.epoch == 3)
    log.info("rollback to route: %d ms", (heard.at - began) * 1000)
    assert heard.at - began < FLIP_SECONDS_MAX
    assert heard.event.arms[0].version == 1
    await registry.wait_for(RolledBack, lambda event: (event.from_version, event.to_version, event.epoch) == (2, 1, 3))
    assert [event.version for event in registry.all_of(VersionServing)] == [1, 2]
    changes = registry.all_of(RouteChanged)
    assert [(change.epoch, change.cause) for change in changes] == [
        (1, RouteCause.PROMOTION),
        (2, RouteCause.PROMOTION),
        (3, RouteCause.ROLLBACK),
    ]
    # Everything of the endpoint exists with its partitions: making it again makes nothing.
    assert await admin.ensure_topics(setting.settings, endpoint_topics(registry.endpoint, 2)) == []


async def test_the_version_before_the_previous_is_drained(setting: Setting, registry: RegistryVoice) -> None:
    """Three versions: the first is deleted after its drain, the other two stay up."""
    await registry.create_endpoint()
    await _serve(registry, 1, 2, 3)
    drained = (await registry.wait_for(VersionDrained)).event
    assert drained.version == 1
    applications = (await setting.get("/v1/applications")).json()
    stages = {each["version"]: each["stage"] for each in applications if each["endpoint"] == registry.endpoint}
    assert stages == {2: "WARM", 3: "WARM"}


async def test_repeated_and_late_orders_change_nothing(registry: RegistryVoice) -> None:
    """The same events again, under old and new ids, give no second route."""
    await registry.create_endpoint()
    await _serve(registry, 1, 2)
    registry._promotion = 0
    await registry.promote(1)  # the first order again: late
    await registry.promote(2, 1)  # the second again: repeated
    await registry.approve(1)
    await registry.approve(2)
    await _serve_marker(registry)
    assert [(route.epoch, route.promotion) for route in registry.all_of(Route)] == [(1, 1), (2, 2), (3, 3)]


async def _serve_marker(registry: RegistryVoice) -> None:
    """Have one more order carried out, so that everything said before it has had its turn."""
    await registry.register(3)
    await registry.approve(3)
    await registry.promote(3, 2)
    await registry.wait_for(Route, names(3))


async def test_a_promotion_before_approval_and_registration_waits_for_both(registry: RegistryVoice) -> None:
    """Out of order: the order first, the approval next, the version and the endpoint last; it serves all the same."""
    pushed = registry.pushed(1)
    await registry.promote(1)
    await registry.approve(1)
    await registry.say(pushed)
    await registry.create_endpoint()
    route = (await registry.wait_for(Route)).event
    assert (route.epoch, route.arms[0].version) == (1, 1)


async def test_a_version_that_answers_otherwise_than_its_vectors_never_serves(registry: RegistryVoice) -> None:
    """Promoted before it is warm, it fails its vectors: reported, and no route names it."""
    await registry.create_endpoint()
    await _serve(registry, 1)
    await registry.register(2, bias=0.5, expected=2.6)
    await registry.approve(2)
    await registry.promote(2, 1)
    failed = (await registry.wait_for(DeployFailed)).event
    assert (failed.version, failed.code) == (2, "VECTORS_DISAGREE")
    assert "2.6" in failed.detail
    await registry.roll_back(2, 1)
    await registry.wait_for(Route, lambda event: event.promotion == 3)
    assert [route.arms[0].version for route in registry.all_of(Route)] == [1, 1]


async def test_a_version_whose_bytes_are_not_those_approved_never_serves(registry: RegistryVoice) -> None:
    """The artifact in the store is another: the replica refuses to start, and the failure says which bytes it found."""
    await registry.create_endpoint()
    await registry.register(1, artifact=b"not the model that was approved")
    await registry.approve(1)
    failed = (await registry.wait_for(DeployFailed)).event
    assert failed.code == "DEPLOY_FAILED"
    assert "the bytes loaded are version" in failed.detail
    assert registry.all_of(VersionWarmed) == []


async def test_a_killed_deployer_goes_on_where_it_was(setting: Setting, registry: RegistryVoice) -> None:
    """Killed between approval and warming: the next process takes the lease and finishes; nothing is said twice."""
    await registry.create_endpoint()
    await registry.register(1)
    await registry.approve(1)
    await _placed(setting, registry)
    setting.process.kill()
    setting.process.start()
    await registry.promote(1)
    await registry.wait_for(Route)
    await registry.wait_for(VersionWarmed)  # on another topic than the route: either may be read first
    assert len(registry.all_of(VersionWarmed)) == 1
    assert len(registry.all_of(Route)) == 1


async def _placed(setting: Setting, registry: RegistryVoice) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):  # the first test may come before it listens
            applications = (await setting.get("/v1/applications")).json()
            if any(each["endpoint"] == registry.endpoint for each in applications):
                return
        await asyncio.sleep(0.01)
    raise AssertionError("the approval was not heard")


async def test_operators_can_ask_for_routes_and_nobody_else(setting: Setting, registry: RegistryVoice) -> None:
    """The route with what it waits for; a bad token is refused."""
    await registry.create_endpoint()
    await _serve(registry, 1)
    routes = (await setting.get("/v1/routes")).json()
    (route,) = [each for each in routes if each["endpoint"] == registry.endpoint]
    assert (route["champion"], route["epoch"], route["topics_exist"], route["waiting"]) == (1, 1, True, None)
    assert (await setting.get("/v1/routes", "no-token")).status_code == 401
