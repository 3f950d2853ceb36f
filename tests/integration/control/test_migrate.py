"""Migrations on a real Postgres: once, in order, and never rewritten."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from interlock.errors import Refusal
from interlock.postgres import migrate
from tests.integration.control.conftest import drop, service_name


@pytest.fixture
async def named(owner_dsn: str) -> AsyncIterator[str]:
    """Return a service's name; what is made for it goes at the end."""
    name = service_name()
    await migrate.prepare_role(owner_dsn, name, "first")
    yield name
    await drop(owner_dsn, name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a service's folder with one migration."""
    (tmp_path / "0001_models.sql").write_text("CREATE TABLE models (name text PRIMARY KEY);\n")
    return tmp_path


async def test_new_files_are_applied_once_and_in_order(owner_dsn: str, named: str, folder: Path) -> None:
    """First the platform's, then the service's; again: nothing; a new file: only that one."""
    first = await migrate.migrate(owner_dsn, named, [folder])
    assert first[0].startswith("platform/0001_")
    assert first[-1] == f"{named}/0001_models.sql"
    assert await migrate.migrate(owner_dsn, named, [folder]) == []
    (folder / "0002_more.sql").write_text("ALTER TABLE models ADD owner text;\n")
    assert await migrate.migrate(owner_dsn, named, [folder]) == [f"{named}/0002_more.sql"]


async def test_a_changed_file_is_refused_by_name(owner_dsn: str, named: str, folder: Path) -> None:
    """One byte more in an applied file and nothing runs; so too when it has gone."""
    await migrate.migrate(owner_dsn, named, [folder])
    (folder / "0001_models.sql").write_text("CREATE TABLE models (name text PRIMARY KEY) ;\n")
    with pytest.raises(Refusal, match="0001_models") as caught:
        await migrate.migrate(owner_dsn, named, [folder])
    assert caught.value.code is migrate.MIGRATION_CHANGED
    (folder / "0001_models.sql").unlink()
    with pytest.raises(Refusal, match="0001_models"):
        await migrate.migrate(owner_dsn, named, [folder])


async def test_a_file_that_fails_leaves_nothing_of_itself(owner_dsn: str, named: str, folder: Path) -> None:
    """Half a file is rolled back and stays unapplied; mended, it is applied."""
    broken = folder / "0002_broken.sql"
    broken.write_text("CREATE TABLE half (a int); SELECT nonsense;\n")
    with pytest.raises(asyncpg.PostgresError):
        await migrate.migrate(owner_dsn, named, [folder])
    broken.write_text("CREATE TABLE half (a int);\n")
    assert await migrate.migrate(owner_dsn, named, [folder]) == [f"{named}/0002_broken.sql"]


async def test_many_migrating_at_once_apply_each_file_once(owner_dsn: str, named: str, folder: Path) -> None:
    """The advisory lock lets one work; the others find it done."""
    results = await asyncio.gather(*(migrate.migrate(owner_dsn, named, [folder]) for _ in range(4)))
    assert sorted(len(names) > 0 for names in results) == [False, False, False, True]


async def test_a_service_sees_only_its_own_schema(owner_dsn: str, named: str, database: Any, folder: Path) -> None:
    """Another service's role is refused at the door of this schema."""
    await migrate.migrate(owner_dsn, named, [folder])
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await database.fetch(f"SELECT * FROM {named}.models")


async def test_the_role_logs_in_with_its_newest_password(owner_dsn: str, named: str) -> None:
    """Preparing again changes the password (quotes in it do no harm), and the search path is the service's schema."""
    password = "it's;--" + secrets.token_hex(4)
    await migrate.prepare_role(owner_dsn, named, password)
    host, port = owner_dsn.split("@")[1].split("/", maxsplit=1)[0].split(":")
    connection = await asyncpg.connect(
        host=host, port=int(port), user=migrate.role_of(named), password=password, database="interlock"
    )
    try:
        assert await connection.fetchval("SELECT current_schema()") == named
    finally:
        await connection.close()


def test_a_name_unfit_for_sql_is_refused() -> None:
    """Schema and role names are built from the service's name, so it may hold nothing that SQL could read."""
    with pytest.raises(ValueError, match="cannot name a schema"):
        migrate.role_of("x; drop")
