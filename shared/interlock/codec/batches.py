"""What the audit log keeps of a batch: the roots of two small Merkle trees, over its requests and over its results.

A leaf holds `leaf_rows` values, so that a tree costs the lane little and a proof of one value still shows few others.
Its content is their number, then all their lengths, then the values: four bytes big-endian for each number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from interlock import merkle
from interlock.codec.ragged import Ragged
from interlock.ids import digest_text

LEAF_ROWS = 64
"""Values in a leaf: measured (ADR 0010); fewer cost the lane more hashes, more make a proof larger."""

NUMBER_BYTES = 4

NO_VALUE = 0xFFFFFFFF
"""What stands in place of the length of a request without a value."""

_LEAF = b"\x00"  # the byte before a leaf's content, RFC 6962 section 2.1


@dataclass(frozen=True)
class Joined:
    """Values one behind the other, and how long each is: int64, NO_VALUE where there is none."""

    lengths: npt.NDArray[np.int64]
    content: bytes | memoryview

    @classmethod
    def of(cls, values: Sequence[bytes | None] | Ragged) -> Joined:
        """Join values; those of a column lie joined already."""
        if isinstance(values, Ragged):
            return cls(values.lengths, values.content)
        try:
            lengths = np.fromiter(map(len, values), dtype=np.int64, count=len(values))  # type: ignore[arg-type]  # see below
        except TypeError:  # there is a None, as seldom happens
            told = [NO_VALUE if value is None else len(value) for value in values]
            return cls(np.array(told, dtype=np.int64), b"".join(value for value in values if value is not None))
        return cls(lengths, b"".join(values))  # type: ignore[arg-type]  # all of them have a length


def results_root(values: Sequence[bytes] | Ragged, leaf_rows: int = LEAF_ROWS) -> str:
    """Return `sha256:` and the RFC 6962 root over a batch's framed results, in the order of their offsets."""
    return _root(Joined.of(values), leaf_rows)


def requests_digest(values: Sequence[bytes | None] | Ragged, leaf_rows: int = LEAF_ROWS) -> str:
    """Return the same over the values of a batch's requests, of which some may be missing."""
    return _root(Joined.of(values), leaf_rows)


def _root(joined: Joined, leaf_rows: int = LEAF_ROWS) -> str:
    """Return the same over values that are joined already."""
    return digest_text(merkle.root(_leaf_hashes(joined, leaf_rows)))


def leaf_of(values: Sequence[bytes | None]) -> bytes:
    """Return the content of the leaf that holds these values."""
    joined = Joined.of(values)
    return _head(len(values), joined.lengths.astype(">u4").tobytes()) + bytes(joined.content)


def proof_of(values: Sequence[bytes | None], row: int, leaf_rows: int = LEAF_ROWS) -> tuple[bytes, list[bytes]]:
    """Return the leaf that holds value `row` of a batch, and the neighbours from it up to the root.

    Raises IndexError for a row that is not there. `merkle.verify_inclusion(merkle.leaf_hash(leaf), row // leaf_rows,
    ceil(rows / leaf_rows), path, root)` checks it.
    """
    if not 0 <= row < len(values):
        raise IndexError(f"there is no row {row} among {len(values)}")
    index = row // leaf_rows
    leaf = leaf_of(values[index * leaf_rows : (index + 1) * leaf_rows])
    return leaf, merkle.inclusion_path(_leaf_hashes(Joined.of(values), leaf_rows), index)


def _leaf_hashes(joined: Joined, leaf_rows: int) -> list[bytes]:
    """Hash leaf after leaf, cut out of the joined values without any work per value."""
    lengths, content = joined.lengths, memoryview(joined.content)
    told = lengths.astype(">u4").tobytes()
    starts = np.arange(0, lengths.size, leaf_rows)
    ends = np.cumsum(np.add.reduceat(np.where(lengths == NO_VALUE, 0, lengths), starts)).tolist() if starts.size else []
    hashes = []
    for start, (first, last) in zip(starts.tolist(), pairwise([0, *ends]), strict=True):
        part = told[NUMBER_BYTES * start : NUMBER_BYTES * (start + leaf_rows)]
        leaf = sha256(_LEAF + _head(len(part) // NUMBER_BYTES, part))
        leaf.update(content[first:last])
        hashes.append(leaf.digest())
    return hashes


def _head(count: int, lengths: bytes) -> bytes:
    return count.to_bytes(NUMBER_BYTES, "big") + lengths
