"""What is read for people: windows, alarms, coverage; nothing here is locked or changed."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from interlock.clock import milliseconds
from interlock.postgres.pool import Pool, borrowed

_KNOWN: Final = """
SELECT EXISTS (SELECT FROM endpoints WHERE endpoint = $1) OR EXISTS (SELECT FROM coverage WHERE endpoint = $1)
"""
_WINDOWS: Final = """
SELECT * FROM (
    SELECT endpoint, start_milliseconds, length_milliseconds, model, version, digest, arm,
        revision, closed, CASE WHEN revision = 0 THEN state END AS state, state IS NULL AS pruned, rows, rejected,
        late_rows FROM windows
    WHERE endpoint = $1 AND ($2::int IS NULL OR version = $2) AND ($3::text IS NULL OR arm = $3)
      AND ($4::bigint IS NULL OR start_milliseconds >= $4) AND ($5::bigint IS NULL OR start_milliseconds < $5)
    ORDER BY start_milliseconds DESC, version DESC, arm LIMIT $6) AS newest
ORDER BY start_milliseconds, version, arm
"""
_SKETCHES: Final = """
SELECT endpoint, start_milliseconds, length_milliseconds, model, version, digest, arm, state FROM windows
WHERE endpoint = $1 AND start_milliseconds = $2 AND ($3::int IS NULL OR version = $3) AND ($4::text IS NULL OR arm = $4)
  AND state IS NOT NULL AND version > 0
ORDER BY version, arm
"""
_LATEST: Final = """
SELECT DISTINCT ON (windows.model, windows.version, windows.digest, windows.arm)
    windows.model, windows.version, windows.digest, windows.arm, start_milliseconds, length_milliseconds, verdict,
    windows.state, alarms.state AS alarm
FROM windows LEFT JOIN alarms USING (endpoint, model, version, digest, arm)
WHERE endpoint = $1 AND windows.version > 0 AND revision > 0 AND verdict IS NOT NULL
  AND start_milliseconds >= (SELECT max(start_milliseconds) FROM windows WHERE endpoint = $1) - $2
ORDER BY windows.model, windows.version, windows.digest, windows.arm, start_milliseconds DESC
"""
_COVERAGE: Final = """
SELECT topic, partition, first_offset, next_offset, rows FROM coverage WHERE endpoint = $1 ORDER BY topic, partition
"""
_GAPS: Final = """
SELECT topic, partition, gaps.from_offset, gaps.next_offset, kind, found_at FROM gaps
JOIN coverage USING (topic, partition) WHERE endpoint = $1 ORDER BY topic, partition, gaps.from_offset LIMIT $2
"""
_POSITIONS: Final = "SELECT topic, partition, next_offset FROM positions WHERE endpoint = $1 ORDER BY topic, partition"


class ViewStore:
    """The monitor's tables, for reading."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def knows(self, endpoint: str) -> bool:
        """Say whether an endpoint is, or was, watched."""
        async with borrowed(self._pool) as connection:
            return bool(await connection.fetchval(_KNOWN, endpoint))

    async def windows(
        self,
        endpoint: str,
        version: int | None,
        arm: str | None,
        since: datetime | None,
        until: datetime | None,
        limit: int,
    ) -> list[Any]:
        """Return the newest windows, oldest first; the sketches only of open ones."""
        bounds = [None if each is None else milliseconds(each) for each in (since, until)]
        async with borrowed(self._pool) as connection:
            return list(await connection.fetch(_WINDOWS, endpoint, version, arm, *bounds, limit))

    async def sketches(self, endpoint: str, start: int, version: int | None, arm: str | None) -> list[Any]:
        """Return the windows that begin at a moment, with their sketches."""
        async with borrowed(self._pool) as connection:
            return list(await connection.fetch(_SKETCHES, endpoint, start, version, arm))

    async def latest(self, endpoint: str, span_milliseconds: int) -> list[Any]:
        """Return the newest closed window of each version and arm that answered within a span of the newest window."""
        async with borrowed(self._pool) as connection:
            return list(await connection.fetch(_LATEST, endpoint, span_milliseconds))

    async def coverage(self, endpoint: str, gaps_max: int) -> tuple[list[Any], list[Any], list[Any]]:
        """Return what is covered, what is not, and the positions."""
        async with borrowed(self._pool) as connection, connection.transaction(isolation="repeatable_read"):
            return (
                list(await connection.fetch(_COVERAGE, endpoint)),
                list(await connection.fetch(_GAPS, endpoint, gaps_max)),
                list(await connection.fetch(_POSITIONS, endpoint)),
            )
