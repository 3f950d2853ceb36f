"""Ray dies with everything it ran, and comes back empty."""

from __future__ import annotations

import asyncio
import time

import pytest

from interlock.schemas.events import Route, VersionWarmed
from tests.integration.deployer.conftest import Setting
from tests.integration.deployer.rig import RayHead, RegistryVoice, names

RESTORED_SECONDS_MAX = 240.0


@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.timeout(600)
async def test_applications_are_restored_after_ray_was_killed(
    setting: Setting, ray: RayHead, registry: RegistryVoice
) -> None:
    """Champion and previous come up again and are proven again; the route stays, and a rollback works as before."""
    await registry.create_endpoint()
    previous = None
    for version in (1, 2):
        await registry.register(version)
        await registry.approve(version)
        await registry.promote(version, previous)
        await registry.wait_for(Route, names(version))
        previous = version

    ray.kill()
    # The deployer sees the loss, or ends because its driver does; either way it must find its way.
    await _until(setting, lambda body: body is None or body["status"] == "waiting")
    ray.start()
    deadline = time.monotonic() + RESTORED_SECONDS_MAX
    while time.monotonic() < deadline and len(registry.all_of(VersionWarmed)) < 4:
        setting.process.restart_if_ended()
        await asyncio.sleep(0.1)
    assert sorted(event.version for event in registry.all_of(VersionWarmed)) == [1, 1, 2, 2]
    assert [route.epoch for route in registry.all_of(Route)] == [1, 2], "no route changed for it"

    began = await registry.roll_back(2, 1)
    heard = await registry.wait_for(Route, lambda event: event.epoch == 3)
    assert heard.event.arms[0].version == 1
    assert heard.at - began < 1.0, "the way back is warm again"


async def _until(setting: Setting, matches: object) -> None:
    """Wait until what /readyz says (None if nobody answers) matches."""
    assert callable(matches)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if matches(await setting.readiness()):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the deployer did not notice")
