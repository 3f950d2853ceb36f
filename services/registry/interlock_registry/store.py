"""How the registry keeps its state: named SQL, and rows turned into the model's objects and back."""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec

from interlock.postgres.journal import Unit
from interlock.postgres.pool import Connection
from interlock.schemas.events import ModelCreated, VersionRegistered, WitnessLost, WitnessReturned
from interlock_registry.model import Version
from interlock_registry.promotions import Endpoint, LostWitness

T = TypeVar("T")
_JSON: Final = frozenset({"files", "gates", "approvals"})
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || '/registry', 0))"
_MODELS: Final = """
SELECT models.model, owner, created_by, created_at, max(version) AS newest_version, count(version) AS versions
FROM models LEFT JOIN versions USING (model) WHERE $1::text IS NULL OR models.model = $1
GROUP BY models.model ORDER BY models.model
"""
_KEEP_MODEL: Final = "INSERT INTO models (model, owner, created_by, created_at) VALUES ($1, $2, $3, $4)"
_VERSION: Final = "SELECT * FROM versions WHERE model = $1 AND version = $2"
_VERSIONS: Final = "SELECT * FROM versions WHERE model = $1 ORDER BY version"
_ENDPOINT: Final = "SELECT * FROM endpoints WHERE name = $1"
_ENDPOINTS: Final = "SELECT * FROM endpoints WHERE $1::text IS NULL OR model = $1 ORDER BY name"

_KEEP_WITNESS: Final = """
INSERT INTO witnesses (log, lost_at, detail, at) VALUES ($1, $2, $3, $4)
ON CONFLICT (log) DO UPDATE SET lost_at = excluded.lost_at, detail = excluded.detail, at = excluded.at
WHERE witnesses.at <= excluded.at
"""
_LOST: Final = "SELECT lost_at, detail FROM witnesses WHERE lost_at IS NOT NULL ORDER BY lost_at LIMIT 1"
_ORIGIN: Final = """
SELECT traceparent FROM journal WHERE stream = $1 AND type = $2 AND event @> jsonb_build_object('version', $3::int)
ORDER BY position LIMIT 1
"""


def _upsert(table: str, columns: tuple[str, ...], key: tuple[str, ...]) -> str:
    values = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
    into = f"{table} ({', '.join(columns)}) VALUES ({values})"
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in key)
    # Table and columns are this module's own words, never a caller's.
    return f"INSERT INTO {into} ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}"


_VERSION_COLUMNS: Final = tuple(Version.__dataclass_fields__)
_ENDPOINT_COLUMNS: Final = tuple(Endpoint.__dataclass_fields__)
_KEEP_VERSION: Final = _upsert("versions", _VERSION_COLUMNS, ("model", "version"))
_KEEP_ENDPOINT: Final = _upsert("endpoints", _ENDPOINT_COLUMNS, ("name",))


async def begin(unit: Unit) -> Connection:
    """Return the unit's connection, holding the registry's one lock until the unit ends.

    Decisions are few and short, so they are taken one after the other: none is ever made on a state that another
    is just changing, and the timeline's positions become visible in their order.
    """
    await unit.connection.execute(_LOCK)
    return unit.connection


async def models(connection: Connection, model: str | None = None) -> list[dict[str, Any]]:
    """Return every model, or the one named, with its newest version's number and how many it has."""
    return [dict(row) for row in await connection.fetch(_MODELS, model)]


async def origin(connection: Connection, model: str, version: int) -> str | None:
    """Return the trace context in which a version was registered, by its push."""
    found: str | None = await connection.fetchval(_ORIGIN, model, VersionRegistered.TYPE, version)
    return found


async def keep_model(connection: Connection, event: ModelCreated) -> None:
    """Keep a new model."""
    await connection.execute(_KEEP_MODEL, event.model, event.owner, event.created_by, event.at)


async def version(connection: Connection, model: str, number: int) -> Version | None:
    """Return a version, or None."""
    row = await connection.fetchrow(_VERSION, model, number)
    return None if row is None else _read(row, Version)


async def versions(connection: Connection, model: str) -> list[Version]:
    """Return a model's versions, oldest first."""
    return [_read(row, Version) for row in await connection.fetch(_VERSIONS, model)]


async def keep_version(connection: Connection, kept: Version) -> None:
    """Keep a version as it now stands."""
    await connection.execute(_KEEP_VERSION, *_write(kept, _VERSION_COLUMNS))


async def endpoint(connection: Connection, name: str) -> Endpoint | None:
    """Return an endpoint, or None."""
    row = await connection.fetchrow(_ENDPOINT, name)
    return None if row is None else _read(row, Endpoint)


async def endpoints(connection: Connection, model: str | None = None) -> list[Endpoint]:
    """Return every endpoint, or those of one model, by name."""
    return [_read(row, Endpoint) for row in await connection.fetch(_ENDPOINTS, model)]


async def keep_endpoint(connection: Connection, kept: Endpoint) -> None:
    """Keep an endpoint as it now stands."""
    await connection.execute(_KEEP_ENDPOINT, *_write(kept, _ENDPOINT_COLUMNS))


async def keep_witness(connection: Connection, event: WitnessLost | WitnessReturned) -> None:
    """Keep whether the audit log's witness is lost; older news changes nothing."""
    values = (event.at, event.detail) if isinstance(event, WitnessLost) else (None, "")
    await connection.execute(_KEEP_WITNESS, event.log, *values, event.at)


async def lost_witness(connection: Connection) -> LostWitness | None:
    """Return since when and why a witness of the audit log is lost, or None."""
    row = await connection.fetchrow(_LOST)
    return None if row is None else LostWitness(row["lost_at"], row["detail"])


def _read(row: Any, kind: type[T]) -> T:
    values = {name: msgspec.json.decode(value) if name in _JSON else value for name, value in row.items()}
    return msgspec.convert(values, kind)


def _write(kept: Version | Endpoint, columns: tuple[str, ...]) -> list[Any]:
    values = ((name, getattr(kept, name)) for name in columns)
    return [msgspec.json.encode(value).decode() if name in _JSON else value for name, value in values]
