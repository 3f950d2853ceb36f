"""Verification: the table held against the witness's leaf hashes, and every row named that is not what it was. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from interlock.ids import request_name
from interlock.merkle import HASH_BYTES, Tree
from interlock_auditor.checkpoint import Checkpoint
from interlock_auditor.tiles import TILE_ENTRIES, Tile, leaf_at

CHANGED: Final = "changed"
DELETED: Final = "deleted"
TRUNCATED: Final = "truncated"
INSERTED: Final = "inserted"
SWAPPED: Final = "swapped"
MOVED: Final = "moved"
OLD_CHECKPOINT: Final = "old checkpoint"
FORKED: Final = "another root"
WITNESS_DAMAGED: Final = "witness damaged"
COLUMN_FORGED: Final = "column forged"

SHIFT_MAX: Final = 8
"""How far a renumbered row is looked for from where its neighbour came from."""
PAIRS_MAX: Final = 64
"""Among how few odd rows each is looked for at the place of each other."""
MISSES_MAX: Final = 64
"""After how many rows in a row that came from nowhere the search for where rows came from is given up."""


class Finding(msgspec.Struct, frozen=True):
    """Entries that are not what they were, `first` to `last`; `place` is what the first row says of itself."""

    what: str
    first: int
    last: int
    place: str | None = None
    """Its `topic/partition/offset`; None where there is no row left."""
    detail: str = ""


class _Odd(msgspec.Struct, frozen=True):
    """A row that does not have the leaf hash of its number."""

    tile: Tile
    row: int
    seq: int
    extra: bool
    """Whether another row bears the same number and is the right one, or none was witnessed there."""

    @property
    def place(self) -> str:
        """What the row says where it came from."""
        topic, partition, offset = (self.tile.columns[each][self.row] for each in (1, 2, 3))
        return request_name(topic.decode(errors="replace"), partition, offset)


class Comparison:
    """The table, tile by tile in order, against `size` leaf hashes of the witness (32 bytes each)."""

    def __init__(self, witnessed: bytes, size: int) -> None:
        self._witnessed = witnessed
        self.size = size
        self.rows = 0
        self._odd: list[_Odd] = []
        self._missing: list[int] = []
        self._next = 0
        """The number behind the last tile that was looked at."""
        self._end = 0
        """The number behind the last witnessed row that the table has."""

    def take(self, first: int, leaves: bytes) -> bool:
        """Take a whole tile by its leaf hashes; say whether they are those of the witness. If not, `add` the tile."""
        end = first + TILE_ENTRIES
        if first < 0 or end > self.size or leaves != self._witnessed[first * HASH_BYTES : end * HASH_BYTES]:
            return False
        self._reach(first)
        self.rows += TILE_ENTRIES
        self._end = end
        return True

    def add(self, tile: Tile) -> None:
        """Look at one tile; tiles come in the order of their numbers, empty ones may be left out."""
        if tile.whole and self.take(tile.first, tile.leaves):
            return
        self._reach(tile.first)
        self.rows += len(tile)
        self._look(tile, min(tile.first + TILE_ENTRIES, self.size))

    def _reach(self, first: int) -> None:
        """Go on to the tile that begins with a number; what lies between has no rows."""
        if first > self._next:
            self._missing += range(self._next, min(first, self.size))
        self._next = max(self._next, first + TILE_ENTRIES)

    def findings(self) -> list[Finding]:
        """Return what is wrong, in order of the numbers, after all tiles were added; nothing if nothing is."""
        self._missing += range(min(self._next, self.size), self.size)
        self._next = max(self._next, self.size)
        if not self._odd and not self._missing:
            return []
        return self._explained()

    def _look(self, tile: Tile, end: int) -> None:
        """Look at each row of a tile that is not simply right."""
        seen: dict[int, bool] = {}
        odd: list[_Odd] = []
        for row, (seq, leaf) in enumerate(zip(tile.numbers, tile.hashes, strict=True)):
            if 0 <= seq < end:
                right = leaf == leaf_at(self._witnessed, seq)
                if right and not seen.get(seq):
                    seen[seq] = True
                    self._end = max(self._end, seq + 1)
                    continue
                seen.setdefault(seq, False)
                odd.append(_Odd(tile, row, seq, extra=False))
            elif seq < 0:
                odd.append(_Odd(tile, row, seq, extra=True))
        taken = {seq for seq, right in seen.items() if right}
        for each in odd:
            self._odd.append(msgspec.structs.replace(each, extra=each.extra or each.seq in taken))
            taken.add(each.seq)
            self._end = max(self._end, min(each.seq + 1, end))
        self._missing += (seq for seq in range(max(tile.first, 0), end) if seq not in seen)

    def _explained(self) -> list[Finding]:
        """Say of each odd row what was done to it."""
        origins = self._origins()
        here = {each.seq: origin for each, origin in zip(self._odd, origins, strict=True) if not each.extra}
        found = []
        for each, origin in zip(self._odd, origins, strict=True):
            what, detail = self._judged(each, origin, here)
            found.append(Finding(what, each.seq, each.seq, each.place, detail))
        found += [Finding(TRUNCATED if seq >= self._end else DELETED, seq, seq) for seq in self._missing]
        return _joined(sorted(found, key=lambda each: (each.first, each.what)))

    def _judged(self, odd: _Odd, origin: int | None, here: Mapping[int, int | None]) -> tuple[str, str]:
        if odd.extra:
            return INSERTED, ""
        if origin is None:
            return CHANGED, ""
        if here.get(origin) == odd.seq:
            return SWAPPED, f"with entry {origin}"
        return MOVED, f"it was entry {origin}" if len(self._odd) <= PAIRS_MAX else ""

    def _origins(self) -> list[int | None]:
        """Return, for each odd row, the number under which the witness knows it, or None."""
        few = [each.seq for each in self._odd] + self._missing if len(self._odd) <= PAIRS_MAX else []
        found: list[int | None] = []
        shift, misses = 0, 0
        for each in self._odd:
            near = (shift, *(shift + sign * step for step in range(1, SHIFT_MAX + 1) for sign in (1, -1)))
            tried = [*dict.fromkeys((*(each.seq + step for step in near), *few))] if misses < MISSES_MAX else []
            origin = next((seq for seq in tried if seq != each.seq and self._belongs(each, seq)), None)
            found.append(origin)
            misses = misses + 1 if origin is None else 0
            shift = shift if origin is None else origin - each.seq
        return found

    def _belongs(self, odd: _Odd, seq: int) -> bool:
        """Say whether the witness knows the row under this number."""
        return 0 <= seq < self.size and odd.tile.renumbered(odd.row, seq) == leaf_at(self._witnessed, seq)


def compare(tiles: Iterable[Tile], witnessed: bytes, size: int) -> list[Finding]:
    """Return what is wrong with the rows of the table, given the witness's `size` leaf hashes."""
    comparison = Comparison(witnessed, size)
    for tile in tiles:
        comparison.add(tile)
    return comparison.findings()


def heads(presented: Checkpoint | None, witness: Checkpoint, witnessed: Tree) -> list[Finding]:
    """Return what is wrong with the log's newest checkpoint, and with the tree of the witness's own hashes."""
    found = []
    if witnessed.size != witness.size or witnessed.root() != witness.root:
        found.append(Finding(WITNESS_DAMAGED, 0, witness.size - 1, detail="its hashes do not have the root it signed"))
    size = 0 if presented is None else presented.size
    if size < witness.size:
        detail = f"the log shows a head of {size} entries, the witness has signed {witness.size}"
        found.append(Finding(OLD_CHECKPOINT, size, witness.size - 1, detail=detail))
    if presented is not None and size <= witnessed.size and witnessed.root(size) != presented.root:
        detail = "the log's head has another root than the witness's hashes"
        found.append(Finding(FORKED, 0, size - 1, detail=detail))
    return found


def _joined(findings: Sequence[Finding]) -> list[Finding]:
    """Return findings of one kind that follow each other as one; those with a detail of their own stay apart."""
    found: list[Finding] = []
    for each in findings:
        before = found[-1] if found else None
        if before and (before.what, before.last + 1) == (each.what, each.first) and not (before.detail or each.detail):
            found[-1] = msgspec.structs.replace(before, last=each.last)
        else:
            found.append(each)
    return found
