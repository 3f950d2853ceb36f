"""How the schema registry keeps its schemas, subjects and levels: named SQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from interlock.postgres.pool import Connection

_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || '/schemas', 0))"
_SEED: Final = "INSERT INTO schemas (id, fingerprint, schema) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
_NEW: Final = """
INSERT INTO schemas (id, fingerprint, schema) VALUES (nextval('schema_ids')::integer, $1, $2) RETURNING id
"""
_BY_PRINT: Final = "SELECT id FROM schemas WHERE fingerprint = $1"
_BY_ID: Final = "SELECT schema, fingerprint FROM schemas WHERE id = $1"
_SUBJECTS: Final = "SELECT DISTINCT subject FROM subjects WHERE deleted = ANY($1::text[]) ORDER BY subject"
_VERSIONS: Final = """
SELECT subject, version, subjects.id, schema, deleted FROM subjects JOIN schemas USING (id)
WHERE subject = $1 ORDER BY version
"""
_OF_ID: Final = "SELECT subject, version FROM subjects WHERE id = $1 AND deleted = 'no' ORDER BY subject, version"
_ADD: Final = "INSERT INTO subjects (subject, version, id) VALUES ($1, $2, $3)"
_DELETE: Final = "UPDATE subjects SET deleted = $3 WHERE subject = $1 AND version = ANY($2::integer[])"
_LEVEL: Final = "SELECT level FROM levels WHERE subject = $1"
_SET_LEVEL: Final = """
INSERT INTO levels (subject, level) VALUES ($1, $2) ON CONFLICT (subject) DO UPDATE SET level = excluded.level
"""
_CLEAR_LEVEL: Final = "DELETE FROM levels WHERE subject = $1"


@dataclass(frozen=True)
class Registered:
    """One version of a subject; `deleted` is no, soft or hard."""

    subject: str
    version: int
    id: int
    schema: str
    deleted: str = "no"


async def begin(connection: Connection) -> None:
    """Hold the schemas' one lock until the transaction ends, so that no number is given twice."""
    await connection.execute(_LOCK)


async def seed(connection: Connection, number: int, fingerprint: str, text: str) -> bool:
    """Keep a schema under a fixed id; say whether that id now stands for it."""
    await connection.execute(_SEED, number, fingerprint, text)
    row = await connection.fetchrow(_BY_ID, number)
    return row is not None and bool(row["fingerprint"] == fingerprint)


async def new_id(connection: Connection, fingerprint: str, text: str) -> int:
    """Keep a new schema and return its id."""
    return int(await connection.fetchval(_NEW, fingerprint, text))


async def id_of(connection: Connection, fingerprint: str) -> int | None:
    """Return the id of a schema, or None."""
    number: int | None = await connection.fetchval(_BY_PRINT, fingerprint)
    return number


async def text_of(connection: Connection, number: int) -> str | None:
    """Return the text of a schema by its id, or None."""
    row = await connection.fetchrow(_BY_ID, number)
    return None if row is None else str(row["schema"])


async def uses(connection: Connection, number: int) -> list[tuple[str, int]]:
    """Return where an id is used, as (subject, version)."""
    return [(row["subject"], row["version"]) for row in await connection.fetch(_OF_ID, number)]


async def subjects(connection: Connection, deleted: list[str]) -> list[str]:
    """Return the subjects that have a version in one of these states of deletion."""
    return [row["subject"] for row in await connection.fetch(_SUBJECTS, deleted)]


async def versions(connection: Connection, subject: str) -> list[Registered]:
    """Return all versions that a subject ever had, oldest first."""
    return [Registered(*row.values()) for row in await connection.fetch(_VERSIONS, subject)]


async def add(connection: Connection, subject: str, version: int, number: int) -> None:
    """Put a schema under a subject as its next version."""
    await connection.execute(_ADD, subject, version, number)


async def mark(connection: Connection, subject: str, numbers: list[int], deleted: str) -> None:
    """Mark versions of a subject as deleted."""
    await connection.execute(_DELETE, subject, numbers, deleted)


async def level(connection: Connection, subject: str) -> str | None:
    """Return a subject's own level, or None; "" is the level of those that have none."""
    found: str | None = await connection.fetchval(_LEVEL, subject)
    return found


async def set_level(connection: Connection, subject: str, wanted: str) -> None:
    """Keep a subject's level."""
    await connection.execute(_SET_LEVEL, subject, wanted)


async def clear_level(connection: Connection, subject: str) -> None:
    """Forget a subject's own level."""
    await connection.execute(_CLEAR_LEVEL, subject)
