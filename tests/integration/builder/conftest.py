"""A builder's own schema in the real Postgres, a blob store of its own, and workers that build in real children."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

import interlock_builder
from interlock.blobs import Blobs
from interlock.clock import SystemClock
from interlock.ids import uuid7
from interlock.postgres import migrate, pool
from interlock_builder.settings import Settings
from interlock_builder.store import Store
from interlock_builder.worker import Worker
from tests.integration.builder.forge import Forge

SQL_FOLDER = Path(interlock_builder.__file__).parent / "sql"


@pytest.fixture
async def database(servers: dict[str, str]) -> AsyncIterator[Any]:
    """Return a pool of a role that owns the builder's tables in a schema of this test's own."""
    service, password = f"t{uuid7().replace('-', '')[-20:]}", secrets.token_hex(8)
    owner_dsn = servers["INTERLOCK_POSTGRES_OWNER_DSN"]
    await migrate.migrate(owner_dsn, service, [SQL_FOLDER], password)
    role = migrate.role_of(service)
    opened = await pool.connect(f"postgresql://{role}:{password}@{owner_dsn.split('@', 1)[1]}")
    yield opened
    opened.terminate()
    connection = await asyncpg.connect(owner_dsn)
    await connection.execute(f"GRANT {role} TO CURRENT_USER; DROP SCHEMA {service} CASCADE; DROP OWNED BY {role}")
    await connection.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'")
    await connection.execute(f"DROP ROLE {role}")
    await connection.close()


@pytest.fixture
def forge(database: Any, tmp_path: Path) -> Forge:
    """Return what registers versions and reads what the builder said."""
    return Forge(database, Blobs(tmp_path / "blobs"))


@pytest.fixture
async def make_worker(database: Any, forge: Forge) -> AsyncIterator[Callable[..., tuple[Worker, asyncio.Event]]]:
    """Return a maker of workers (bounds as keywords); each is stopped when the test ends."""
    stops: list[asyncio.Event] = []

    def make(**bounds: Any) -> tuple[Worker, asyncio.Event]:
        settings = Settings(**{"build_poll_seconds": 0.05, "build_seconds_max": 60.0, **bounds})
        stop = asyncio.Event()
        stops.append(stop)
        return Worker(database, Store(database, uuid7()), forge.blobs, settings, SystemClock(), stop), stop

    yield make
    for stop in stops:
        stop.set()
