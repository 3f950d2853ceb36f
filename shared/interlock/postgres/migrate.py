"""Migrations: numbered SQL files, applied once, in order, under a lock, with a ledger of their hashes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import asyncpg
import msgspec

from interlock.errors import Code, Refusal
from interlock.ids import digest_of
from interlock.postgres.pool import COMMAND_SECONDS_MAX, Connection, passing

PLATFORM_FOLDER = Path(__file__).parent / "sql"
ROLE_PREFIX = "interlock_"
_SERVICE = re.compile(r"^[a-z][a-z0-9_]{0,40}$")
_FILE = re.compile(r"^\d{4}_[a-z0-9_]+\.sql$")

MIGRATION_CHANGED = Code(
    "MIGRATION_CHANGED",
    409,
    "An applied migration was changed",
    "Put the file back as it was and write a new one with the next number.",
)
MIGRATION_NAME = Code("MIGRATION_NAME", 400, "A migration's name is not right", "Name it like 0002_what_it_does.sql.")
ROLE_ABSENT = Code(
    "ROLE_ABSENT", 409, "The service's database role does not exist", "Run `interlock migrate`, which makes it."
)

_LEDGER = """
CREATE TABLE IF NOT EXISTS {schema}.migrations (
    name text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())
"""
# A service may read and write rows of its own schema and nothing else; runaway statements and transactions end.
_ROLE = """
CREATE SCHEMA IF NOT EXISTS {schema};
REVOKE ALL ON SCHEMA {schema} FROM PUBLIC;
GRANT USAGE ON SCHEMA {schema} TO {role};
ALTER ROLE {role} SET search_path = {schema};
ALTER ROLE {role} SET statement_timeout = '30s';
ALTER ROLE {role} SET lock_timeout = '10s';
ALTER ROLE {role} SET idle_in_transaction_session_timeout = '30s';
ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role};
ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT USAGE ON SEQUENCES TO {role};
"""


class MigrationFile(msgspec.Struct, frozen=True):
    """One numbered file, read."""

    name: str
    path: Path
    text: str
    sha256: str


def role_of(service: str) -> str:
    """Return the database role of a service, `interlock_<service>`; raises ValueError for a name unfit for SQL."""
    if not _SERVICE.match(service):
        raise ValueError(f"{service!r} cannot name a schema: lower-case letters, digits and _ only")
    return ROLE_PREFIX + service


async def prepare_role(owner_dsn: str, service: str, password: str) -> None:
    """Make (or bring up to date) the service's LOGIN role and its schema. Raises Transient where the server is away."""
    role = role_of(service)
    connection = await _connect(owner_dsn)
    try:
        # Roles belong to the whole cluster: two services prepared at once would trip over each other's catalogue rows.
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('interlock/roles', 0))")
            verb = "ALTER" if await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role) else "CREATE"
            statement = await connection.fetchval(
                f"SELECT format('{verb} ROLE %I LOGIN PASSWORD %L', $1::text, $2::text)", role, password
            )
            await connection.execute(statement)
            database = await connection.fetchval("SELECT format('%I', current_database())")
            await connection.execute(
                f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC; GRANT CONNECT ON DATABASE {database} TO {role}"
            )
            await connection.execute(_ROLE.format(schema=service, role=role))
    finally:
        await connection.close()


async def migrate(owner_dsn: str, service: str, folders: Sequence[Path], password: str | None = None) -> list[str]:
    """Apply what is new in the platform's folder, then in `folders`; return the names applied, in order.

    With a password the role is prepared first. Each file is one transaction. Raises Refusal(MIGRATION_CHANGED)
    naming the file when an applied one was edited or has gone, Refusal(ROLE_ABSENT), Refusal(MIGRATION_NAME).
    """
    if password is not None:
        await prepare_role(owner_dsn, service, password)
    role = role_of(service)
    files = _read(service, folders)
    connection = await _connect(owner_dsn)
    try:
        if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role):
            raise Refusal(ROLE_ABSENT, f"There is no role {role}.")
        await connection.execute("SELECT pg_advisory_lock(hashtextextended('interlock/migrate/' || $1, 0))", service)
        await connection.execute(f"SET search_path = {service}")
        await connection.execute(_LEDGER.format(schema=service))
        ledger = {row["name"]: row["sha256"] for row in await connection.fetch("SELECT name, sha256 FROM migrations")}
        new = pending(files, ledger)
        for file in new:
            await _apply(connection, file, role)
        await connection.execute(f"REVOKE ALL ON migrations FROM {role}")
        return [file.name for file in new]
    finally:
        await connection.close()


def pending(files: Sequence[MigrationFile], ledger: dict[str, str]) -> list[MigrationFile]:
    """Return the files not yet in the ledger (name to hash), in order.

    Raises Refusal(MIGRATION_CHANGED) naming the first that differs or has gone, Refusal(MIGRATION_NAME) for one that
    would come before what was applied.
    """
    names = {file.name for file in files}
    for gone in sorted(set(ledger) - names):
        raise Refusal(MIGRATION_CHANGED, f"{gone} was applied to this database and is not among the files.", file=gone)
    for file in files:
        if ledger.get(file.name, file.sha256) != file.sha256:
            raise Refusal(MIGRATION_CHANGED, f"{file.name} was applied with other contents.", file=file.name)
    new = [file for file in files if file.name not in ledger]
    for file in new:
        folder = file.name.rpartition("/")[0]
        newest = max((name for name in ledger if name.rpartition("/")[0] == folder), default="")
        if file.name < newest:
            raise Refusal(MIGRATION_NAME, f"{file.name} comes before {newest}, which was applied.", file=file.name)
    return new


def _read(service: str, folders: Sequence[Path]) -> list[MigrationFile]:
    """Read the platform's files, then the service's, each folder in the order of its numbers."""
    found = []
    for prefix, folder in [("platform", PLATFORM_FOLDER), *((service, folder) for folder in folders)]:
        for path in sorted(folder.glob("*.sql")):
            if not _FILE.match(path.name):
                raise Refusal(MIGRATION_NAME, f"{path} has no number.", file=str(path))
            content = path.read_bytes()
            found.append(MigrationFile(f"{prefix}/{path.name}", path, content.decode("utf-8"), digest_of(content)))
    return found


async def _apply(connection: Connection, file: MigrationFile, role: str) -> None:
    """Run one file and note it in the ledger, in one transaction."""
    async with connection.transaction():
        await connection.execute(file.text.replace("{role}", role), timeout=None)
        await connection.execute("INSERT INTO migrations (name, sha256) VALUES ($1, $2)", file.name, file.sha256)


async def _connect(dsn: str) -> Connection:
    """Return one connection of the owner; raises Transient where the server is away."""
    async with passing():
        return await asyncpg.connect(dsn, command_timeout=COMMAND_SECONDS_MAX)
