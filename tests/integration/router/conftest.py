"""A rig for each test: an endpoint of its own on the session's Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from interlock.codec.contract import request_schema
from interlock.ids import uuid7
from interlock_router.settings import Settings
from tests.integration.router.rig import REQUEST_SCHEMA_ID, SIGNATURE, Rig, schema_registry


@pytest.fixture(scope="session")
def registry() -> Iterator[tuple[str, dict[int, Any]]]:
    """A schema registry that knows the rig's request schema; tests may add more."""
    schemas: dict[int, Any] = {REQUEST_SCHEMA_ID: request_schema("any", SIGNATURE)}
    with schema_registry(schemas) as url:
        yield url, schemas


@pytest.fixture
async def rig(servers: dict[str, str], registry: tuple[str, dict[int, Any]]) -> Rig:
    """An endpoint with topics, and a router group of its own."""
    settings = Settings(
        kafka_bootstrap_servers=servers["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"],
        schema_registry_url=registry[0],
        group="router-" + uuid7()[-12:],
    )
    rig = Rig(settings)
    await rig.create()
    return rig
