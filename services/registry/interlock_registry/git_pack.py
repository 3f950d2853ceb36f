"""A received pack, measured before anything is unpacked: no small push may become large on the disk or in memory."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import BinaryIO, Final

from interlock.errors import Refusal
from interlock_registry import errors

_OFFSET_DELTA: Final = 6
_REFERENCE_DELTA: Final = 7
_TYPES: Final = frozenset({1, 2, 3, 4, _OFFSET_DELTA, _REFERENCE_DELTA})
_READ_BYTES: Final = 64 * 1024
_VARINT_BYTES_MAX: Final = 10
_TRAILER_BYTES: Final = 20


@dataclass(frozen=True)
class Bounds:
    """What one push may bring: objects, bytes of one of them, and bytes of all of them, uncompressed."""

    objects: int
    object_bytes: int
    inflated_bytes: int


class _Reader:
    """Reads a file with a buffer that bytes can be given back to."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._buffer = b""

    def some(self) -> bytes:
        """Return what comes next, at least one byte; raises Refusal at the end."""
        data, self._buffer = self._buffer or self._file.read(_READ_BYTES), b""
        if not data:
            raise _malformed("the pack ends too early")
        return data

    def give_back(self, data: bytes) -> None:
        """Put bytes back in front."""
        self._buffer = data + self._buffer

    def exactly(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        data = b""
        while len(data) < count:
            data += self.some()
        self.give_back(data[count:])
        return data[:count]


def measure(file: BinaryIO, bounds: Bounds) -> int:
    """Read a whole pack from `file` and return the number of its objects.

    Every object is inflated piece by piece and thrown away: what it says of its size is checked, and for a delta
    also the size of what it would become. Raises Refusal(PUSH_MALFORMED | PUSH_TOO_LARGE).
    """
    reader = _Reader(file)
    head = reader.exactly(12)
    version, count = int.from_bytes(head[4:8], "big"), int.from_bytes(head[8:12], "big")
    if head[:4] != b"PACK" or version not in (2, 3):
        raise _malformed("it holds no git pack")
    if count > bounds.objects:
        raise Refusal(errors.PUSH_TOO_LARGE, f"The push brings {count} objects; {bounds.objects} are accepted.")
    total = 0
    for _ in range(count):
        total += _measure_object(reader, bounds)
        if total > bounds.inflated_bytes:
            raise Refusal(
                errors.PUSH_TOO_LARGE,
                f"The push holds more than {bounds.inflated_bytes} bytes when uncompressed.",
            )
    reader.exactly(_TRAILER_BYTES)
    return count


def _measure_object(reader: _Reader, bounds: Bounds) -> int:
    kind, size = _object_head(reader)
    if kind == _OFFSET_DELTA:
        _skip_varint(reader)
    elif kind == _REFERENCE_DELTA:
        reader.exactly(20)
    if size > bounds.object_bytes:
        raise _object_too_large(size, bounds)
    start = _inflate(reader, size)
    if kind not in (_OFFSET_DELTA, _REFERENCE_DELTA):
        return size
    grown = _delta_result_bytes(start)
    if grown > bounds.object_bytes:
        raise _object_too_large(grown, bounds)
    return size + grown


def _object_head(reader: _Reader) -> tuple[int, int]:
    byte = reader.exactly(1)[0]
    kind, size, shift = (byte >> 4) & 7, byte & 15, 4
    while byte & 0x80:
        if shift > 60:
            raise _malformed("an object's size is not a number")
        byte = reader.exactly(1)[0]
        size |= (byte & 0x7F) << shift
        shift += 7
    if kind not in _TYPES:
        raise _malformed(f"an object is of the unknown type {kind}")
    return kind, size


def _skip_varint(reader: _Reader) -> None:
    for _ in range(_VARINT_BYTES_MAX):
        if not reader.exactly(1)[0] & 0x80:
            return
    raise _malformed("a delta's offset is not a number")


def _inflate(reader: _Reader, size: int) -> bytes:
    """Inflate one object of `size` bytes and return its first bytes, enough for a delta's two sizes."""
    inflater = zlib.decompressobj()
    start, seen, data = b"", 0, b""
    while not inflater.eof:
        data = data or reader.some()
        try:
            piece = inflater.decompress(data, _READ_BYTES)
        except zlib.error as error:
            raise _malformed("an object does not inflate") from error
        data = inflater.unconsumed_tail
        seen += len(piece)
        start += piece[: 2 * _VARINT_BYTES_MAX - len(start)]
        if seen > size:
            raise _malformed("an object is longer than it says")
    if seen != size:
        raise _malformed("an object is shorter than it says")
    reader.give_back(inflater.unused_data)
    return start


def _delta_result_bytes(start: bytes) -> int:
    _, place = _varint(start, 0)
    size, _ = _varint(start, place)
    return size


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(data) and shift <= 7 * _VARINT_BYTES_MAX:
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if not byte & 0x80:
            return value, place
    raise _malformed("a delta does not say its sizes")


def _malformed(what: str) -> Refusal:
    return Refusal(errors.PUSH_MALFORMED, f"The push is broken: {what}.")


def _object_too_large(size: int, bounds: Bounds) -> Refusal:
    return Refusal(
        errors.PUSH_TOO_LARGE,
        f"The push holds a file of {size} bytes; {bounds.object_bytes} are accepted for one file.",
    )
