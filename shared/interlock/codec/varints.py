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


def read(buffer: Bytes, position: Longs) -> tuple[Longs, Longs, Flags]:
    """Read one integer at each position: values, positions behind them, and a flag where no integer fits 64 bits.

    The caller checks the new positions against the end of each record, and pads the buffer by BYTES_MAX.
    """
    first = buffer[position]
    after = position + 1
    raw = first.astype(np.uint64)
    broken = np.zeros(position.size, dtype=np.bool_)
    more = np.flatnonzero(first >= 0x80)
    if more.size:
        raw &= _LOW
        shift = 7
        while more.size and shift < 7 * BYTES_MAX:
            byte = buffer[after[more]]
            raw[more] |= (byte.astype(np.uint64) & _LOW) << np.uint64(shift)
            after[more] += 1
            if shift == 63:
                broken[more[byte > 1]] = True
            more = more[byte >= 0x80]
            shift += 7
    value = (raw >> _ONE).view(np.int64) ^ -(raw & _ONE).view(np.int64)
    return cast("Longs", value), after, broken


def write(values: Longs) -> tuple[npt.NDArray[np.uint8], Longs]:
    """Write many integers: a (count, BYTES_MAX) table of bytes, and how many of each row count."""
    raw = ((values << 1) ^ (values >> 63)).view(np.uint64)
    table = np.zeros((values.size, BYTES_MAX), dtype=np.uint8)
    length = np.ones(values.size, dtype=np.int64)
    more = np.arange(values.size)
    for column in range(BYTES_MAX):
        rest = raw[more]
        table[more, column] = (rest & _LOW).astype(np.uint8)
        rest = rest >> np.uint64(7)
        going = rest > 0
        more = more[going]
        if not more.size:
            break
        table[more, column] |= 0x80
        raw[more] = rest[going]
        length[more] += 1
    return table, length


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
