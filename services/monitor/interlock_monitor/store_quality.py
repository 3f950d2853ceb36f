"""How scores, labels and figures are kept: a statement for a whole chunk, never one for each row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from interlock.postgres.pool import Connection
from interlock_monitor.quality_figures import Figures, Labelled
from interlock_monitor.quality_labels import Change, Key, Truth
from interlock_monitor.quality_scores import Block, Row, pane_of

_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || '/quality/' || $1, 0))"
_ALONE: Final = "SELECT pg_try_advisory_xact_lock(hashtextextended(current_schema() || '/measure', 0))"

_KEEP_BLOCKS: Final = """
WITH kept AS (
    INSERT INTO quality_scores
    SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[], $5::text[], $6::int[], $7::bigint[],
        $8::text[], $9::text[], $10::int[], $11::text[], $12::bigint[], $13::bytea[], $14::bytea[], $15::bytea[],
        $16::bytea[], $17::bytea[])
    ON CONFLICT DO NOTHING RETURNING endpoint, pane)
INSERT INTO quality_marks (endpoint, pane) SELECT DISTINCT endpoint, pane FROM kept
"""
_KNOWN: Final = """
SELECT endpoint, requested_at, request_id, at, partition, record, label, weight, source
FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bytea[]) AS asked (endpoint, pane, requested_at, request_id)
JOIN quality_labels USING (endpoint, pane, requested_at, request_id)
"""
_KEEP_LABELS: Final = """
INSERT INTO quality_labels
    (endpoint, pane, requested_at, request_id, label, weight, source, at, partition, record)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bytea[], $5::float8[], $6::float8[], $7::text[],
    $8::bigint[], $9::int[], $10::bigint[])
ON CONFLICT (endpoint, pane, requested_at, request_id) DO UPDATE
SET label = excluded.label, weight = excluded.weight, source = excluded.source, at = excluded.at,
    partition = excluded.partition, record = excluded.record
"""
_MARK: Final = "INSERT INTO quality_marks (endpoint, pane) SELECT * FROM unnest($1::text[], $2::bigint[])"
_COUNT: Final = """
INSERT INTO quality_counts AS kept (endpoint, what, count) SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])
ON CONFLICT (endpoint, what) DO UPDATE SET count = kept.count + excluded.count
"""

# Marks that are taken away here were committed, and so was what they stand for: the same statement sees it. What is
# not committed yet brings its own mark later. Two LIMITs look for one label of each window; an EXISTS was planned as
# a join of all scores with all labels, and took 40 s where this takes milliseconds.
_TAKE_MARKS: Final = """
WITH taken AS (DELETE FROM quality_marks RETURNING endpoint, pane),
touched AS (
    SELECT DISTINCT s.endpoint, s.window_milliseconds, s.window_start
    FROM (SELECT DISTINCT endpoint, pane FROM taken) AS mark JOIN quality_scores AS s USING (endpoint, pane))
INSERT INTO quality_due
SELECT t.*, greatest($1, $2 + coalesce((
    SELECT max(measured_at) FROM quality_windows AS w WHERE w.endpoint = t.endpoint
        AND w.window_milliseconds = t.window_milliseconds AND w.window_start = t.window_start), 0))
FROM touched AS t CROSS JOIN LATERAL (
    SELECT FROM (
        SELECT DISTINCT s.pane FROM quality_scores AS s WHERE s.endpoint = t.endpoint
            AND s.window_milliseconds = t.window_milliseconds AND s.window_start = t.window_start) AS filed
    CROSS JOIN LATERAL (
        SELECT FROM quality_labels AS l WHERE l.endpoint = t.endpoint AND l.pane = filed.pane LIMIT 1) AS label
    LIMIT 1) AS labelled
ON CONFLICT DO NOTHING
"""
_TAKE_DUE: Final = """
DELETE FROM quality_due WHERE (endpoint, window_milliseconds, window_start) IN (
    SELECT endpoint, window_milliseconds, window_start FROM quality_due WHERE due_at <= $1
    ORDER BY due_at, endpoint, window_start LIMIT $2)
RETURNING endpoint, window_milliseconds, window_start
"""
_BLOCKS: Final = """
SELECT * FROM quality_scores WHERE endpoint = $1 AND window_milliseconds = $2 AND window_start = $3
ORDER BY topic, partition, from_offset, pane
"""
_LABELS: Final = """
SELECT requested_at, request_id, label, weight, at, joined FROM quality_labels
WHERE endpoint = $1 AND pane = ANY($2::bigint[])
"""
_JOINED: Final = """
UPDATE quality_labels AS l SET joined = true
FROM unnest($2::bigint[], $3::bigint[], $4::bytea[]) AS found (pane, requested_at, request_id)
WHERE l.endpoint = $1 AND l.pane = ANY($5::bigint[]) AND l.pane = found.pane AND l.requested_at = found.requested_at
    AND l.request_id = found.request_id
"""
_MEASURED: Final = """
SELECT arm, model, version, digest, revision, figures FROM quality_windows
WHERE endpoint = $1 AND window_milliseconds = $2 AND window_start = $3
"""
_KEEP_FIGURES: Final = """
INSERT INTO quality_windows (endpoint, window_milliseconds, window_start, arm, model, version, digest, revision,
    figures, labelled, measured_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (endpoint, window_milliseconds, window_start, arm, model, version, digest) DO UPDATE
SET revision = excluded.revision, figures = excluded.figures, labelled = excluded.labelled,
    measured_at = excluded.measured_at
"""
_VIEW: Final = """
WITH asked AS (
    SELECT *, dense_rank() OVER (ORDER BY window_start DESC) AS place FROM quality_windows
    WHERE endpoint = $1 AND ($2::int IS NULL OR version = $2) AND ($3::text IS NULL OR arm = $3)
        AND ($4::bigint IS NULL OR window_start >= $4) AND ($5::bigint IS NULL OR window_start < $5))
SELECT window_milliseconds, window_start, arm, model, version, digest, revision, figures, labelled, measured_at
FROM asked WHERE place <= $6 ORDER BY model, version, arm, digest, window_start
"""
_WAITING: Final = "SELECT count(*) FROM quality_labels WHERE endpoint = $1 AND NOT joined"
_COUNTS: Final = "SELECT what, count FROM quality_counts WHERE endpoint = $1 ORDER BY what"

# A window's scores go as a whole. A label of a window that stays is never older than the window's first moment, by
# the request's time or, where the sender's clock was ahead, by its own.
_PRUNE: Final = (
    "DELETE FROM quality_scores WHERE window_start + window_milliseconds <= $1",
    "UPDATE quality_windows SET labelled = NULL WHERE window_start + window_milliseconds <= $1",
    "DELETE FROM quality_due WHERE window_start + window_milliseconds <= $1",
)
_EXPIRE: Final = """
WITH gone AS (
    DELETE FROM quality_labels WHERE least(requested_at, at) < $1 AND (joined OR least(requested_at, at) < $2)
    RETURNING endpoint, joined)
SELECT endpoint, count(*) FILTER (WHERE NOT joined) AS expired, count(*) AS labels FROM gone GROUP BY endpoint
"""


class Window(NamedTuple):
    """A window of event time of one endpoint, in milliseconds since 1970."""

    endpoint: str
    window_milliseconds: int
    window_start: int


class Version(NamedTuple):
    """Who answered."""

    arm: str
    model: str
    version: int
    digest: str


class Waiting(NamedTuple):
    """The labels of some panes by (requested_at, request id), and which of them found a request before."""

    labels: dict[tuple[int, bytes], Row]
    joined: set[tuple[int, bytes]]


async def keep_blocks(connection: Connection, blocks: Collection[Block]) -> None:
    """Keep blocks and mark their panes; what is kept already stays as it is and marks nothing."""
    if blocks:
        await connection.execute(_KEEP_BLOCKS, *_columns(blocks))


async def lock_labels(connection: Connection, endpoints: Collection[str]) -> None:
    """Have the labels of these endpoints to oneself until the transaction ends."""
    for endpoint in sorted(endpoints):
        await connection.execute(_LOCK, endpoint)


async def known(connection: Connection, keys: Collection[Key]) -> dict[Key, Truth]:
    """Return what is known about requests."""
    asked = [(key.endpoint, pane_of(key.requested_at), key.requested_at, key.request_id) for key in sorted(keys)]
    found = await connection.fetch(_KNOWN, *_columns(asked))
    return {Key(*row[:3]): Truth(*row[3:]) for row in map(tuple, found)}


async def keep_labels(connection: Connection, change: Change) -> None:
    """Write truths in place of earlier ones, mark the panes of those that are another now, and count."""
    if change.truths:
        rows = [
            (key.endpoint, pane_of(key.requested_at), key.requested_at, key.request_id, truth.label, truth.weight,
             truth.source.replace("\0", ""), truth.at, truth.partition, truth.record)
            for key, truth in sorted(change.truths.items())
        ]  # fmt: skip
        await connection.execute(_KEEP_LABELS, *_columns(rows))
    if change.changed:
        marks = sorted({(key.endpoint, pane_of(key.requested_at)) for key in change.changed})
        await connection.execute(_MARK, *_columns(marks))
    await count(connection, change.counts)


async def count(connection: Connection, counts: Counter[tuple[str, str]]) -> None:
    """Add to what became of labels, by (endpoint, what)."""
    if counts:
        await connection.execute(_COUNT, *_columns([(*which, number) for which, number in sorted(counts.items())]))


async def alone(connection: Connection) -> bool:
    """Say whether nobody else is measuring, and keep it so until the transaction ends."""
    return bool(await connection.fetchval(_ALONE))


async def take_marks(connection: Connection, now: int, every_milliseconds: int) -> None:
    """Turn all marks into windows that are due, each not before so long after it was last measured."""
    await connection.execute(_TAKE_MARKS, now, every_milliseconds)


async def take_due(connection: Connection, now: int, windows_max: int) -> list[Window]:
    """Take away and return the windows that are due."""
    return [Window(*row) for row in map(tuple, await connection.fetch(_TAKE_DUE, now, windows_max))]


async def blocks_of(connection: Connection, window: Window) -> dict[Version, list[Block]]:
    """Return a window's blocks by who answered."""
    found: dict[Version, list[Block]] = {}
    for row in await connection.fetch(_BLOCKS, *window):
        block = Block(*row)
        found.setdefault(Version(block.arm, block.model, block.version, block.digest), []).append(block)
    return found


async def labels_of(connection: Connection, endpoint: str, panes: Collection[int]) -> Waiting:
    """Return the labels that are filed in some panes."""
    waiting = Waiting({}, set())
    for requested_at, request_id, label, weight, at, joined in await connection.fetch(_LABELS, endpoint, sorted(panes)):
        waiting.labels[requested_at, request_id] = Row(label, weight, at)
        if joined:
            waiting.joined.add((requested_at, request_id))
    return waiting


async def keep_joined(connection: Connection, endpoint: str, found: Collection[tuple[int, bytes]]) -> None:
    """Note that labels found their request."""
    if found:
        rows = [(pane_of(requested_at), requested_at, request_id) for requested_at, request_id in sorted(found)]
        await connection.execute(_JOINED, endpoint, *_columns(rows), sorted({row[0] for row in rows}))


async def measured(connection: Connection, window: Window) -> dict[Version, tuple[int, Figures]]:
    """Return the newest revision and figures of each version in a window."""
    return {
        Version(*row[:4]): (row[4], msgspec.json.decode(row[5], type=Figures))
        for row in map(tuple, await connection.fetch(_MEASURED, *window))
    }


async def keep_figures(
    connection: Connection,
    window: Window,
    who: Version,
    revision: int,
    figures: Figures,
    labelled: Labelled,
    now: int,
) -> None:
    """Keep a measurement in place of the one before."""
    text = msgspec.json.encode(figures).decode()
    await connection.execute(_KEEP_FIGURES, *window, *who, revision, text, labelled.to_bytes(), now)


async def view(
    connection: Connection,
    endpoint: str,
    version: int | None,
    arm: str | None,
    since: int | None,
    until: int | None,
    windows_max: int,
) -> tuple[Sequence[Mapping[str, Any]], int, dict[str, int]]:
    """Return the newest windows, who answered for who and oldest first; the waiting labels; and all counts."""
    rows = await connection.fetch(_VIEW, endpoint, version, arm, since, until, windows_max)
    counts = {row["what"]: row["count"] for row in await connection.fetch(_COUNTS, endpoint)}
    return rows, await connection.fetchval(_WAITING, endpoint), counts


async def prune(connection: Connection, before: int, labels_before: int) -> int:
    """Drop the scores of windows that ended by `before`, and labels; return how many labels.

    A label that found its request goes with the scores, one that waits at `labels_before`. It counts as expired.
    """
    for statement in _PRUNE:
        await connection.execute(statement, before)
    gone = await connection.fetch(_EXPIRE, before, labels_before)
    await count(connection, Counter({(row["endpoint"], "expired"): row["expired"] for row in gone if row["expired"]}))
    return sum(row["labels"] for row in gone)


def _columns(rows: Collection[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
