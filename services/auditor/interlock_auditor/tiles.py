"""Tiles: the rows of the table, 256 at a time, and the leaf hashes that follow from them, made fast.

The bytes are the same as `entry.encode` makes; a test holds the two against each other. A tile does not change, so
its hashes are made once, however often it is looked at. Little is imported here: who hashes in a process of its own
(`verify_worker`) is to be there at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from interlock.codec import varints
from interlock.merkle import HASH_BYTES

if TYPE_CHECKING:
    from interlock_auditor.entry import Entry

TILE_ENTRIES: Final = 256
COLUMNS: Final = 12
NUMBERS: Final = frozenset({0, 2, 3, 9})
"""The places of the columns that are numbers; all others are text, and the last one bytes."""
PAYLOAD: Final = COLUMNS - 1
"""The place of the payload, which is the last column."""
DIGEST_PREFIX: Final = b"\x8e\x01sha256:"
"""What stands before the payload's digest: the length of the text, 71 letters, as Avro writes it, and its kind."""
NULL_NUMBER: Final = -(2**62)
NULL_TEXT: Final = b"\x00NULL"
"""What a row is hashed with where it was forged to have no value: nothing that a record could have brought about."""
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
        return cls.of_rows(first, [msgspec.structs.astuple(entry) for entry in entries])

    @classmethod
    def of_rows(cls, first: int, rows: Sequence[Sequence[Any]]) -> Self:
        """Return the tile of rows that hold an entry's fields in their order, texts as text."""
        columns = [[_plain(value, place) for value in column] for place, column in enumerate(zip(*rows, strict=True))]
        return cls(first, columns or [[]] * COLUMNS)

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

    def renumbered(self, row: int, seq: int) -> bytes:
        """Return the leaf hash that a row would have under another number."""
        return hashes([[seq], *([column[row]] for column in self.columns[1:])])[0]


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


def _plain(value: Any, place: int) -> Any:
    """Return a value as a column has it: text as UTF-8, and something that no record has where there is no value."""
    if value is None:
        return NULL_NUMBER if place in NUMBERS else NULL_TEXT
    return value.encode() if isinstance(value, str) else value


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
