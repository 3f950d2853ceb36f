"""Avro's zig-zag variable-length integers, many at a time."""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

BYTES_MAX = 10
"""A 64-bit integer takes at most so many bytes; readers need so much padding behind the last record."""

_ONE = np.uint64(1)
_LOW = np.uint64(0x7F)
_SEVEN = np.uint8(0x7F)
_GOES_ON = np.uint8(0x80)
_SPREAD_BYTES_MAX = 8
_HALVES = tuple(
    (np.uint64(low), np.uint64(high), np.uint64(shift))
    for low, high, shift in (
        (0x0000_0000_0FFF_FFFF, 0x00FF_FFFF_F000_0000, 4),
        (0x0000_3FFF_0000_3FFF, 0x0FFF_C000_0FFF_C000, 2),
        (0x007F_007F_007F_007F, 0x3F80_3F80_3F80_3F80, 1),
    )
)
_MARKS = np.array([int.from_bytes(b"\x80" * max(length - 1, 0), "little") for length in range(9)], dtype="<u8")
"""By length, the bits that say that an integer goes on."""
_SHORT = np.array([raw if raw < 0x80 else raw & 0x7F | 0x80 | raw >> 7 << 8 for raw in range(1 << 14)], dtype="<u2")
"""What integers of one or two bytes are written as."""


def read(buffer: Bytes, position: Longs) -> tuple[Longs, Longs, Flags]:
    """Read one integer at each position: values, positions behind them, and a flag where none can be meant.

    That is one of more than 64 bits, or one in more bytes than it takes: every integer has one spelling here, so that
    what was accepted is byte for byte what its record would be written as. No writer makes another one.

    The caller checks the new positions against the end of each record, and pads the buffer by BYTES_MAX.
    """
    first = buffer[position]
    after = position + 1
    raw = first.astype(np.uint64)
    broken = np.zeros(position.size, dtype=np.bool_)
    more = np.flatnonzero(first >= 0x80)
    if more.size:
        raw &= _LOW
        if more.size == position.size:
            shift, more = _read_together(buffer, raw, after, broken)
        else:
            shift = 7
        while more.size and shift < 7 * BYTES_MAX:
            byte = buffer[after[more]]
            raw[more] |= (byte.astype(np.uint64) & _LOW) << np.uint64(shift)
            after[more] += 1
            broken[more[byte == 0]] = True
            if shift == 63:
                broken[more[byte > 1]] = True
            more = more[byte >= 0x80]
            shift += 7
    value = (raw >> _ONE).view(np.int64) ^ -(raw & _ONE).view(np.int64)
    return cast("Longs", value), after, broken


def _read_together(
    buffer: Bytes, raw: npt.NDArray[np.uint64], after: Longs, broken: Flags
) -> tuple[int, npt.NDArray[np.intp]]:
    """Read on as long as every integer goes on, which times do; return how far, and the rows that still go on."""
    shift, every = 7, np.arange(raw.size)
    while shift < 7 * (BYTES_MAX - 1):
        byte = buffer[after]
        raw |= (byte.astype(np.uint64) & _LOW) << np.uint64(shift)
        after += 1
        shift += 7
        goes_on = byte >= 0x80
        if not goes_on.all():
            broken |= byte == 0
            return shift, every[goes_on]
    return shift, every


def write(values: Longs) -> tuple[Bytes, Longs]:
    """Write many integers: a table of bytes, at least as wide as the longest takes, and how many of each row count."""
    raw = ((values << 1) ^ (values >> 63)).view(np.uint64)
    highest = int(raw.max(initial=0))
    if highest < _GOES_ON:
        return raw.astype(np.uint8)[:, None], np.ones(values.size, dtype=np.int64)
    if highest < _SHORT.size:
        return _SHORT.take(raw.view(np.int64)).view(np.uint8).reshape(-1, 2), 1 + (raw >= _GOES_ON)
    width, certain = _bytes(highest), _bytes(int(raw.min()))
    length = np.full(values.size, certain, dtype=np.int64)
    for column in range(certain, width):
        length += raw >= np.uint64(1 << 7 * column)
    if width > _SPREAD_BYTES_MAX:
        return _write_by_column(raw, length, width), length
    marks = _MARKS[certain] if certain == width else _MARKS[length]
    spread = (_spread(raw) | marks).astype("<u8", copy=False)
    return spread.view(np.uint8).reshape(-1, _SPREAD_BYTES_MAX), length


def _spread(raw: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Put each seven bits of 56 into a byte of their own: halves first, then quarters, then eighths."""
    for low, high, shift in _HALVES:
        raw = (raw & low) | ((raw & high) << shift)
    return raw


def _write_by_column(raw: npt.NDArray[np.uint64], length: Longs, width: int) -> Bytes:
    """Write integers of any size, byte by byte."""
    table = np.empty((raw.size, width), dtype=np.uint8)
    for column in range(width):
        table[:, column] = (raw >> np.uint64(7 * column)).astype(np.uint8) & _SEVEN
        table[length > column + 1, column] |= _GOES_ON
    return table


def _bytes(raw: int) -> int:
    return max(1, -(-raw.bit_length() // 7))


def encode(value: int) -> bytes:
    """Write one integer."""
    raw = (value << 1) ^ (value >> 63)
    parts = bytearray()
    while raw > 0x7F:
        parts.append((raw & 0x7F) | 0x80)
        raw >>= 7
    parts.append(raw)
    return bytes(parts)


def encode_text(text: str) -> bytes:
    """Write a string as Avro does: its length in bytes, then its UTF-8."""
    content = text.encode()
    return encode(len(content)) + content
