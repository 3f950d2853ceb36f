"""How the log is read back fast: whole stretches of rows, joined by the database into a few values; named SQL.

Little is imported here: who hashes in a process of its own (`verify_worker`) is to be there at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from interlock_auditor.tiles import NUMBERS, TILE_ENTRIES, Tile
from interlock_auditor.tiles_block import BLOCK_ENTRIES, Block

if TYPE_CHECKING:
    from interlock.postgres.pool import Connection

SPAN_ENTRIES: Final = 8 * BLOCK_ENTRIES
"""How many rows are asked for at once: while they are hashed, the next ones are on their way."""
COLUMNS: Final = (
    "seq", "topic", "partition", "kafka_offset", "event_id", "action", "source", "actor", "subject",
    "time_milliseconds", "schema_digest", "payload",
)  # fmt: skip
_SHORT: Final = {"partition"}
"""Numbers of four bytes; the others have eight."""

SETUP: Final = "SET statement_timeout = 0; SET jit = off"
"""For a connection that reads the whole log."""

_ENDS: Final = "SELECT coalesce(min(seq), 0), coalesce(max(seq) + 1, 0) FROM entries"
_NEXT: Final = "SELECT min(seq) FROM entries WHERE seq >= $1"
_FORGED: Final = """
SELECT seq FROM entries WHERE seq >= $1 AND seq < $2 AND (
model IS DISTINCT FROM nullif(split_part(subject, '/', 1), '')
OR version::text IS DISTINCT FROM nullif(split_part(subject, '/', 2), '')
OR endpoint IS DISTINCT FROM nullif(split_part(subject, '/', 3), '')
OR from_offset::text IS DISTINCT FROM nullif(split_part(subject, '/', 4), '')
OR next_offset::text IS DISTINCT FROM nullif(split_part(subject, '/', 5), '')) ORDER BY seq LIMIT 1000
"""
# The same, said so that it costs little: whatever this lets through, the question above lets through too. It puts the
# subject together again, which no other columns can yield where a slash stands in none of them.
_DOUBTFUL: Final = """
(CASE WHEN from_offset IS NULL THEN next_offset IS NULL
    AND (model = '' OR endpoint = '' OR strpos(model, '/') > 0 OR strpos(endpoint, '/') > 0) IS NOT TRUE
    AND coalesce(model, '') || '/' || coalesce(version::text, '') || '/' || coalesce(endpoint, '') = subject
ELSE model IS NULL AND version IS NULL AND endpoint <> '' AND strpos(endpoint, '/') = 0
    AND '//' || endpoint || '/' || from_offset || '/' || next_offset = subject END) IS NOT TRUE
"""


def _sent(name: str) -> str:
    """Return the SQL by which one column of a block is sent as one value, in the order of the rows."""
    if name == "payload":
        return "string_agg(int4send(octet_length(payload)), ''::bytea), string_agg(payload, ''::bytea)"
    if COLUMNS.index(name) in NUMBERS:
        return f"string_agg({'int4send' if name in _SHORT else 'int8send'}({name}), ''::bytea)"
    return f"convert_to(string_agg({name}, E'\\x1f'), 'UTF8')"


# One row a block: made by the server from the primary key's order, without a sort and without a line for each row.
_BLOCKS: Final = f"""
SELECT span.first, block.* FROM generate_series($1::bigint, $2::bigint - 1, {BLOCK_ENTRIES}) AS span(first),
LATERAL (SELECT count(*) AS found, count(*) FILTER (WHERE {_DOUBTFUL}), {", ".join(map(_sent, COLUMNS))} FROM (
    SELECT * FROM entries WHERE seq >= span.first AND seq < least(span.first + {BLOCK_ENTRIES}, $2::bigint) ORDER BY seq
) AS line) AS block WHERE found > 0 ORDER BY span.first
"""  # noqa: S608 - this module's own words
_ROWS: Final = f"SELECT {', '.join(COLUMNS)} FROM entries WHERE seq >= $1 AND seq < $2 ORDER BY seq"  # noqa: S608 - as above


class Span(NamedTuple):
    """The tiles of a stretch of rows, and whether a column that is cut out of a subject may say something else."""

    tiles: list[Tile]
    doubtful: bool


async def bounds(connection: Connection) -> tuple[int, int]:
    """Return the smallest number that a row bears, and the number behind the largest; 0 and 0 where there is none."""
    least, behind = await connection.fetchrow(_ENDS)
    return int(least), int(behind)


async def next_number(connection: Connection, first: int) -> int | None:
    """Return the smallest number from `first` on that a row bears, or None."""
    found: int | None = await connection.fetchval(_NEXT, first)
    return found


async def span(connection: Connection, first: int, behind: int) -> Span:
    """Return the rows between two numbers, `first` a multiple of a tile's length; not yet hashed."""
    found: list[Tile] = []
    doubtful = False
    for at, _, doubts, *sent in await connection.fetch(_BLOCKS, first, behind, timeout=None):
        doubtful = doubtful or bool(doubts)
        block = None if any(each is None for each in sent) else Block.of(sent)
        found += await _slowly(connection, at, min(at + BLOCK_ENTRIES, behind)) if block is None else block.tiles()
    return Span(found, doubtful)


async def tiles(connection: Connection, first: int, behind: int) -> AsyncIterator[Tile]:
    """Yield the tiles with rows between two numbers (`first` is rounded down), in order."""
    at: int | None = first
    while at is not None and at < behind:
        start = at // TILE_ENTRIES * TILE_ENTRIES
        for tile in (await span(connection, start, min(start + SPAN_ENTRIES, behind))).tiles:
            yield tile
        at = await next_number(connection, start + SPAN_ENTRIES)


async def forged_columns(connection: Connection, first: int, behind: int) -> list[int]:
    """Return the numbers of rows whose cut-out columns say something else than their subject; at most 1,000."""
    return [row[0] for row in await connection.fetch(_FORGED, first, behind, timeout=None)]


async def _slowly(connection: Connection, first: int, behind: int) -> list[Tile]:
    """Return tiles of rows that were fetched one by one: one of them has no value somewhere, or one too many."""
    rows: dict[int, list[Any]] = {}
    for row in await connection.fetch(_ROWS, first, behind, timeout=None):
        rows.setdefault(row[0] // TILE_ENTRIES * TILE_ENTRIES, []).append(row)
    return [Tile.of_rows(at, found) for at, found in rows.items()]
