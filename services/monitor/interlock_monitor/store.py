"""How the monitor keeps what it counted: positions, coverage and windows move together, a chunk in a transaction."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from interlock.postgres.journal import Unit
from interlock.postgres.pool import Pool, borrowed
from interlock.schemas.events import BuildSucceeded
from interlock_monitor.errors import Stale
from interlock_monitor.model import Fit, Place, endpoint_of
from interlock_monitor.quality_scores import Block
from interlock_monitor.windows import WindowKey, WindowState

log = structlog.get_logger("interlock.monitor")

_KEY: Final = "endpoint, start_milliseconds, length_milliseconds, model, version, digest, arm"
_SAME: Final = (
    "windows.endpoint = $1 AND start_milliseconds = $2 AND length_milliseconds = $3 AND model = $4 AND version = $5 "
    "AND digest = $6 AND arm = $7"
)
_KEYS: Final = "unnest($1::text[], $2::bigint[], $3::int[], $4::text[], $5::int[], $6::text[], $7::text[])"


def _spelt(statement: str) -> str:
    """Return a statement with the columns of a window's key written out."""
    return statement.replace("{key}", _KEY).replace("{keys}", _KEYS).replace("{same}", _SAME)


_KEEP_ENDPOINT: Final = "INSERT INTO endpoints (endpoint) VALUES ($1) ON CONFLICT DO NOTHING"
_ENDPOINTS: Final = "SELECT endpoint FROM endpoints ORDER BY endpoint"
_KEEP_PROFILE: Final = """
INSERT INTO profiles (model, version, digest, attempt, profile_digest) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (model, version) DO UPDATE
SET digest = excluded.digest, attempt = excluded.attempt, profile_digest = excluded.profile_digest
WHERE profiles.attempt < excluded.attempt
"""
_PROFILE: Final = "SELECT profile_digest FROM profiles WHERE model = $1 AND version = $2"
_BEGIN: Final = """
INSERT INTO positions AS kept (topic, partition, endpoint, seen_at)
SELECT topic, partition, endpoint, $4
FROM unnest($1::text[], $2::int[], $3::text[]) AS given (topic, partition, endpoint)
ON CONFLICT (topic, partition) DO UPDATE SET seen_at = greatest(kept.seen_at, excluded.seen_at)
RETURNING topic, partition, next_offset
"""
_COVERED: Final = "SELECT topic, partition, next_offset FROM coverage WHERE endpoint = ANY($1::text[])"
_LOCK_POSITIONS: Final = """
SELECT topic, partition, next_offset FROM positions
WHERE (topic, partition) IN (SELECT * FROM unnest($1::text[], $2::int[])) ORDER BY topic, partition FOR UPDATE
"""
_MOVE: Final = """
UPDATE positions SET next_offset = moved.next_offset, seen_at = $5,
    event_time = greatest(positions.event_time, moved.event_time)
FROM unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[]) AS moved (topic, partition, next_offset, event_time)
WHERE positions.topic = moved.topic AND positions.partition = moved.partition
"""
_COVER: Final = """
INSERT INTO coverage AS kept (topic, partition, endpoint, first_offset, next_offset, rows)
SELECT * FROM unnest($1::text[], $2::int[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[])
ON CONFLICT (topic, partition) DO UPDATE
SET next_offset = excluded.next_offset, rows = kept.rows + excluded.rows
"""
_GAP: Final = """
INSERT INTO gaps (topic, partition, from_offset, next_offset, kind) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING
"""
_OPEN: Final = _spelt("INSERT INTO windows ({key}) SELECT * FROM {keys} ON CONFLICT DO NOTHING")
_LOCK_WINDOWS: Final = _spelt("""
SELECT {key}, state, rows, rejected, late_rows, revision FROM windows
WHERE ({key}) IN (SELECT * FROM {keys}) ORDER BY {key} FOR UPDATE
""")
_WRITE: Final = _spelt("""
UPDATE windows SET state = $8, rows = $9, rejected = $10, late_rows = $11, changed = true WHERE {same}
""")
_COUNT: Final = _spelt("""
UPDATE windows SET rows = rows + $8, rejected = rejected + $9, late_rows = late_rows + $10 WHERE {same}
""")
_WAITING: Final = """
UPDATE positions SET seen_at = $3 WHERE (topic, partition) IN (SELECT * FROM unnest($1::text[], $2::int[]))
"""
_PRUNE_SKETCHES: Final = """
UPDATE windows SET state = NULL WHERE state IS NOT NULL AND start_milliseconds < $1 AND revision > 0 AND NOT changed
"""
_PRUNE_WINDOWS: Final = "DELETE FROM windows WHERE start_milliseconds < $1 AND revision > 0"


@dataclass
class Step:
    """How far one partition was read since the last transaction."""

    assumed: int
    next_offset: int
    event_time: int | None = None


@dataclass
class Covered:
    """What one partition of requests is covered by since the last transaction."""

    endpoint: str
    first_offset: int
    next_offset: int
    rows: int = 0


@dataclass(frozen=True)
class Gap:
    """Requests that cannot be told of."""

    place: Place
    from_offset: int
    next_offset: int
    kind: Fit


@dataclass
class Chunk:
    """What was taken in and is not in Postgres yet."""

    steps: dict[Place, Step] = field(default_factory=dict)
    covered: dict[Place, Covered] = field(default_factory=dict)
    gaps: list[Gap] = field(default_factory=list)
    states: dict[WindowKey, WindowState] = field(default_factory=dict)
    scored: list[Block] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    rows: int = 0


WRITTEN_MAX: Final = 32
"""So many windows are kept as objects; one of thirty features takes half a megabyte."""


class Store:
    """The monitor's tables but those of quality. Whoever writes a window holds its row's lock."""

    def __init__(self, pool: Pool, window_milliseconds: int) -> None:
        self._pool = pool
        self._length = window_milliseconds
        self._written = _Written()

    async def keep_endpoint(self, unit: Unit, endpoint: str) -> None:
        """Remember that an endpoint's topics exist."""
        await unit.connection.execute(_KEEP_ENDPOINT, endpoint)

    async def endpoints(self) -> list[str]:
        """Return the endpoints to watch."""
        async with borrowed(self._pool) as connection:
            return [row["endpoint"] for row in await connection.fetch(_ENDPOINTS)]

    async def keep_profile(self, unit: Unit, event: BuildSucceeded) -> None:
        """Remember a version's reference profile; the newest attempt's stands."""
        await unit.connection.execute(
            _KEEP_PROFILE, event.model, event.version, event.digest, event.attempt, event.profile_digest
        )

    async def profile(self, model: str, version: int) -> str | None:
        """Return the digest of a version's reference profile."""
        async with borrowed(self._pool) as connection:
            digest: str | None = await connection.fetchval(_PROFILE, model, version)
        return digest

    async def begin(self, places: Collection[Place], now: int) -> tuple[dict[Place, int], dict[Place, int]]:
        """Return the next offset of each place, and of each partition of requests that their endpoints have covered.

        They count as seen `now`, so that no window closes before what waits in them was looked at.
        """
        ordered = sorted(places)
        endpoints = [endpoint_of(place.topic) for place in ordered]
        async with borrowed(self._pool) as connection, connection.transaction():
            positions = await connection.fetch(_BEGIN, *_places(ordered), endpoints, now)
            covered = await connection.fetch(_COVERED, sorted(set(endpoints)))
        return _offsets(positions), _offsets(covered)

    async def apply(self, unit: Unit, chunk: Chunk, now: int) -> None:
        """Bring positions, coverage and windows to where the chunk is. Raises Stale if it stands on other positions."""
        connection, steps = unit.connection, sorted(chunk.steps.items())
        places = [place for place, _ in steps]
        held = _offsets(await connection.fetch(_LOCK_POSITIONS, *_places(places)))
        for place, step in steps:
            if held.get(place) != step.assumed:
                raise Stale(f"{place.topic}/{place.partition} is at {held.get(place)}, not at {step.assumed}.")
        await self._merge(connection, chunk.states)
        if chunk.covered:
            covers = sorted(chunk.covered.items())
            await connection.execute(
                _COVER,
                *_places([place for place, _ in covers]),
                [each.endpoint for _, each in covers],
                [each.first_offset for _, each in covers],
                [each.next_offset for _, each in covers],
                [each.rows for _, each in covers],
            )
        for gap in chunk.gaps:
            await connection.execute(_GAP, *gap.place, gap.from_offset, gap.next_offset, str(gap.kind))
        await connection.execute(
            _MOVE,
            *_places(places),
            [step.next_offset for _, step in steps],
            [step.event_time for _, step in steps],
            now,
        )

    async def _merge(self, connection: Any, states: dict[WindowKey, WindowState]) -> None:
        """Add what was folded to the windows, each under its row's lock."""
        if not states:
            return
        keyed = sorted((self._columns(key), state) for key, state in states.items())
        columns = [list(column) for column in zip(*(key for key, _ in keyed), strict=True)]
        await connection.execute(_OPEN, *columns)
        rows = {tuple(row[:7]): row for row in map(tuple, await connection.fetch(_LOCK_WINDOWS, *columns))}
        written, counted = [], []
        for key, state in keyed:
            sketches, *counts, revision = rows[key][7:]
            state.late_rows = state.rows if revision else 0
            whole = state if sketches is None and not any(counts) else self._merged(key, sketches, state)
            if whole is None:
                counted.append((*key, state.rows, state.rejected, state.late_rows))
            else:
                written.append((*key, self._written.keep(key, whole), whole.rows, whole.rejected, whole.late_rows))
        await connection.executemany(_WRITE, written)
        if counted:
            await connection.executemany(_COUNT, counted)

    def _merged(self, key: tuple[Any, ...], sketches: bytes | None, state: WindowState) -> WindowState | None:
        """Return a window with a state added; None where its sketches are not kept any more, or cannot be added to."""
        if sketches is None:
            return None
        try:
            whole = self._written.take(key, sketches) or WindowState.from_bytes(sketches)
            whole.merge(state)
        except ValueError as error:  # nothing mends it, and the counts at least are certain
            log.error("window.sketches_unusable", detail=str(error), window=key)
            return None
        return whole

    def _columns(self, key: WindowKey) -> tuple[Any, ...]:
        return (key.endpoint, key.start_milliseconds, self._length, key.model, key.version, key.digest, key.arm)

    async def keep_waiting(self, places: Iterable[Place], now: int) -> None:
        """Note that there is something to read in these places, so that windows wait for it."""
        ordered = sorted(places)
        if ordered:
            async with borrowed(self._pool) as connection:
                await connection.execute(_WAITING, *_places(ordered), now)

    async def prune(self, sketches_before: int, windows_before: int) -> None:
        """Drop the sketches, and the windows, that begin before these moments (milliseconds)."""
        async with borrowed(self._pool) as connection:
            await connection.execute(_PRUNE_SKETCHES, sketches_before)
            await connection.execute(_PRUNE_WINDOWS, windows_before)


class _Written:
    """The windows that were written last, as objects: a window that grows need not be read from its bytes each second.

    An object is used only while Postgres holds the very bytes that were made of it: whatever a transaction came to.
    """

    def __init__(self) -> None:
        self._windows: OrderedDict[tuple[Any, ...], tuple[bytes, WindowState]] = OrderedDict()

    def keep(self, key: tuple[Any, ...], window: WindowState) -> bytes:
        """Return the bytes of a window that is about to be written."""
        written = window.to_bytes()
        self._windows[key] = written, window
        while len(self._windows) > WRITTEN_MAX:
            self._windows.popitem(last=False)
        return written

    def take(self, key: tuple[Any, ...], held: bytes) -> WindowState | None:
        """Return the window that these bytes were made of, to be changed; None where it is not at hand."""
        written, window = self._windows.pop(key, (None, None))
        return window if written == held else None


def _places(places: Sequence[Place]) -> tuple[list[str], list[int]]:
    return [place.topic for place in places], [place.partition for place in places]


def _offsets(rows: Iterable[Any]) -> dict[Place, int]:
    return {Place(row["topic"], row["partition"]): row["next_offset"] for row in rows}
