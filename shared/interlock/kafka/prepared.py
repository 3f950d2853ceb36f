"""Record batches written from columns: the bytes of the driver's own batches, with no step for each record.

The format is Kafka's message format version 2 (kafka.apache.org/documentation, "Record Batch").
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Final

import google_crc32c as crc32c
import numpy as np

from interlock.codec import varints
from interlock.codec.ragged import FEW, Part, Ragged, weave
from interlock.codec.rows import LARGE_BYTES
from interlock.codec.varints import Bytes, Longs

_BEFORE: Final = struct.Struct(">qiibI")
_AFTER_CRC: Final = struct.Struct(">hiqqqhii")
_HEADER_BYTES: Final = _BEFORE.size + _AFTER_CRC.size
_AFTER_LENGTH_AT: Final = 12
_MAGIC: Final = 2
_NO_LEADER_EPOCH: Final = -1
_TRANSACTIONAL: Final = 0x10
_RECORD_OVERHEAD: Final = 26
"""What a record takes at most besides key, value and headers: five numbers of five bytes, and its attributes."""
_NOTHING_BEFORE: Final = b"\x00\x00"  # no attributes, and the same time as the batch
_NO_HEADERS: Final = b"\x00"

Headers = Sequence[tuple[str, bytes]]

Piece = bytes | Bytes


@dataclass(frozen=True)
class Pieces:
    """Bytes that are joined only where a request is written."""

    parts: list[Piece]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __bytes__(self) -> bytes:
        return b"".join(map(memoryview, self.parts))  # type: ignore[arg-type]  # arrays of bytes are buffers


Record = tuple[bytes | None, bytes | Pieces, Headers]
"""Key, value and headers of a record to be written."""


@dataclass(frozen=True)
class Rows:
    """Records of one topic as columns: keys, of which some may be missing, values, and the headers of a few."""

    keys: Sequence[bytes | None]
    values: Ragged
    headers: Mapping[int, Headers] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Sequence[Record]) -> Rows:
        """Put records into columns."""
        return cls(
            [key for key, _, _ in records],
            Ragged.of([bytes(value) for _, value, _ in records]),
            {row: headers for row, (_, _, headers) in enumerate(records) if headers},
        )

    def __len__(self) -> int:
        return len(self.values)


class Prepared:
    """A record batch that is written already but for its producer; the driver sends it like one of its own."""

    def __init__(self, records: Pieces, count: int, timestamp: int, *, transactional: bool) -> None:
        self._records = records
        self._count = count
        self._timestamp = timestamp
        self._attributes = _TRANSACTIONAL if transactional else 0
        self._producer = (-1, -1, -1)

    def record_count(self) -> int:
        """Return how many records there are."""
        return self._count

    def size(self) -> int:
        """Return the bytes of the batch."""
        return _HEADER_BYTES + len(self._records)

    def close(self) -> None:
        """Do nothing: a prepared batch takes no more records."""

    def closed(self) -> bool:
        """Say that it takes no more records."""
        return True

    def append(self, **_: object) -> None:
        """Take no more records, as the driver's batches say when they are full."""

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> Pieces:
        """Return header and records; called by the driver when the batch is sent, and again when it is sent again."""
        last, stamp = self._count - 1, self._timestamp
        rest = _AFTER_CRC.pack(self._attributes, last, stamp, stamp, *self._producer, self._count)
        checksum = crc32c.value(rest)
        for piece in self._records.parts:
            checksum = crc32c.extend(checksum, piece)
        length = _HEADER_BYTES - _AFTER_LENGTH_AT + len(self._records)
        head = _BEFORE.pack(0, length, _NO_LEADER_EPOCH, _MAGIC, checksum)
        return Pieces([head, rest, *self._records.parts])


def prepared(
    records: Sequence[Record] | Rows, timestamp: int, bytes_max: int, *, transactional: bool = True
) -> list[Prepared]:
    """Write records into as few batches of `bytes_max` as fit; one larger than that gets a batch of its own.

    `timestamp` (milliseconds since 1970) stamps every record.
    """
    if not isinstance(records, Rows) and len(records) > FEW:
        records = Rows.of(records)
    bytes_each, write = _columns(records) if isinstance(records, Rows) else _singles(records)
    return [
        Prepared(write(part), part.stop - part.start, timestamp, transactional=transactional)
        for part in _cut(bytes_each, bytes_max - _HEADER_BYTES)
    ]


Write = Callable[[slice], Pieces]


def _singles(records: Sequence[Record]) -> tuple[Longs, Write]:
    """Return how many bytes each of a few records takes at most, and what writes a stretch of them."""
    ends = [_end(headers) for _, _, headers in records]
    sizes = [
        len(key or b"") + len(value) + len(end) + _RECORD_OVERHEAD
        for (key, value, _), end in zip(records, ends, strict=True)
    ]

    def write(part: slice) -> Pieces:
        rows = ((key, value, end) for (key, value, _), end in zip(records[part], ends[part], strict=True))
        return Pieces(_gathered(_one_by_one(rows)))

    return np.array(sizes, dtype=np.int64), write


def _columns(rows: Rows) -> tuple[Longs, Write]:
    """Return the same for records in columns."""
    told = np.fromiter((-1 if key is None else len(key) for key in rows.keys), dtype=np.int64, count=len(rows))
    keys = Ragged.joined(b"".join(key for key in rows.keys if key), np.maximum(told, 0))
    headers = _headers(rows)
    bytes_each = rows.values.lengths + keys.lengths + _RECORD_OVERHEAD
    if isinstance(headers, Ragged):
        bytes_each += headers.lengths

    def write(part: slice) -> Pieces:
        values, ends = rows.values.some(part), headers if isinstance(headers, bytes) else headers.some(part)
        if len(values) > FEW:
            return _woven(told[part], keys.some(part), values, ends)
        cells = repeat(ends, len(values)) if isinstance(ends, bytes) else ends.cells()
        return Pieces(_gathered(_one_by_one(zip(rows.keys[part], values.cells(), cells, strict=True))))

    return bytes_each, write


def _woven(told: Longs, keys: Ragged, values: Ragged, headers: Part) -> Pieces:
    """Write records one behind the other; `told` are the keys' lengths, or -1."""
    count = told.size
    offsets, key_lengths = varints.write(np.arange(count)), varints.write(told)
    value_lengths = varints.write(values.lengths)
    after = headers.lengths if isinstance(headers, Ragged) else len(headers)
    lengths = offsets[1] + key_lengths[1] + keys.lengths + value_lengths[1] + values.lengths + after
    parts: list[Part] = [
        Ragged.integers(lengths + len(_NOTHING_BEFORE)),
        _NOTHING_BEFORE,
        Ragged.table(*offsets),
        Ragged.table(*key_lengths),
        keys,
        Ragged.table(*value_lengths),
        values,
        headers,
    ]
    return Pieces([_whole(weave(parts, count))])


Cell = bytes | memoryview


def _one_by_one(rows: Iterable[tuple[bytes | None, Cell | Pieces, Cell]]) -> Iterator[Cell | Piece]:
    """Write key, value and end of records of which there are few: a step for each costs nothing."""
    for number, (key, value, end) in enumerate(rows):
        key_length = -1 if key is None else len(key)
        numbers = varints.encode(number), varints.encode(key_length), key or b"", varints.encode(len(value))
        head = _NOTHING_BEFORE + b"".join(numbers)
        yield varints.encode(len(head) + len(value) + len(end)) + head
        yield from value.parts if isinstance(value, Pieces) else (value,)
        yield end


def _gathered(pieces: Iterable[Cell | Piece]) -> list[Piece]:
    """Join what is small, and leave apart until the request is written what is large."""
    found: list[Piece] = []
    small: list[Cell | Piece] = []
    for each in pieces:
        if len(each) < LARGE_BYTES:
            small.append(each)
        else:
            found += [b"".join(small), np.frombuffer(each, np.uint8)]  # type: ignore[arg-type]  # buffers, all of them
            small = []
    return [*found, b"".join(small)]  # type: ignore[arg-type]  # as above


def _whole(woven: Ragged) -> Piece:
    return woven.buffer[: int(woven.lengths.sum())]


def _cut(bytes_each: Longs, bytes_max: int) -> Iterator[slice]:
    """Cut records into stretches of at most `bytes_max` together."""
    ends = np.cumsum(bytes_each)
    first = 0
    while first < ends.size:
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + bytes_max, side="right")))
        yield slice(first, last)
        first = last


def _headers(rows: Rows) -> Part:
    """Return the end of each record: the number of its headers, and they."""
    if not rows.headers:
        return _NO_HEADERS
    ends = [_NO_HEADERS] * len(rows)
    for row, headers in rows.headers.items():
        ends[row] = _end(headers)
    return Ragged.of(ends)


def _end(headers: Headers) -> bytes:
    """Return the end of one record."""
    return varints.encode(len(headers)) + b"".join(
        varints.encode_text(name) + varints.encode(len(value)) + value for name, value in headers
    )
