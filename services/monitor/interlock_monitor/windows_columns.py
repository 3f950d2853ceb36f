"""How the columns of a window are spread: exact counts, sketches, and ranks at the edges of the reference's grid."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from interlock.schemas.events import FeatureSketch
from interlock.sketches import Floats, InvalidSketch, Kll

PENDING_ROWS: Final = 16_384

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Grid:
    """Where the cells of each column end: a reference's edges by column, and a name that only the same edges have."""

    name: str
    edges: Mapping[str, Floats]


@dataclass(frozen=True)
class FeatureState:
    """One column of a window.

    `count` are the finite values; `missing` all others, of which `infinite` were infinite. `minimum` and `maximum` are
    None where there is no value; `mean` is None there too, and where sketches came in place of columns. `ranks` is the
    count of values up to each edge of the reference (the edge included), None if the grid was not known in time, and
    within the sketches' error where `approximate`.
    """

    name: str
    count: int
    missing: int
    infinite: int
    minimum: float | None
    maximum: float | None
    mean: float | None
    kll: Kll
    ranks: Counts | None
    approximate: bool = False

    @property
    def rows(self) -> int:
        """How many rows the window has."""
        return self.count + self.missing

    @property
    def missing_rate(self) -> float:
        """The share of rows without a finite value."""
        return self.missing / self.rows if self.rows else 0.0

    def quantile(self, share: float) -> float | None:
        """Return the value below which that share (0 to 1) lies, its rank within 1 %; None where there is no value."""
        return self.kll.quantile(share) if self.count else None

    @property
    def counted(self) -> bool:
        """Whether the ranks were counted value by value, not taken from a sketch."""
        return self.ranks is not None and not self.approximate

    def ranks_at(self, edges: Floats) -> Counts:
        """Return the count of values up to each edge of the grid: what was counted, else what the sketch says."""
        if self.ranks is not None:
            return self.ranks
        if not self.count:
            return np.zeros(len(edges), dtype=np.int64)
        return np.rint(self.kll.cdf(edges) * self.count).astype(np.int64)


@dataclass(frozen=True)
class Pane:
    """Some rows told by sketches, one for each column in order; a sketch lacks the rows that had no value."""

    rows: int
    klls: tuple[Kll, ...]

    @classmethod
    def of(cls, names: Sequence[str], sketches: Sequence[FeatureSketch]) -> Self:
        """Read the sketches of these columns. Raises ValueError, InvalidSketch among them."""
        rows = {sketch.rows for sketch in sketches}
        if [sketch.name for sketch in sketches] != list(names) or len(rows) != 1:
            raise ValueError("a pane has other sketches than one of each column, over the same rows")
        klls = tuple(Kll.from_bytes(sketch.kll) for sketch in sketches)
        for sketch, kll in zip(sketches, klls, strict=True):
            if not 0 <= kll.count == sketch.rows - sketch.missing <= sketch.rows:
                raise InvalidSketch(f"{sketch.name}: {kll.count} values of {sketch.rows} less {sketch.missing} missing")
        return cls(rows.pop(), klls)


class _Kept(msgspec.Struct, array_like=True):
    """What `Columns.to_bytes` writes; arrays as little-endian bytes."""

    names: tuple[str, ...]
    grid: str | None
    approximate: bool
    integers: bytes
    floats: bytes
    ranks: list[bytes | None]
    klls: list[bytes]


class Columns(Mapping[str, FeatureState]):
    """The columns of one window, by name; rows are added as a matrix, and reading settles what was added.

    Counts do not depend on the order in which rows come or parts are merged. `approximate` says that sketches came in
    place of columns: `ranks` are then within the sketches' error, and the mean is not known.
    """

    def __init__(self, names: Sequence[str] = (), grid: Grid | None = None) -> None:
        self.names = tuple(names)
        self.approximate = False
        self._index = {name: place for place, name in enumerate(self.names)}
        self._grid = grid
        self._grid_name = None if grid is None else grid.name
        size = len(self.names)
        self._rows = 0
        self._missing = np.zeros(size, dtype=np.int64)
        self._infinite = np.zeros(size, dtype=np.int64)
        self._minimum = np.full(size, math.inf)
        self._maximum = np.full(size, -math.inf)
        self._total = np.zeros(size)
        self._klls = [Kll() for _ in self.names]
        self._ranks: list[Counts | None] = [
            None if edges is None else np.zeros(len(edges), dtype=np.int64) for edges in map(self._edges, self.names)
        ]
        self._pending: list[Floats] = []
        self._pending_rows = 0

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __getitem__(self, name: str) -> FeatureState:
        place = self._index[name]
        self._settle()
        missing = int(self._missing[place])
        count = self._rows - missing
        known = count > 0 and math.isfinite(self._total[place])
        return FeatureState(
            name=name,
            count=count,
            missing=missing,
            infinite=int(self._infinite[place]),
            minimum=float(self._minimum[place]) if count else None,
            maximum=float(self._maximum[place]) if count else None,
            mean=float(self._total[place]) / count if known else None,
            kll=self._klls[place],
            ranks=self._ranks[place],
            approximate=self.approximate,
        )

    @property
    def rows(self) -> int:
        """How many rows were added."""
        return self._rows + self._pending_rows

    @property
    def grid(self) -> str | None:
        """The name of the grid that `ranks` were counted on; None if they were not."""
        return self._grid_name

    def adopt(self, names: Sequence[str], grid: Grid | None) -> None:
        """Take the names, while nothing was added, and the grid to count by.

        Raises ValueError if the rows that are there have other columns. If they were counted by another grid, or by
        none, counting by one ends: half a count is none.
        """
        if tuple(names) != self.names:
            if self.rows:
                raise ValueError(f"a window with the columns {', '.join(self.names)} was given {', '.join(names)}")
            self.__init__(names, grid)  # type: ignore[misc]  # nothing is in it yet: it begins anew
        elif grid is not self._grid or (grid is None and self._grid_name is not None):
            self._change_grid(grid)

    def add(self, matrix: Floats) -> None:
        """Add rows: float64 of shape (columns, rows), kept a while; a value that is not finite is missing."""
        if matrix.shape[0] != len(self.names):
            raise ValueError(f"{matrix.shape[0]} columns for the names {', '.join(self.names)}")
        if not matrix.shape[1]:
            return
        self._pending.append(matrix)
        self._pending_rows += matrix.shape[1]
        if self._pending_rows >= PENDING_ROWS:
            self._settle()

    def add_sketches(self, pane: Pane) -> None:
        """Add the rows of one pane, told by one sketch for each column."""
        self._settle()
        self.approximate = True
        self._rows += pane.rows
        self._total[:] = math.nan
        for place, kll in enumerate(pane.klls):
            self._missing[place] += pane.rows - kll.count
            if not kll.count:
                continue
            self._minimum[place] = min(self._minimum[place], kll.minimum)
            self._maximum[place] = max(self._maximum[place], kll.maximum)
            ranks, edges = self._ranks[place], self._edges(self.names[place])
            if ranks is not None and edges is not None:
                ranks += np.rint(kll.cdf(edges) * kll.count).astype(np.int64)
            self._klls[place].merge(kll)

    def merge(self, other: Columns) -> None:
        """Add what the other one has. Raises ValueError if it has other columns."""
        if not other.rows and not other.names:
            return
        if not self.rows:
            self.adopt(other.names, other._grid)
            self._grid_name = other._grid_name
            self._ranks = [None if ranks is None else np.zeros_like(ranks) for ranks in other._ranks]
        if other.names != self.names:
            raise ValueError(f"columns {', '.join(other.names)} do not go into {', '.join(self.names)}")
        self._settle()
        other._settle()
        self.approximate |= other.approximate
        self._rows += other._rows
        self._missing += other._missing
        self._infinite += other._infinite
        np.minimum(self._minimum, other._minimum, out=self._minimum)
        np.maximum(self._maximum, other._maximum, out=self._maximum)
        self._total += other._total
        for mine, others in zip(self._klls, other._klls, strict=True):
            mine.merge(others)
        if not other._rows:
            return
        if self._grid_name != other._grid_name:
            self._forget_ranks()
        for ranks, counted in zip(self._ranks, other._ranks, strict=True):
            if ranks is not None and counted is not None:
                np.add(ranks, counted, out=ranks)

    def to_bytes(self) -> bytes:
        """Return the columns as bytes, without the grid's edges."""
        self._settle()
        integers = np.concatenate(([self._rows], self._missing, self._infinite)).astype("<i8")
        kept = _Kept(
            names=self.names,
            grid=self._grid_name,
            approximate=self.approximate,
            integers=integers.tobytes(),
            floats=np.concatenate((self._minimum, self._maximum, self._total)).astype("<f8").tobytes(),
            ranks=[None if ranks is None else ranks.astype("<i8").tobytes() for ranks in self._ranks],
            klls=[kll.to_bytes() for kll in self._klls],
        )
        return msgspec.msgpack.encode(kept)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote. Raises InvalidSketch."""
        try:
            kept = msgspec.msgpack.decode(data, type=_Kept)
            size = len(kept.names)
            integers = np.frombuffer(kept.integers, dtype="<i8").reshape(1 + 2 * size)
            floats = np.frombuffer(kept.floats, dtype="<f8").reshape(3, size)
            ranks = [None if each is None else np.frombuffer(each, dtype="<i8").copy() for each in kept.ranks]
        except (msgspec.MsgspecError, ValueError) as error:
            raise InvalidSketch(f"a window's columns: {error}") from error
        result = cls(kept.names)
        result.approximate = kept.approximate
        result._grid_name = kept.grid
        result._rows = int(integers[0])
        result._missing, result._infinite = integers[1 : 1 + size].copy(), integers[1 + size :].copy()
        result._minimum, result._maximum, result._total = (row.copy() for row in floats)
        result._ranks = list(ranks)
        result._klls = [Kll.from_bytes(each) for each in kept.klls]
        result._check()
        return result

    def _check(self) -> None:
        counts = self._rows - self._missing
        whole = len(self._ranks) == len(self._klls) == len(self.names) == len(self._index)
        if not whole or self._rows < 0 or (self._infinite < 0).any() or (self._infinite > self._missing).any():
            raise InvalidSketch("a window's columns have impossible counts")
        if any(kll.count != count for kll, count in zip(self._klls, counts.tolist(), strict=True)):
            raise InvalidSketch("a window's sketches do not have the values that it counted")
        for ranks, count in zip(self._ranks, counts.tolist(), strict=True):
            if ranks is not None and ranks.size and not (ranks[0] >= 0 and ranks[-1] <= count and _rises(ranks)):
                raise InvalidSketch("a window's ranks do not rise to its count")

    def _edges(self, name: str) -> Floats | None:
        return None if self._grid is None else self._grid.edges.get(name)

    def _change_grid(self, grid: Grid | None) -> None:
        self._settle()
        name = None if grid is None else grid.name
        known, self._grid = self._grid_name, grid
        if name == known:
            return
        self._grid_name = name
        self._ranks = [
            None if self._rows or edges is None else np.zeros(len(edges), dtype=np.int64)
            for edges in map(self._edges, self.names)
        ]
        if self._rows:
            self._forget_ranks()

    def _forget_ranks(self) -> None:
        self._grid, self._grid_name = None, None
        self._ranks = [None] * len(self.names)

    def _settle(self) -> None:
        """Take the pending rows in: every row of the matrix sorted, so that edges and sketch pass over it in order."""
        if not self._pending_rows:
            return
        if len(self._pending) == 1:
            ordered = np.array(self._pending[0], dtype=np.float64, order="C")
        else:
            ordered = np.ascontiguousarray(np.concatenate(self._pending, axis=1))
        rows, self._pending, self._pending_rows = self._pending_rows, [], 0
        ordered.sort(axis=1)
        first, last = ordered[:, 0], ordered[:, -1]
        whole = (first > -math.inf) & (last < math.inf)  # NaN is sorted behind everything
        with np.errstate(invalid="ignore", over="ignore"):
            totals = ordered.sum(axis=1)
        self._rows += rows
        np.minimum(self._minimum, first, out=self._minimum, where=whole)
        np.maximum(self._maximum, last, out=self._maximum, where=whole)
        np.add(self._total, totals, out=self._total, where=whole)
        for place, column in enumerate(ordered):
            present: Floats = column if whole[place] else self._finite(place, column)
            ranks = self._ranks[place]
            if ranks is not None:
                ranks += present.searchsorted(self._edges_of(place), "right")
            self._klls[place].add_sorted(present)

    def _finite(self, place: int, column: Floats) -> Floats:
        """Count what of a sorted column is not finite, take in the extremes and the sum of the rest, and return it."""
        low, last = column.searchsorted((-math.inf, math.inf), "right").tolist()
        high = int(column.searchsorted(math.inf, "left"))
        self._missing[place] += column.size - (high - low)
        self._infinite[place] += low + last - high
        present = column[low:high]
        if present.size:
            self._minimum[place] = min(self._minimum[place], present[0])
            self._maximum[place] = max(self._maximum[place], present[-1])
            with np.errstate(over="ignore"):
                self._total[place] += present.sum()
        return present

    def _edges_of(self, place: int) -> Floats:
        edges = self._edges(self.names[place])
        assert edges is not None
        return edges


def _rises(values: Counts) -> bool:
    return bool((values[1:] >= values[:-1]).all())
