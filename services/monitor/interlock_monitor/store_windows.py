"""How windows are closed and kept: which are due, their verdicts, and the alarm of each version and arm."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from interlock.postgres.journal import Unit
from interlock.postgres.pool import Pool, borrowed
from interlock.schemas.events import WindowClosed
from interlock_monitor.drift_alarm import Alarm
from interlock_monitor.model import Place
from interlock_monitor.windows import WindowKey

_SAME: Final = (
    "endpoint = $1 AND start_milliseconds = $2 AND length_milliseconds = $3 AND model = $4 AND version = $5 "
    "AND digest = $6 AND arm = $7"
)
_COLUMNS: Final = "endpoint, start_milliseconds, length_milliseconds, model, version, digest, arm"
_WHOSE: Final = "endpoint = $1 AND model = $2 AND version = $3 AND digest = $4 AND arm = $5"


def _spelt(statement: str) -> str:
    """Return a statement with the columns of a window's key written out."""
    return statement.replace("{key}", _COLUMNS).replace("{same}", _SAME).replace("{whose}", _WHOSE)


_PROGRESS: Final = """
SELECT topic, partition, endpoint, event_time, seen_at FROM positions WHERE right(topic, 13) = '.observations'
"""
_DUE: Final = _spelt("""
SELECT {key} FROM windows
WHERE endpoint = $1 AND (revision = 0 OR changed) AND state IS NOT NULL
  AND start_milliseconds + length_milliseconds <= $2 AND (revision = 0 OR closed_at <= $3)
ORDER BY start_milliseconds, {key} LIMIT $4
""")
_LOCK: Final = _spelt(
    "SELECT state, revision FROM windows WHERE {same} AND (revision = 0 OR changed) FOR UPDATE SKIP LOCKED"
)
_CLOSE: Final = _spelt("""
UPDATE windows SET revision = $8, changed = false, closed_at = $9, closed = $10, verdict = $11 WHERE {same}
""")
_DROP: Final = _spelt("UPDATE windows SET state = NULL, changed = false WHERE {same}")
_ALARM: Final = _spelt("SELECT state FROM alarms WHERE {whose} FOR UPDATE")
_KEEP_ALARM: Final = """
INSERT INTO alarms (endpoint, model, version, digest, arm, state) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (endpoint, model, version, digest, arm) DO UPDATE SET state = excluded.state
"""


@dataclass(frozen=True)
class Due:
    """A window to be closed, or told again; with its sketches and the newest revision once it is locked."""

    endpoint: str
    start_milliseconds: int
    length_milliseconds: int
    model: str
    version: int
    digest: str
    arm: str
    state: bytes = b""
    revision: int = 0

    @property
    def key(self) -> WindowKey:
        """Whose window it is, and when it begins."""
        return WindowKey(self.endpoint, self.model, self.version, self.digest, self.arm, self.start_milliseconds)

    @property
    def row(self) -> tuple[Any, ...]:
        """Its primary key."""
        names = (self.model, self.version, self.digest, self.arm)
        return (self.endpoint, self.start_milliseconds, self.length_milliseconds, *names)

    @property
    def whose(self) -> tuple[Any, ...]:
        """Whose alarm it moves."""
        return (self.endpoint, self.model, self.version, self.digest, self.arm)


class WindowStore:
    """The windows on their way to being closed."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def progress(self) -> list[tuple[Place, str, int | None, int]]:
        """Return of each partition of observations: place, endpoint, newest event time, when it was last seen."""
        async with borrowed(self._pool) as connection:
            rows = await connection.fetch(_PROGRESS)
        return [
            (Place(row["topic"], row["partition"]), row["endpoint"], row["event_time"], row["seen_at"]) for row in rows
        ]

    async def due(self, endpoint: str, watermark: int, revisable: int, limit: int) -> list[Due]:
        """Return windows that end by the watermark, and closed ones that changed and were told before `revisable`."""
        async with borrowed(self._pool) as connection:
            return [Due(*row) for row in await connection.fetch(_DUE, endpoint, watermark, revisable, limit)]

    async def lock(self, unit: Unit, due: Due) -> Due | None:
        """Return the window as it stands, its row locked; None if another monitor has it, or has closed it."""
        row = await unit.connection.fetchrow(_LOCK, *due.row)
        return (
            None if row is None or row["state"] is None else replace(due, state=row["state"], revision=row["revision"])
        )

    async def close(self, unit: Unit, due: Due, told: WindowClosed, verdict: dict[str, Any], now: int) -> None:
        """Keep a window's newest revision."""
        await unit.connection.execute(_CLOSE, *due.row, told.revision, now, _json(told), _json(verdict))

    async def drop_sketches(self, unit: Unit, due: Due) -> None:
        """Keep of a window only its counts."""
        await unit.connection.execute(_DROP, *due.row)

    async def alarm(self, unit: Unit, due: Due) -> Alarm | None:
        """Return the alarm of a window's version and arm, its row locked."""
        state = await unit.connection.fetchval(_ALARM, *due.whose)
        return None if state is None else msgspec.json.decode(state, type=Alarm)

    async def keep_alarm(self, unit: Unit, due: Due, alarm: Alarm) -> None:
        """Keep the alarm."""
        await unit.connection.execute(_KEEP_ALARM, *due.whose, _json(alarm))


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
