"""The rig, proved: every planted bug is caught under its name, and every scene is green without a bug."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from interlock.codec.contract import request_schema
from interlock_router.settings import Settings
from tests.integration.router.rig import REQUEST_SCHEMA_ID, SIGNATURE, schema_registry
from tests.rig import scenes, scenes_control
from tests.rig.nursery import Nursery
from tests.rig.plants import PLANTS, Plant
from tests.rig.scenes import World

pytestmark = [pytest.mark.fault, pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]

SCENES = {**scenes.SCENES, **scenes_control.SCENES}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(servers: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """Share servers, a schema registry and the process that forks children."""
    with schema_registry({REQUEST_SCHEMA_ID: request_schema("any", SIGNATURE)}) as url:
        settings = Settings(
            kafka_bootstrap_servers=servers["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"], schema_registry_url=url
        )
        async with Nursery(tmp_path_factory.mktemp("plants")) as nursery:
            yield World(settings, nursery, servers["INTERLOCK_POSTGRES_OWNER_DSN"])


@pytest.mark.parametrize("name", SCENES)
async def test_a_scene_without_a_bug_is_green(world: World, name: str) -> None:
    """Steady work, deaths, zombies, lost answers, stale routes: nothing is wrong afterwards."""
    assert [str(each) for each in (await SCENES[name](world, ""))[:10]] == []


@pytest.mark.parametrize("plant", PLANTS.values(), ids=lambda plant: plant.name)
async def test_a_planted_bug_is_caught_under_its_name(world: World, plant: Plant) -> None:
    """Every kind of violation that the bug must be called by is among those found."""
    found = await SCENES[plant.scene](world, plant.name)
    assert plant.kinds <= {each.kind for each in found}, [str(each) for each in found[:10]]
