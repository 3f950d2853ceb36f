"""Proofs that some bytes stand in a message of which only the BLAKE3 digest is known.

BLAKE3 cuts a message into chunks of 1024 bytes and hashes them in a binary tree that splits at the largest power of two
below their number, as RFC 6962 does. So a chunk and its neighbours up to the root prove what the chunk holds and where
it stands (what Bao calls a verified slice). The `blake3` package gives roots only: the values inside of the tree are
computed here, all chunks at once. Source: O'Connor, Aumasson, Neves, Wilcox-O'Hearn, "BLAKE3", sections 2.1-2.5.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

CHUNK_BYTES: Final = 1024

Words = npt.NDArray[np.uint32]

_BLOCK_BYTES: Final = 64
_BLOCK_WORDS: Final = 16
_VALUE_WORDS: Final = 8
_CHUNK_START, _CHUNK_END, _PARENT = (np.uint32(1 << bit) for bit in range(3))
_IV: Final = np.array(
    [0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19], dtype=np.uint32
)
_ROUNDS: Final = 7
_PERMUTATION: Final = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8]
_COLUMNS: Final = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15))
_DIAGONALS: Final = ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))


@dataclass(frozen=True)
class Chunk:
    """A chunk of a message, and its neighbours from it up to the root."""

    index: int
    content: bytes
    path: list[bytes]


def chunks(message: bytes, ranges: Iterable[tuple[int, int]]) -> list[Chunk]:
    """Return the chunks that hold these bytes of a message (from, up to but without), each with its path."""
    last = max(len(message) - 1, 0) // CHUNK_BYTES
    wanted = {
        index
        for start, end in ranges
        if start < end
        for index in range(start // CHUNK_BYTES, (end - 1) // CHUNK_BYTES + 1)
    }
    levels = _levels(message, last + 1)
    return [
        Chunk(index, message[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES], _path(levels, index))
        for index in sorted(wanted)
    ]


def _path(levels: list[Words], index: int) -> list[bytes]:
    """Return the neighbours of a chunk; at the right edge of the tree a node without one rises as it is."""
    found = []
    for level in levels[:-1]:
        if (neighbour := index ^ 1) < len(level):
            found.append(level[neighbour].astype("<u4").tobytes())
        index >>= 1
    return found


def _levels(message: bytes, count: int) -> list[Words]:
    """Return the chaining values of all chunks, and of the nodes over them level by level: uint32 (nodes, 8)."""
    whole = len(message) // CHUNK_BYTES
    values = np.empty((count, _VALUE_WORDS), dtype=np.uint32)
    if whole:
        values[:whole] = _chained(message[: whole * CHUNK_BYTES], np.arange(whole, dtype=np.uint64), CHUNK_BYTES)
    if whole < count:
        rest = message[whole * CHUNK_BYTES :]
        values[whole:] = _chained(rest, np.array([whole], dtype=np.uint64), len(rest))
    levels = [values]
    while len(values) > 1:
        pairs = values[: len(values) // 2 * 2].reshape(-1, _BLOCK_WORDS)
        nodes = _compressed(_spread(_IV, len(pairs)), pairs.T, np.uint64(0), _BLOCK_BYTES, _PARENT)
        values = np.concatenate((nodes.T, values[len(pairs) * 2 :]))
        levels.append(values)
    return levels


def _chained(content: bytes, counters: npt.NDArray[np.uint64], chunk_bytes: int) -> Words:
    """Hash chunks of the same length that lie one behind the other: uint32 (chunks, 8)."""
    blocks = max(-(-chunk_bytes // _BLOCK_BYTES), 1)
    padded = content.ljust(len(counters) * blocks * _BLOCK_BYTES, b"\0")
    words = np.frombuffer(padded, dtype="<u4").reshape(len(counters), blocks, _BLOCK_WORDS)
    value = _spread(_IV, len(counters))
    for block in range(blocks):
        flags = (_CHUNK_START if block == 0 else np.uint32(0)) | (_CHUNK_END if block == blocks - 1 else np.uint32(0))
        length = _BLOCK_BYTES if block < blocks - 1 else chunk_bytes - (blocks - 1) * _BLOCK_BYTES
        value = _compressed(value, words[:, block].T, counters, length, flags)
    return value.T


def _compressed(
    value: Words, words: Words, counters: npt.NDArray[np.uint64] | np.uint64, length: int, flags: np.uint32
) -> Words:
    """Compress a block each into many chaining values: uint32 (8, n) and (16, n) to (8, n)."""
    state = np.empty((_BLOCK_WORDS, value.shape[1]), dtype=np.uint32)
    state[:8], state[8:12] = value, _IV[:4, None]
    state[12], state[13] = counters & np.uint64(0xFFFF_FFFF), counters >> np.uint64(32)
    state[14], state[15] = length, flags
    order = list(range(_BLOCK_WORDS))
    for _ in range(_ROUNDS):
        for place, (a, b, c, d) in enumerate((*_COLUMNS, *_DIAGONALS)):
            _mix(state, (a, b, c, d), words[order[2 * place]], words[order[2 * place + 1]])
        order = [order[each] for each in _PERMUTATION]
    return state[:8] ^ state[8:]


def _mix(state: Words, places: tuple[int, int, int, int], first: Words, second: Words) -> None:
    """Mix two words into four others, in place: the quarter round of the paper's section 2.2."""
    a, b, c, d = (state[place] for place in places)
    for word, right, then in ((first, 16, 12), (second, 8, 7)):
        a += b
        a += word
        d ^= a
        d[:] = (d >> np.uint32(right)) | (d << np.uint32(32 - right))
        c += d
        b ^= c
        b[:] = (b >> np.uint32(then)) | (b << np.uint32(32 - then))


def _spread(value: Words, count: int) -> Words:
    return np.repeat(value[:, None], count, axis=1)
