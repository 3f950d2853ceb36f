"""A log in memory and the ways to forge it: each says which rows must be named, and as what."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any

from interlock.merkle import Tree
from interlock_auditor.checkpoint import Checkpoint
from interlock_auditor.entry import Entry
from interlock_auditor.tiles import TILE_ENTRIES, Tile
from interlock_auditor.verify import (
    CHANGED,
    DELETED,
    INSERTED,
    MOVED,
    OLD_CHECKPOINT,
    SWAPPED,
    TRUNCATED,
    Finding,
    compare,
    heads,
)

Named = set[tuple[str, int]]
PAYLOAD_BYTES = 320
FEW = 600
"""How many rows a forgery of a suffix touches as a rule."""


def made_entry(seq: int) -> Entry:
    """Return an entry as a lane's batches give them, the same for the same number."""
    endpoint, partition = f"endpoint-{seq % 3}", seq % 8
    content = sha256(str(seq).encode()).digest()
    return Entry(
        seq,
        f"{endpoint}.batches",
        partition,
        seq * 2,
        f"{endpoint}.batches/{partition}/{seq * 2}",
        "BatchAnswered",
        "/interlock/router",
        "router",
        f"//{endpoint}/{seq * 400}/{seq * 400 + 400}",
        1_790_000_000_000 + seq * 7,
        "sha256:" + "5c" * 32,
        (content * (PAYLOAD_BYTES // len(content)))[:PAYLOAD_BYTES],
    )


def made_tiles(size: int) -> list[Tile]:
    """Return the tiles of a made log."""
    return [
        Tile.of(first, [made_entry(seq) for seq in range(first, min(first + TILE_ENTRIES, size))])
        for first in range(0, size, TILE_ENTRIES)
    ]


class Forger:
    """Forges copies of a log, one at a time, and judges whether verification names what was done."""

    def __init__(self, tiles: Sequence[Tile], seed: int = 0) -> None:
        self.tiles = list(tiles)
        self.size = sum(len(each) for each in tiles)
        self.witnessed = b"".join(each.leaves for each in tiles)
        self.tree = Tree()
        self.tree.extend_with(self.witnessed)
        self.chance = random.Random(seed)
        self.head = Checkpoint("log", self.size, self.tree.root(), "")
        self.kinds: tuple[Callable[[], tuple[list[Tile], Named]], ...] = (
            self.flip,
            self.delete,
            self.swap,
            self.insert,
            self.truncate,
            self.rewrite,
            self.delete_and_renumber,
            self.insert_and_renumber,
        )

    def findings(self, tiles: Sequence[Tile]) -> list[Finding]:
        """Verify a forged log."""
        return compare(tiles, self.witnessed, self.size)

    def flip(self) -> tuple[list[Tile], Named]:
        """Change one value of one row."""
        seq, column = self._any(), self.chance.randrange(1, 12)
        row = self._row(seq)
        row[column] = self._other(row[column])
        return self._with({seq: [row]}), {(CHANGED, seq)}

    def delete(self) -> tuple[list[Tile], Named]:
        """Take one row away."""
        seq = self._any()
        return self._with({seq: []}), {(TRUNCATED if seq == self.size - 1 else DELETED, seq)}

    def swap(self) -> tuple[list[Tile], Named]:
        """Exchange two rows, near or far."""
        first, second = self.chance.sample(range(self.size), 2)
        left, right = self._row(first), self._row(second)
        left[0], right[0] = right[0], left[0]
        return self._with({first: [right], second: [left]}), {(SWAPPED, first), (SWAPPED, second)}

    def insert(self) -> tuple[list[Tile], Named]:
        """Put one more row under a number that is taken, before or behind the right one."""
        seq = self._any()
        row = self._row(seq)
        row[11] = self._other(row[11])
        both = [row, self._row(seq)]
        self.chance.shuffle(both)
        return self._with({seq: both}), {(INSERTED, seq)}

    def truncate(self) -> tuple[list[Tile], Named]:
        """Drop all rows from one on."""
        first = self.size - int(self.size ** self.chance.random())
        return self._with({seq: [] for seq in self._suffix(first, first)}, first), _all(TRUNCATED, first, self.size)

    def rewrite(self) -> tuple[list[Tile], Named]:
        """Make all rows from one on anew, their hashes with them."""
        first = self._late()
        changed = {}
        for seq in range(first, self.size):
            changed[seq] = [row := self._row(seq)]
            row[7] = b"mallory"
        return self._with(changed), _all(CHANGED, first, self.size)

    def delete_and_renumber(self) -> tuple[list[Tile], Named]:
        """Take one row away and close the gap."""
        first = self._late()
        changed: dict[int, list[list[Any]]] = {}
        for seq in range(first, self.size - 1):
            changed[seq] = [[seq, *self._row(seq + 1)[1:]]]
        changed[self.size - 1] = []
        return self._with(changed), _all(MOVED, first, self.size - 1) | {(TRUNCATED, self.size - 1)}

    def insert_and_renumber(self) -> tuple[list[Tile], Named]:
        """Put a row in and move all behind it on; the last one lands behind what was witnessed."""
        first = self._late()
        changed = {seq: [[seq, *self._row(seq - 1)[1:]]] for seq in range(first + 1, self.size)}
        forged = self._row(first)
        forged[9] += 1
        changed[first] = [forged]
        return self._with(changed), _all(MOVED, first + 1, self.size) | {(CHANGED, first)}

    def old_head(self) -> tuple[list[Finding], Named]:
        """Show a head that was true once, or one of another history."""
        size = self.chance.randrange(self.size)
        shown = Checkpoint("log", size, self.tree.root(size), "")
        return heads(shown, self.head, self.tree), {(OLD_CHECKPOINT, seq) for seq in (size, self.size - 1)}

    def _any(self) -> int:
        return self.chance.randrange(self.size)

    def _late(self) -> int:
        """Return where a forgery of a suffix begins: near the end as a rule, now and then anywhere."""
        return self.size - 2 - self.chance.randrange(min(FEW, self.size - 2))

    def _row(self, seq: int) -> list[Any]:
        tile = self.tiles[seq // TILE_ENTRIES]
        return [column[seq % TILE_ENTRIES] for column in tile.columns]

    def _other(self, value: Any) -> Any:
        if isinstance(value, int):
            return value + self.chance.choice((-1, 1, 1000))
        content = bytearray(value)
        content[self.chance.randrange(len(content))] ^= 1 << self.chance.randrange(7)
        return bytes(content)

    def _suffix(self, first: int, end: int) -> range:
        """Return the numbers from one on to the end of its tile."""
        return range(first, min((end // TILE_ENTRIES + 1) * TILE_ENTRIES, self.size))

    def _with(self, changed: dict[int, list[list[Any]]], cut: int | None = None) -> list[Tile]:
        """Return the log's tiles with rows changed; of `cut`, none that begin behind it."""
        touched: dict[int, dict[int, list[list[Any]]]] = {}
        for seq, rows in changed.items():
            touched.setdefault(seq // TILE_ENTRIES, {})[seq] = rows
        tiles = list(self.tiles if cut is None else self.tiles[: cut // TILE_ENTRIES + 1])
        for number, instead in touched.items():
            base = tiles[number]
            lines = [line for seq in base.numbers for line in instead.get(seq, [self._row(seq)])]
            tiles[number] = Tile(base.first, [list(column) for column in zip(*lines, strict=True)] or [[]] * 12)
        return tiles


def named(findings: Sequence[Finding]) -> Named:
    """Return every number that findings name, each with what was done to it."""
    return {(each.what, seq) for each in findings for seq in range(each.first, each.last + 1)}


def _all(what: str, first: int, behind: int) -> Named:
    return {(what, seq) for seq in range(first, behind)}
