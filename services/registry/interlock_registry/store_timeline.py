"""How the timeline is kept: every control event that the registry wrote or heard, in order; named SQL."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from interlock.postgres.pool import Connection, Pool
from interlock.schemas import Event

CHANNEL: Final = "interlock_registry_timeline"
_NOTE: Final = """
INSERT INTO timeline (event_id, type, model, endpoint, at, event) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (event_id) DO NOTHING
"""
_NEWS: Final = "SELECT pg_notify($1, '')"
_READ: Final = """
SELECT position, event_id, type, model, endpoint, at, event FROM timeline
WHERE position > $1 AND ($2::text IS NULL OR model = $2) AND ($3::text IS NULL OR endpoint = $3)
ORDER BY position LIMIT $4
"""
_NEWEST: Final = """
SELECT * FROM (
    SELECT position, event_id, type, model, endpoint, at, event FROM timeline
    WHERE ($1::text IS NULL OR model = $1) AND ($2::text IS NULL OR endpoint = $2)
    ORDER BY position DESC LIMIT $3) AS newest
ORDER BY position
"""
_END: Final = "SELECT coalesce(max(position), 0) FROM timeline"


@dataclass(frozen=True)
class Entry:
    """One line of the timeline."""

    position: int
    id: str
    type: str
    model: str | None
    endpoint: str | None
    at: datetime
    event: dict[str, Any]


async def note(connection: Connection, event_id: str, event: Event, model: str | None) -> None:
    """Add an event to the timeline, once; the caller holds the registry's lock (`store.begin`)."""
    kind = type(event).__name__
    await connection.execute(
        _NOTE,
        event_id,
        kind,
        model,
        getattr(event, "endpoint", None),
        event.at,  # type: ignore[attr-defined]  # every control event has it; the base class has no fields
        msgspec.json.encode(event).decode(),
    )
    await connection.execute(_NEWS, CHANNEL)


async def read(
    connection: Connection | Pool, after: int, model: str | None, endpoint: str | None, entries_max: int
) -> list[Entry]:
    """Return the entries behind position `after`, of all or of one model or endpoint, at most `entries_max`."""
    return _entries(await connection.fetch(_READ, after, model, endpoint, entries_max))


async def newest(
    connection: Connection | Pool, model: str | None, endpoint: str | None, entries_max: int
) -> list[Entry]:
    """Return the newest entries, oldest first, of all or of one model or endpoint, at most `entries_max`."""
    return _entries(await connection.fetch(_NEWEST, model, endpoint, entries_max))


async def end(connection: Connection | Pool) -> int:
    """Return the position of the newest entry, 0 where there is none."""
    return int(await connection.fetchval(_END))


def _entries(rows: Any) -> list[Entry]:
    return [
        Entry(
            row["position"], row["event_id"], row["type"], row["model"], row["endpoint"], row["at"],
            msgspec.json.decode(row["event"]),
        )
        for row in rows
    ]  # fmt: skip
