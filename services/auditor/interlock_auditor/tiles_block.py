"""A block: a stretch of rows as the database joins them, column by column, and the leaf hashes of all of them at once.

The bytes are those of `entry.encode`. Rows whose fields are of the same lengths are written side by side, as one table
of bytes; what is left for each row are its two hashes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from hashlib import sha256
from typing import Any, Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from interlock.codec import varints
from interlock.merkle import HASH_BYTES
from interlock_auditor.tiles import DIGEST_PREFIX, PAYLOAD, TILE_ENTRIES, Tile, hashes

BLOCK_ENTRIES: Final = 4 * TILE_ENTRIES
SEPARATOR: Final = 0x1F
"""Between texts of one column; entries hold no control characters, a forged row may."""
GROUP_ROWS_MIN: Final = 12
"""Fewer rows than this of the same lengths are written one by one: setting up a table costs more."""
NUMBER_TYPES: Final = {0: ">i8", 2: ">i4", 3: ">i8", 9: ">i8"}
"""The columns that are numbers, and how the database sends one."""
TEXT_COLUMNS: Final = (1, 4, 5, 6, 7, 8, 10)
_DIGEST_LETTERS: Final = 2 * HASH_BYTES

Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]
_MIXING: Final[Longs] = np.array(
    [0x9E3779B97F4A7C15 * (2 * each + 1) & 0x7FFF_FFFF_FFFF_FFFF for each in range(12)], dtype=np.int64
)


class Joined(NamedTuple):
    """One column of bytes: all values in one piece, where each begins (int64), and how long it is (int64)."""

    content: bytes
    starts: Longs
    lengths: Longs

    @classmethod
    def separated(cls, content: bytes) -> Self:
        """Take values apart that have SEPARATOR between them."""
        cuts = np.flatnonzero(np.frombuffer(content, dtype=np.uint8) == SEPARATOR)
        starts = np.concatenate((np.zeros(1, dtype=np.int64), cuts + 1))
        return cls(content, starts, np.append(cuts, len(content)) - starts)

    @classmethod
    def measured(cls, content: bytes, lengths: Longs) -> Self:
        """Take values apart whose lengths are known."""
        return cls(content, np.cumsum(lengths) - lengths, lengths)

    def table(self, rows: Longs, length: int) -> Bytes:
        """Return the values of rows that are all of one length, uint8 (rows, length)."""
        window = np.lib.stride_tricks.as_strided(
            np.frombuffer(self.content, dtype=np.uint8), (len(self.content) - length + 1, length), (1, 1)
        )
        found: Bytes = window[self.starts[rows]]
        return found

    def values(self, first: int, behind: int) -> list[bytes]:
        """Return the values of a stretch of rows, one by one."""
        ends = (self.starts[first:behind] + self.lengths[first:behind]).tolist()
        return [self.content[at:end] for at, end in zip(self.starts[first:behind].tolist(), ends, strict=True)]


class Block:
    """Rows in the order of their numbers; `columns` stand in the order of an entry's fields: numbers or `Joined`."""

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
            columns.append(
                Joined.separated(content) if kind is None else np.frombuffer(content, dtype=kind).astype(np.int64)
            )
        lengths, payloads = sent[PAYLOAD : PAYLOAD + 2]
        columns.append(Joined.measured(payloads, np.frombuffer(lengths, dtype=">i4").astype(np.int64)))
        counts = {len(each.starts) if isinstance(each, Joined) else each.size for each in columns}
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
            each.values(first, behind) if isinstance(each, Joined) else each[first:behind].tolist()
            for each in self._columns
        ]

    @cached_property
    def leaves(self) -> bytes:
        """The leaf hashes of the rows, in their order, one behind the other."""
        found = np.empty((len(self), HASH_BYTES), dtype=np.uint8)
        digests = self._payload_digests()
        written = {place: varints.write(self._columns[place]) for place in NUMBER_TYPES}
        layouts = np.stack(
            [written[place][1] if place in written else each.lengths for place, each in enumerate(self._columns[:-1])],
            axis=1,
        )
        alone = []
        for rows in _alike(layouts):
            layout = layouts[rows[0]].tolist()
            if rows.size < GROUP_ROWS_MIN or not (layouts[rows] == layouts[rows[0]]).all():
                alone += rows.tolist()
                continue
            table = self._written(rows, layout, written, digests)
            width, content = table.shape[1], table.tobytes()
            made = [sha256(content[at : at + width]).digest() for at in range(0, len(content), width)]
            found[rows] = np.frombuffer(b"".join(made), dtype=np.uint8).reshape(-1, HASH_BYTES)
        for row in alone:
            [made_alone] = hashes(self.cut(row, row + 1))
            found[row] = np.frombuffer(made_alone, dtype=np.uint8)
        return found.tobytes()

    def _payload_digests(self) -> Bytes:
        """Return the digests of the payloads as letters, uint8 (rows, 64)."""
        payloads: Joined = self._columns[PAYLOAD]
        made = [sha256(each).digest() for each in payloads.values(0, len(self))]
        return np.frombuffer(b"".join(made).hex().encode(), dtype=np.uint8).reshape(-1, _DIGEST_LETTERS)

    def _written(
        self, rows: Longs, layout: Sequence[int], written: dict[int, tuple[Bytes, Longs]], digests: Bytes
    ) -> Bytes:
        """Return the bytes that rows of one layout are hashed over, uint8 (rows, width)."""
        prefixes = [b"" if place in written else varints.encode(length) for place, length in enumerate(layout)]
        width = 1 + sum(layout) + sum(map(len, prefixes)) + len(DIGEST_PREFIX) + _DIGEST_LETTERS
        table = np.empty((rows.size, width), dtype=np.uint8)
        table[:, 0] = 0  # RFC 6962: a leaf
        at = 1
        for place, (length, prefix) in enumerate(zip(layout, prefixes, strict=True)):
            if prefix:
                table[:, at : at + len(prefix)] = np.frombuffer(prefix, dtype=np.uint8)
                at += len(prefix)
            if length:
                value = written[place][0][rows, :length] if place in written else None
                table[:, at : at + length] = self._columns[place].table(rows, length) if value is None else value
            at += length
        table[:, at : at + len(DIGEST_PREFIX)] = np.frombuffer(DIGEST_PREFIX, dtype=np.uint8)
        table[:, -_DIGEST_LETTERS:] = digests[rows]
        return table


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


def _alike(layouts: Longs) -> list[Longs]:
    """Return the rows in groups that most probably have the same layout each (int64 (rows, fields))."""
    _, inverse = np.unique(layouts @ _MIXING[: layouts.shape[1]], return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(inverse[order])) + 1)
