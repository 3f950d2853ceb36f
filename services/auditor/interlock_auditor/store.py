"""How the log is kept: rows that are only added, read back as entries or, fast, as tiles; named SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from interlock.codec import rows
from interlock.errors import Poison
from interlock.kafka.chunks import Gap
from interlock.postgres.pool import Connection
from interlock.schemas.events import CheckpointSigned, WitnessLost, WitnessReturned
from interlock_auditor.checkpoint import BadNote, Checkpoint
from interlock_auditor.entry import Entry
from interlock_auditor.store_blocks import COLUMNS

_READ: Final = f"SELECT {', '.join(COLUMNS)} FROM entries"  # noqa: S608 - this module's own words
ENTRIES_MAX: Final = 10_000
"""The most entries that one question brings."""

_LEAD: Final = "SELECT pg_try_advisory_lock(hashtextextended(current_schema() || '/log', 0))"
_LEADS: Final = "SELECT true FROM pg_locks WHERE locktype = 'advisory' AND pid = $1 AND granted"
_END: Final = "SELECT coalesce(max(seq) + 1, 0) FROM entries"
_POSITIONS: Final = """
WITH RECURSIVE place AS (
    (SELECT topic, partition FROM entries ORDER BY topic, partition LIMIT 1)
    UNION ALL
    SELECT next.topic, next.partition FROM place, LATERAL (
        SELECT topic, partition FROM entries
        WHERE (entries.topic, entries.partition) > (place.topic, place.partition)
        ORDER BY topic, partition LIMIT 1) AS next)
SELECT topic, partition, (
    SELECT max(kafka_offset) + 1 FROM entries
    WHERE entries.topic = place.topic AND entries.partition = place.partition) AS next_offset
FROM place
"""
_ENDPOINTS: Final = "SELECT DISTINCT endpoint FROM entries WHERE action = 'EndpointCreated' AND endpoint IS NOT NULL"
_CHAINS: Final = """
SELECT DISTINCT ON (topic, partition) topic, partition, next_offset
FROM entries WHERE from_offset IS NOT NULL AND topic = $1 ORDER BY topic, partition, from_offset DESC
"""
_ABOUT: Final = f"""
{_READ} WHERE action = ANY($1) AND ($2::text IS NULL OR model = $2) AND ($3::integer IS NULL OR version = $3)
AND ($4::text IS NULL OR endpoint = $4) AND from_offset IS NULL ORDER BY seq LIMIT $5
"""
_BATCH: Final = f"""
{_READ} WHERE topic = $1 AND partition = $2 AND from_offset <= $3 AND next_offset > $3
ORDER BY from_offset DESC LIMIT 1
"""
_PAGE: Final = f"""
{_READ} WHERE seq >= $1 AND ($2::text IS NULL OR action = $2) AND ($3::text IS NULL OR model = $3)
AND ($4::text IS NULL OR endpoint = $4) ORDER BY seq LIMIT $5
"""
_PLACES: Final = "SELECT kafka_offset, seq FROM entries WHERE topic = $1 AND partition = $2 ORDER BY kafka_offset"
_KEEP_GAP: Final = """
INSERT INTO gaps (topic, partition, from_offset, next_offset, detail) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING RETURNING true
"""
_GAPS: Final = "SELECT topic, partition, from_offset, next_offset, detail FROM gaps ORDER BY noticed_at"
_SAID: Final = "SELECT value FROM journal WHERE type = ANY($1) ORDER BY position DESC LIMIT 1"
_SIGNED: Final = """
SELECT value FROM journal WHERE type = $1 AND ($2 OR event @> '{"witnessed": true}') ORDER BY position DESC LIMIT 1
"""


async def lead(connection: Connection) -> bool:
    """Become the only writer for as long as the connection lives; say whether that was possible."""
    return bool(await connection.fetchval(_LEAD))


async def leads(connection: Connection, server_pid: int) -> bool:
    """Say whether the connection of that process id, at the server, still makes its owner the writer."""
    return bool(await connection.fetchval(_LEADS, server_pid))


async def end(connection: Connection) -> int:
    """Return the number behind the newest entry."""
    return int(await connection.fetchval(_END))


async def append(connection: Connection, entries: Sequence[Entry]) -> None:
    """Add entries, in the caller's transaction."""
    await connection.copy_records_to_table(
        "entries", columns=COLUMNS, records=[tuple(getattr(each, name) for name in _FIELDS) for each in entries]
    )


_FIELDS: Final = Entry.__struct_fields__


async def positions(connection: Connection) -> dict[tuple[str, int], int]:
    """Return, for each (topic, partition), the offset behind the last record that was entered."""
    return {(topic, number): offset for topic, number, offset in await connection.fetch(_POSITIONS)}


async def endpoints(connection: Connection) -> list[str]:
    """Return the endpoints that the log has heard of."""
    return [row[0] for row in await connection.fetch(_ENDPOINTS)]


async def chains(connection: Connection, topic: str) -> dict[tuple[str, int], int]:
    """Return where the next batch of each partition of a topic of batches must begin, in offsets of the requests."""
    return {(name, number): offset for name, number, offset in await connection.fetch(_CHAINS, topic)}


async def entries_about(
    connection: Connection,
    *,
    actions: Sequence[str],
    model: str | None = None,
    version: int | None = None,
    endpoint: str | None = None,
) -> list[Entry]:
    """Return the entries of these actions about a model, version or endpoint, batches excepted, oldest first."""
    found = await connection.fetch(_ABOUT, list(actions), model, version, endpoint, ENTRIES_MAX)
    return [Entry(*row) for row in found]


async def batch_of(connection: Connection, topic: str, partition: int, offset: int) -> Entry | None:
    """Return the entry of the batch that answered the request at these coordinates, `topic` being that of requests."""
    row = await connection.fetchrow(_BATCH, topic.removesuffix(".requests") + ".batches", partition, offset)
    return None if row is None else Entry(*row)


async def entry(connection: Connection, seq: int) -> Entry | None:
    """Return one entry, or None."""
    found = await page(connection, seq, 1)
    return found[0] if found and found[0].seq == seq else None


async def page(
    connection: Connection,
    first: int,
    rows_max: int,
    *,
    action: str | None = None,
    model: str | None = None,
    endpoint: str | None = None,
) -> list[Entry]:
    """Return entries from number `first` on, of one action, model or endpoint where asked, at most `rows_max`."""
    return [Entry(*row) for row in await connection.fetch(_PAGE, first, action, model, endpoint, rows_max)]


async def places(connection: Connection, topic: str, partition: int) -> list[tuple[int, int]]:
    """Return (offset, number) of every entry from a partition, in the order of offsets."""
    return [(row[0], row[1]) for row in await connection.fetch(_PLACES, topic, partition)]


async def keep_gap(connection: Connection, gap: Gap) -> bool:
    """Keep a gap; say whether it was not known."""
    return bool(
        await connection.fetchval(
            _KEEP_GAP, gap.topic, gap.partition, gap.from_offset, gap.next_offset, gap.detail
        )
    )  # fmt: skip


async def gaps(connection: Connection) -> list[Gap]:
    """Return every gap that was ever noticed."""
    return [Gap(*row) for row in await connection.fetch(_GAPS)]


async def last_said(connection: Connection) -> bytes | None:
    """Return the newest of WitnessLost and WitnessReturned as published, or None."""
    value: bytes | None = await connection.fetchval(_SAID, [WitnessLost.TYPE, WitnessReturned.TYPE])
    return value


async def newest_checkpoint(connection: Connection, *, witnessed: bool) -> bytes | None:
    """Return the newest CheckpointSigned as published, of all or of the co-signed ones, or None."""
    value: bytes | None = await connection.fetchval(_SIGNED, CheckpointSigned.TYPE, not witnessed)
    return value


async def newest_head(connection: Connection) -> Checkpoint | None:
    """Return the newest head in the journal, co-signed or not; None where there is none, or it is no checkpoint."""
    value = await newest_checkpoint(connection, witnessed=False)
    try:
        return None if value is None else Checkpoint.parse(rows.decode(value).note)
    except (Poison, BadNote):
        return None
