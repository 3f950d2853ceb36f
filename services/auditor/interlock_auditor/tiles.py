"""Tiles: the rows of the table, 256 at a time, and the leaf hashes that follow from them, made fast.

The bytes are the same as `entry.encode` makes; a test holds the two against each other. A tile does not change, so
its hashes are made once, however often it is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from hashlib import sha256
from typing import Any, Final, Self

from interlock.codec import varints
from interlock.merkle import HASH_BYTES
from interlock_auditor.entry import DIGEST_PREFIX, Entry

TILE_ENTRIES: Final = 256
COLUMNS: Final = 12
SEPARATOR: Final = b"\x1f"
"""Between texts of one column; entries hold no control characters, a forged row may."""
_SHORT: Final = 4096
_LOW_BITS: Final = 14
_LOW: Final = (1 << _LOW_BITS) - 1
_LENGTHS: Final = [varints.encode(number) for number in range(_SHORT)]
_SMALL: Final = [varints.encode((number >> 1) ^ -(number & 1)) for number in range(_LOW + 1)]
_PAIRS: Final = [bytes(((number & 0x7F) | 0x80, (number >> 7) | 0x80)) for number in range(_LOW + 1)]


class Tile:
    """Rows of the table that lie behind each other, as columns in the order of an entry's fields; texts as UTF-8."""

    def __init__(self, first: int, columns: Sequence[Sequence[Any]]) -> None:
        self.first = first
        """The number of the first entry that belongs here, a multiple of 256."""
        self.columns = columns

    @classmethod
    def of(cls, first: int, entries: Sequence[Entry]) -> Self:
        """Return the tile of rows that are at hand as entries."""
        lines = [
            [each.encode() if isinstance(each, str) else each for each in (getattr(entry, name) for name in _FIELDS)]
            for entry in entries
        ]
        return cls(first, [list(column) for column in zip(*lines, strict=True)] or [[]] * COLUMNS)

    def __len__(self) -> int:
        return len(self.columns[0])

    @cached_property
    def leaves(self) -> bytes:
        """The leaf hashes of the rows, in their order, one behind the other."""
        return b"".join(self.hashes)

    @cached_property
    def hashes(self) -> list[bytes]:
        """The leaf hashes of the rows, in their order."""
        return hashes(self.columns)

    @cached_property
    def numbers(self) -> Sequence[int]:
        """The numbers that the rows bear."""
        found: Sequence[int] = self.columns[0]
        return found

    @cached_property
    def whole(self) -> bool:
        """Whether the rows bear all 256 numbers of the tile, each once and in order."""
        return self.fills(self.first + TILE_ENTRIES)

    def fills(self, end: int) -> bool:
        """Say whether the rows bear the numbers of the tile up to `end`, each once and none besides."""
        return list(self.numbers) == list(range(self.first, min(end, self.first + TILE_ENTRIES)))

    def entry(self, row: int) -> Entry:
        """Return one row as an entry."""
        named = dict(zip(_FIELDS, (column[row] for column in self.columns), strict=True))
        texts = {
            name: value.decode(errors="replace")
            for name, value in named.items()
            if isinstance(value, bytes) and name != "payload"
        }
        return Entry(**(named | texts))

    def renumbered(self, row: int, seq: int) -> bytes:
        """Return the leaf hash that a row would have under another number."""
        return hashes([[seq], *([column[row]] for column in self.columns[1:])])[0]


_FIELDS: Final = Entry.__struct_fields__


def hashes(columns: Sequence[Sequence[Any]]) -> list[bytes]:
    """Return the leaf hash of each row of columns that stand in the order of an entry's fields."""
    texts: dict[bytes, bytes] = {}
    for column in (columns[1], columns[5], columns[6], columns[7], columns[10]):
        for each in set(column):
            texts[each] = _text(each)
    numbers: dict[int, bytes] = {}
    found = []
    for seq, topic, partition, offset, event, action, source, actor, subject, time, schema, payload in zip(
        *columns, strict=True
    ):
        content = b"".join((
            b"\x00", _number(seq, numbers), texts[topic], _number(partition, numbers), _number(offset, numbers),
            _LENGTHS[len(event)] if len(event) < _SHORT else varints.encode(len(event)), event,
            texts[action], texts[source], texts[actor],
            _LENGTHS[len(subject)] if len(subject) < _SHORT else varints.encode(len(subject)), subject,
            _number(time, numbers), texts[schema], DIGEST_PREFIX, sha256(payload).hexdigest().encode(),
        ))  # fmt: skip
        found.append(sha256(content).digest())
    return found


def _number(value: int, high: dict[int, bytes]) -> bytes:
    """Write one integer as Avro does; `high` remembers what stands behind the low 14 bits."""
    raw = (value << 1) ^ (value >> 63)
    if raw <= _LOW:
        return _SMALL[raw]
    top = raw >> _LOW_BITS
    rest = high.get(top)
    if rest is None:
        rest = high[top] = varints.encode((top >> 1) ^ -(top & 1))
    return _PAIRS[raw & _LOW] + rest


def _text(text: bytes) -> bytes:
    return varints.encode(len(text)) + text


def leaf_at(leaves: bytes | memoryview, index: int) -> bytes:
    """Return one of the leaf hashes that lie one behind the other."""
    return bytes(leaves[index * HASH_BYTES : (index + 1) * HASH_BYTES])
