"""A block: a stretch of rows as the database joins them, column by column, and the leaf hashes of all of them at once.

The bytes are those of `entry.encode`, woven out of the columns; what is left for each row are its two hashes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from hashlib import sha256
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from interlock.codec.ragged import Part, Ragged, weave
from interlock.merkle import HASH_BYTES
from interlock_auditor.tiles import DIGEST_PREFIX, PAYLOAD, TILE_ENTRIES, Tile

BLOCK_ENTRIES: Final = 4 * TILE_ENTRIES
SEPARATOR: Final = 0x1F
"""Between texts of one column; entries hold no control characters, a forged row may."""
NUMBER_TYPES: Final = {0: ">i8", 2: ">i4", 3: ">i8", 9: ">i8"}
"""The columns that are numbers, and how the database sends one."""
_DIGEST_LETTERS: Final = 2 * HASH_BYTES
_LEAF: Final = b"\x00"  # the byte before a leaf's content, RFC 6962 section 2.1

Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]


def separated(content: bytes) -> Ragged:
    """Take texts apart that have SEPARATOR between them."""
    buffer = np.frombuffer(content, dtype=np.uint8)
    cuts = np.flatnonzero(buffer == SEPARATOR)
    starts = np.concatenate((np.zeros(1, dtype=np.int64), cuts + 1))
    return Ragged(buffer, starts, np.append(cuts, len(content)) - starts)


class Block:
    """Rows in the order of their numbers; `columns` stand in the order of an entry's fields: numbers or `Ragged`."""

    def __init__(self, columns: Sequence[Any]) -> None:
        self._columns = columns
        self.numbers: Longs = columns[0]
        """The numbers that the rows bear, int64, rising."""

    @classmethod
    def of(cls, sent: Sequence[Any]) -> Self | None:
        """Return the block that the database sent (`store_blocks`), or None where a column does not fit the others.

        `sent`: the columns in order, numbers as bytes of NUMBER_TYPES, texts with SEPARATOR between them, then the
        payloads' lengths (4 bytes each) and the payloads. A text with a separator in it and a NULL make columns differ.
        """
        columns: list[Any] = []
        for place, content in enumerate(sent[:PAYLOAD]):
            kind = NUMBER_TYPES.get(place)
            columns.append(separated(content) if kind is None else np.frombuffer(content, dtype=kind).astype(np.int64))
        lengths, payloads = sent[PAYLOAD : PAYLOAD + 2]
        columns.append(Ragged.joined(payloads, np.frombuffer(lengths, dtype=">i4").astype(np.int64)))
        counts = set(map(len, columns))
        return cls(columns) if len(counts) == 1 else None

    def __len__(self) -> int:
        return self.numbers.size

    def tiles(self) -> Iterator[Tile]:
        """Yield the tiles of the block that have rows."""
        heads = self.numbers // TILE_ENTRIES
        begins = np.flatnonzero(np.diff(heads, prepend=heads[:1] - 1)).tolist()
        for begin, end in zip(begins, [*begins[1:], len(self)], strict=True):
            yield BlockTile(self, int(heads[begin]) * TILE_ENTRIES, begin, end)

    def cut(self, first: int, behind: int) -> list[Sequence[Any]]:
        """Return the columns of a stretch of rows, value by value."""
        return [
            list(each.some(slice(first, behind))) if isinstance(each, Ragged) else each[first:behind].tolist()
            for each in self._columns
        ]

    @cached_property
    def leaves(self) -> bytes:
        """The leaf hashes of the rows, in their order, one behind the other."""
        parts: list[Part] = [_LEAF]
        for each in self._columns[:PAYLOAD]:
            parts += [Ragged.integers(each.lengths), each] if isinstance(each, Ragged) else [Ragged.integers(each)]
        parts += [DIGEST_PREFIX, Ragged.table(self._payload_digests())]
        return b"".join(sha256(each).digest() for each in weave(parts, len(self)))

    def _payload_digests(self) -> Bytes:
        """Return the digests of the payloads as letters, uint8 (rows, 64)."""
        made = [sha256(each).digest() for each in self._columns[PAYLOAD]]
        return np.frombuffer(b"".join(made).hex().encode(), dtype=np.uint8).reshape(-1, _DIGEST_LETTERS)


class BlockTile(Tile):
    """A tile that is a stretch of a block's rows; its columns are made only where somebody looks at them."""

    def __init__(self, block: Block, first: int, begin: int, end: int) -> None:  # no columns to begin with
        self.first = first
        self._block = block
        self._rows = (begin, end)

    def __len__(self) -> int:
        return self._rows[1] - self._rows[0]

    @cached_property
    def columns(self) -> Sequence[Sequence[Any]]:  # type: ignore[override]  # made late, and once
        """The rows as columns in the order of an entry's fields."""
        return self._block.cut(*self._rows)

    @cached_property
    def leaves(self) -> bytes:
        """The leaf hashes of the rows, in their order, one behind the other."""
        begin, end = self._rows
        return self._block.leaves[begin * HASH_BYTES : end * HASH_BYTES]

    @cached_property
    def hashes(self) -> list[bytes]:
        """The leaf hashes of the rows, in their order."""
        leaves = self.leaves
        return [leaves[at : at + HASH_BYTES] for at in range(0, len(leaves), HASH_BYTES)]

    @cached_property
    def numbers(self) -> Sequence[int]:
        """The numbers that the rows bear."""
        begin, end = self._rows
        found: list[int] = self._block.numbers[begin:end].tolist()
        return found
