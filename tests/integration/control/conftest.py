"""Rooms in the real servers: a schema, a role and topics of a test's own."""

from __future__ import annotations

import asyncio
import inspect
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from interlock.ids import uuid7
from interlock.kafka import admin
from interlock.postgres import migrate, pool
from interlock.schemas import Topic
from interlock.settings import PlatformSettings


def service_name() -> str:
    """Return a name that no other test has."""
    return f"t{uuid7().replace('-', '')[-20:]}"


@pytest.fixture
def settings(servers: dict[str, str], tmp_path: Path) -> PlatformSettings:
    """Return settings that point at the real servers, with short bounds."""
    values = {name.removeprefix("INTERLOCK_").lower(): value for name, value in servers.items()}
    values |= {"blob_folder": str(tmp_path / "blobs"), "retry_seconds_max": "0.2", "connect_retry_seconds_max": "0.5"}
    return PlatformSettings.model_validate(values)


@pytest.fixture
def owner_dsn(servers: dict[str, str]) -> str:
    """Return the owner's address."""
    return servers["INTERLOCK_POSTGRES_OWNER_DSN"]


@pytest.fixture
def service() -> str:
    """Return the name of a service that no other test has."""
    return service_name()


@pytest.fixture
async def service_dsn(owner_dsn: str, service: str) -> AsyncIterator[str]:
    """Return the address of a migrated service's own role; its schema and role go when the test ends."""
    password = secrets.token_hex(8)
    await migrate.migrate(owner_dsn, service, [], password)
    role = migrate.role_of(service)
    address = owner_dsn.split("@", 1)[1]
    yield f"postgresql://{role}:{password}@{address}"
    await drop(owner_dsn, service)


@pytest.fixture
async def database(service_dsn: str) -> AsyncIterator[Any]:
    """Return a pool of the service's role."""
    opened = await pool.connect(service_dsn, connections_max=30)
    yield opened
    opened.terminate()


async def drop(owner_dsn: str, service: str) -> None:
    """Remove a test's schema and role."""
    connection = await asyncpg.connect(owner_dsn)
    try:
        role = migrate.role_of(service)
        await connection.execute(f"GRANT {role} TO CURRENT_USER")
        await connection.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'")
        await connection.execute(f"DROP SCHEMA IF EXISTS {service} CASCADE; DROP OWNED BY {role}; DROP ROLE {role}")
    finally:
        await connection.close()


@pytest.fixture
async def topic(settings: PlatformSettings) -> str:
    """Return the name of a new topic with one partition."""
    name = f"t.{uuid7()}"
    await admin.ensure_topics(settings, [topic_of(name)])
    return name


def topic_of(name: str, partitions: int = 1) -> Topic:
    """Return the declaration of a test's topic."""
    return Topic(
        name=name,
        owner="test",
        key="any",
        partitions=partitions,
        config={"retention.ms": "3600000"},
        events=(),
        writers=(),
        readers=(),
        compatibility="NONE",
        template=False,
    )


async def until(condition: Callable[[], Any], seconds: float = 30) -> None:
    """Return when the condition (plain or awaitable) holds; fails after so many seconds."""
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if await found if inspect.isawaitable(found) else found:
                return
            await asyncio.sleep(0.01)
