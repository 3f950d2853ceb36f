"""Byte strings of different lengths as columns: cut out of one buffer and woven together with no step for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, repeat

import numpy as np
import numpy.typing as npt

from interlock.codec import varints
from interlock.codec.varints import Bytes, Longs

SPREAD_MAX = 8
"""How many times wider than the mean the longest string may be, to be copied with all others at its width."""

WIDTH_MAX = 4096
"""Wider strings are copied one by one: it costs them little, and the others are not copied at their width."""

FEW = 64
"""So few strings are joined one by one: a step for each costs less than the steps that columns take at any number."""


@dataclass(frozen=True)
class Ragged:
    """Strings, each a stretch of `buffer` (uint8); `starts` and `lengths` are int64, one per string.

    Stretches may overlap and be in any order.
    """

    buffer: Bytes
    starts: Longs
    lengths: Longs

    @classmethod
    def of(cls, cells: Sequence[bytes]) -> Ragged:
        """Put strings one behind the other."""
        lengths = np.fromiter(map(len, cells), dtype=np.int64, count=len(cells))
        return cls.joined(b"".join(cells), lengths)

    @classmethod
    def joined(cls, content: bytes, lengths: Longs) -> Ragged:
        """Cut what is joined already."""
        return cls(np.frombuffer(content, dtype=np.uint8), np.cumsum(lengths) - lengths, lengths)

    @classmethod
    def table(cls, table: Bytes, lengths: Longs | None = None) -> Ragged:
        """Take the rows of a table (strings, width), of each the first `lengths` bytes or all."""
        count, width = table.shape
        buffer = np.ascontiguousarray(table).reshape(-1)
        return cls(buffer, np.arange(count) * width, np.full(count, width) if lengths is None else lengths)

    @classmethod
    def integers(cls, numbers: Longs) -> Ragged:
        """Write integers as Avro and Kafka do: zig-zag, of variable length."""
        return cls.table(*varints.write(numbers))

    def __len__(self) -> int:
        return self.starts.size

    def __getitem__(self, row: int) -> bytes:
        start = int(self.starts[row])
        return self.buffer[start : start + int(self.lengths[row])].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        content = bytes(self.content)
        for start, end in pairwise([0, *np.cumsum(self.lengths).tolist()]):
            yield content[start:end]

    def cells(self) -> Iterator[memoryview[int]]:
        """Return the strings one by one where they lie: for few of them, sooner than joining them all."""
        buffer = self.buffer.data
        for start, length in zip(self.starts.tolist(), self.lengths.tolist(), strict=True):
            yield buffer[start : start + length]

    def some(self, rows: npt.NDArray[np.intp] | slice) -> Ragged:
        """Return some of the strings; nothing is copied."""
        return Ragged(self.buffer, self.starts[rows], self.lengths[rows])

    @cached_property
    def content(self) -> memoryview:
        """All strings one behind the other; a copy only where they do not lie so."""
        ends = self.starts + self.lengths
        lie_so = not self.starts.size or bool((self.starts[1:] == ends[:-1]).all())
        whole = self if lie_so else weave([self], len(self))
        first = int(whole.starts[0]) if len(whole) else 0
        return whole.buffer[first : first + int(self.lengths.sum())].data


Part = bytes | Ragged
"""What stands at one place of every string: always the same bytes, or different ones."""


def weave(parts: Sequence[Part], count: int) -> Ragged:
    """Return `count` strings, each made of its piece of every part in turn, one behind the other.

    Pieces are copied as wide as the longest of their part; what is too much is overwritten by the part behind it.
    """
    if count <= FEW:
        columns = [repeat(part, count) if isinstance(part, bytes) else part.cells() for part in parts]
        return Ragged.of([b"".join(pieces) for pieces in zip(*columns, strict=True)])
    lengths = np.zeros(count, dtype=np.int64)
    for part in parts:
        lengths += len(part) if isinstance(part, bytes) else part.lengths
    ends = np.cumsum(lengths)
    out = np.empty(int(ends[-1]) + int(lengths.max()), dtype=np.uint8)
    position, rest = ends - lengths, lengths.copy()
    for part in parts:
        if isinstance(part, bytes):
            if part:
                windows(out, len(part))[position] = np.frombuffer(part, dtype=f"V{len(part)}")[0]
            length: int | Longs = len(part)
            rest -= length
        else:
            length = part.lengths
            rest -= length
            _copy(part, out, position, rest)
        position += length
    return Ragged(out, ends - lengths, lengths)


def _copy(part: Ragged, out: Bytes, position: Longs, rest: Longs) -> None:
    """Copy the pieces of a part to their positions; `rest` is how many bytes of its string each has behind it."""
    lengths = part.lengths
    width = int(lengths.max(initial=0))
    wide = width > WIDTH_MAX or width * lengths.size > SPREAD_MAX * max(int(lengths.sum()), lengths.size)
    if not wide and not (width - lengths > rest).any():
        _copy_as_wide(part, out, position, width)
        return
    order = np.argsort(lengths, kind="stable")
    bounds = np.flatnonzero(np.diff(lengths[order])) + 1
    for first, last in pairwise([0, *bounds.tolist(), lengths.size]):
        rows = order[first:last]
        _copy_as_wide(part.some(rows), out, position[rows], int(lengths[rows[0]]))


def _copy_as_wide(part: Ragged, out: Bytes, position: Longs, width: int) -> None:
    """Copy `width` bytes from where each piece begins; those at the buffer's end, and very wide ones, one by one."""
    if not width:
        return
    at_once = part.starts + width <= part.buffer.size if width <= WIDTH_MAX else np.zeros(len(part), dtype=np.bool_)
    if at_once.all():
        windows(out, width)[position] = windows(part.buffer, width)[part.starts]
        return
    if at_once.any():
        windows(out, width)[position[at_once]] = windows(part.buffer, width)[part.starts[at_once]]
    for row in np.flatnonzero(~at_once).tolist():
        start, to, length = int(part.starts[row]), int(position[row]), int(part.lengths[row])
        out[to : to + length] = part.buffer[start : start + length]


def windows(buffer: Bytes, width: int) -> npt.NDArray[np.void]:
    """See a buffer as all its stretches of `width` bytes, one beginning at every byte."""
    return np.ndarray((buffer.size - width + 1,), dtype=f"V{width}", buffer=buffer, strides=(1,))
