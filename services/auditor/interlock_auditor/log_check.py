"""The log's table held against all that remembers it: this process, the heads on Kafka, and the witness."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from interlock.codec import rows
from interlock.errors import Poison, Transient
from interlock.kafka import chunks
from interlock.merkle import HASH_BYTES, Tree
from interlock.postgres.pool import Connection
from interlock.schemas.events import CheckpointSigned
from interlock.schemas.topics import AUDIT_CHECKPOINTS
from interlock.settings import PlatformSettings
from interlock_auditor import store_blocks
from interlock_auditor.checkpoint import BadNote, Checkpoint
from interlock_auditor.log import Log, Trouble, told
from interlock_auditor.tiles import TILE_ENTRIES, Tile
from interlock_auditor.verify import CHANGED, Finding, compare
from interlock_auditor.witness_client import Witness

HEADS_BACK_MAX: Final = 200
"""How many offsets of the topic of checkpoints are looked through for the newest head."""

log_ = structlog.get_logger("interlock.auditor")


async def load(connection: Connection) -> tuple[Tree, list[Finding]]:
    """Return the tree that the table has now, and what is wrong with the numbers of its rows."""
    tree, found = Tree(), []
    least, behind = await store_blocks.bounds(connection)
    async for tile in store_blocks.tiles(connection, least, behind):
        end = min(tile.first + TILE_ENTRIES, behind)
        if tile.first != tree.size or not tile.fills(end):
            found.append(_first_gap(tile, tree.size))
            break
        tree.extend_with(await asyncio.to_thread(_leaves, tile))
    return tree, found


def _leaves(tile: Tile) -> bytes:
    return tile.leaves


def _first_gap(tile: Tile, size: int) -> Finding:
    """Return the first number that no row bears, or that a row bears out of turn."""
    expected = size
    for number in tile.numbers:
        if number != expected:
            break
        expected += 1
    return Finding(CHANGED, expected, expected, detail="the numbers of the rows are not without a gap")


async def distrust(settings: PlatformSettings, log: Log, tree: Tree, witness: Witness) -> Trouble | None:
    """Return why the table's tree is not to be continued, or None; a witness that is away is judged by another time.

    Raises Transient while Kafka, which keeps the heads that were published, is away.
    """
    for size, root, whose in _memories(log):
        if tree.size < size or tree.root(size) != root:
            return await _named(tree, witness, f"it had {size} entries, as {whose} remembers")
    published = await newest_published(settings, log)
    if published is not None and (tree.size < published.size or tree.root(published.size) != published.root):
        return await _named(tree, witness, f"a head of {published.size} entries was published")
    try:
        head = await witness.head()
    except Transient as error:
        log_.warning("auditor.unwitnessed", detail=error.detail, todo="its hashes are compared when it is back")
        return None
    if head is not None and (tree.size < head.size or tree.root(head.size) != head.root):
        return await _named(tree, witness, f"the witness has signed {head.size} entries")
    return None


def _memories(log: Log) -> list[tuple[int, bytes, str]]:
    found = [(log.tree.size, log.tree.root(), "this process")] if log.tree.size else []
    if log.witnessed is not None:
        found.append((log.witnessed.size, log.witnessed.root, "the last head with both signatures"))
    return found


async def _named(tree: Tree, witness: Witness, said: str) -> Trouble:
    """Return the trouble, with the rows at fault where the witness can tell them."""
    findings: list[Finding] = []
    detail = f"The table has {tree.size} entries, but {said}: it was edited, truncated or restored from an old backup."
    try:
        head = await witness.head()
        if head is not None:
            findings = differing(tree, await witness.leaves(0, head.size))
    except Transient as error:
        detail += f" {error.detail}"
    if findings:
        detail += f" {told(findings)}."
    return Trouble(detail, tuple(findings[:100]))


def differing(tree: Tree, witnessed: bytes) -> list[Finding]:
    """Return the numbers at which a tree differs from the witness's hashes; what was done there, `verify` says."""
    found: list[Finding] = []
    mine, size = tree.leaves(), len(witnessed) // HASH_BYTES
    for seq in range(min(tree.size, size)):
        at = seq * HASH_BYTES
        if mine[at : at + HASH_BYTES] != witnessed[at : at + HASH_BYTES]:
            if found and found[-1].last == seq - 1:
                found[-1] = Finding(CHANGED, found[-1].first, seq)
            else:
                found.append(Finding(CHANGED, seq, seq))
    if tree.size < size:
        found.append(Finding("truncated", tree.size, size - 1))
    return found


async def newest_published(settings: PlatformSettings, log: Log) -> Checkpoint | None:
    """Return the newest head of this log on Kafka that the log's own key signed; raises Transient."""
    for record in reversed(await chunks.tail(settings, AUDIT_CHECKPOINTS, HEADS_BACK_MAX)):
        try:
            event = rows.decode(record.value or b"")
        except Poison:
            continue
        if isinstance(event, CheckpointSigned) and event.log == log.origin:
            try:
                log.key.public.check(event.note)
                return Checkpoint.parse(event.note)
            except BadNote as error:
                log_.warning("auditor.foreign_head", detail=str(error), offset=record.offset)
    return None


class Patrol:
    """Walks round the table, a stretch at a time, and holds it against the tree in memory."""

    def __init__(self, entries: int) -> None:
        self._entries = -(-entries // TILE_ENTRIES) * TILE_ENTRIES
        self._at = 0

    async def step(self, connection: Connection, tree: Tree) -> Trouble | None:
        """Compare one stretch and the table's end; return what is wrong, or None."""
        least, behind = await store_blocks.bounds(connection)
        if behind != tree.size or least < 0:
            return Trouble(f"The table ends at {behind} (and begins at {least}); {tree.size} entries were written.")
        first = self._at if self._at < tree.size else 0
        last = min(first + self._entries, tree.size)
        found = (await store_blocks.span(connection, first, last)).tiles
        self._at = last
        # The tree stands in for the witness; rows before the stretch are not looked at this time.
        wrong = await asyncio.to_thread(_compared, found, tree, first, last)
        return Trouble(f"The table was changed: {told(wrong)}.", tuple(wrong[:100])) if wrong else None


def _compared(found: list[Tile], tree: Tree, first: int, last: int) -> list[Finding]:
    hashes = bytes(first * HASH_BYTES) + tree.leaves(first, last)
    return [each for each in compare(found, hashes, last) if each.first >= first]
