"""The reference profile of a version, as the builder wrote it, made ready to be compared with any window."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from interlock.sketches import Floats
from interlock_monitor.windows_columns import Grid

FORMATS: Final = ("interlock.profile.v1", "interlock.profile.v2")
DECILES: Final = np.arange(1, 10) / 10


class InvalidReference(ValueError):
    """A profile that cannot be read, with the first thing that is wrong with it."""


class _Histogram(msgspec.Struct):
    edges: list[float]
    counts: list[int]


class _Cells(msgspec.Struct):
    edges: list[float]
    counts: list[int]
    means: list[float | None]


class _Column(msgspec.Struct):
    name: str
    type: str
    missing: float
    count: int
    minimum: float | None = None
    maximum: float | None = None
    deciles: list[float] | None = None
    histogram: _Histogram | None = None
    cells: _Cells | None = None
    category_counts: list[tuple[str, int]] | None = None


class _Profile(msgspec.Struct):
    format: str
    rows: int
    features: list[_Column]
    outputs: list[_Column]


@dataclass(frozen=True)
class ReferenceColumn:
    """One feature or output in the reference.

    `edges` rise strictly; the cell `i` holds the values in (edges[i-1], edges[i]], the first all up to edges[0], the
    last all above. `ranks` counts the reference's values up to each edge. `positions` is where each cell's values lie
    on average; NaN for the two outside the reference's range. `coarse` picks the edges of some ten cells. `labels` are
    the categories, in the order of their indices, where the column is one of categories.
    """

    name: str
    kind: Literal["feature", "output"]
    rows: int
    count: int
    edges: Floats
    ranks: NDArray[np.int64]
    positions: Floats
    coarse: NDArray[np.intp]
    labels: tuple[str, ...] | None
    minimum: float | None
    maximum: float | None
    median: float | None
    histogram: tuple[Floats, Floats] | None
    """Edges and shares of a histogram to look at; None where there is none."""

    @property
    def missing_rate(self) -> float:
        """The share of rows without a finite value."""
        return 1 - self.count / self.rows if self.rows else 0.0


@dataclass(frozen=True)
class Reference:
    """How a version's features and outputs were spread at build time."""

    rows: int
    columns: tuple[ReferenceColumn, ...]
    feature_grid: Grid
    output_grid: Grid

    @classmethod
    def from_profile(cls, profile: Mapping[str, Any]) -> Self:
        """Read a profile (its JSON, decoded). Raises InvalidReference.

        Version 1 has 20 cells of equal width instead of 100 of equal count, and its categories have no order: those are
        compared by their missing rate alone.
        """
        try:
            read = msgspec.convert(profile, _Profile)
        except msgspec.ValidationError as error:
            raise InvalidReference(f"no profile: {error}") from error
        if read.format not in FORMATS:
            raise InvalidReference(f"a profile of the format {read.format[:40]!r}")
        features = [_column(column, "feature", read.rows) for column in read.features]
        outputs = [_column(column, "output", read.rows) for column in read.outputs]
        return cls.of(read.rows, features, outputs)

    @classmethod
    def of(cls, rows: int, features: Sequence[ReferenceColumn], outputs: Sequence[ReferenceColumn]) -> Self:
        """Return the reference that has these columns."""
        return cls(rows, (*features, *outputs), _grid(features), _grid(outputs))


def _grid(columns: Sequence[ReferenceColumn]) -> Grid:
    edges = {column.name: column.edges for column in columns if column.edges.size}
    content = hashlib.sha256()
    for name, values in edges.items():
        content.update(f"{len(name)}:{name}:{len(values)}".encode() + values.tobytes())
    return Grid(content.hexdigest()[:16], edges)


def _column(read: _Column, kind: Literal["feature", "output"], rows: int) -> ReferenceColumn:
    edges, counts, positions = _cells(read)
    if counts.sum() != (read.count if counts.size else 0) or (counts < 0).any() or not 0 <= read.count <= rows:
        raise InvalidReference(f"{read.name}: cells of {counts.sum()} values, {read.count} counted, {rows} rows")
    if not np.isfinite(edges).all() or not (np.diff(edges) > 0).all():
        raise InvalidReference(f"{read.name}: edges that do not rise")
    ranks = np.cumsum(counts)[: len(edges)].astype(np.int64)
    labels = None if read.category_counts is None else tuple(label for label, _ in read.category_counts)
    median = read.deciles[5] if read.deciles and labels is None else None
    return ReferenceColumn(
        name=read.name,
        kind=kind,
        rows=rows,
        count=read.count,
        edges=edges,
        ranks=ranks,
        positions=positions,
        coarse=np.arange(len(edges)) if labels is not None else _coarse(ranks, read.count),
        labels=labels,
        minimum=read.minimum,
        maximum=read.maximum,
        median=median,
        histogram=_histogram(read),
    )


def _cells(read: _Column) -> tuple[Floats, NDArray[np.int64], Floats]:
    """Return edges, counts and positions of a column's cells; two more cells hold what lies outside the reference."""
    nothing = np.empty(0), np.empty(0, dtype=np.int64), np.empty(0)
    if read.category_counts is not None:
        each = np.arange(len(read.category_counts), dtype=np.float64)
        return each[:-1], np.array([count for _, count in read.category_counts], dtype=np.int64), each
    if read.minimum is None or read.maximum is None:
        return nothing
    if read.cells is not None:
        inner = np.array(read.cells.edges, dtype=np.float64)
        counts = np.array(read.cells.counts, dtype=np.int64)
        means = np.array([0.0 if mean is None else mean for mean in read.cells.means])
    elif read.histogram is not None:
        bounds = np.array(read.histogram.edges, dtype=np.float64)
        inner = np.nextafter(bounds[1:-1], -math.inf)  # those cells have their lower edge, not their upper one
        counts = np.array(read.histogram.counts, dtype=np.int64)
        means = (bounds[:-1] + bounds[1:]) / 2
    else:
        return nothing
    if len(inner) + 1 != len(counts) or len(counts) != len(means):
        raise InvalidReference(f"{read.name}: {len(inner)} edges and {len(means)} means for {len(counts)} cells")
    below = math.nextafter(read.minimum, -math.inf)
    edges = np.concatenate(([below], inner[(inner > below) & (inner < read.maximum)], [read.maximum]))
    place = np.searchsorted(edges, np.append(np.minimum(inner, read.maximum), read.maximum))
    kept = np.bincount(place, counts, len(edges) + 1).astype(np.int64)
    totals = np.bincount(place, counts * means, len(edges) + 1)
    middles = np.concatenate(([math.nan], (edges[:-1] + edges[1:]) / 2, [math.nan]))
    return edges, kept, np.divide(totals, kept, out=middles, where=kept > 0)


def _coarse(ranks: NDArray[np.int64], count: int) -> NDArray[np.intp]:
    """Pick the edges nearest above each decile, and the two outside of which the reference has nothing."""
    if not ranks.size or not count:
        return np.empty(0, dtype=np.intp)
    wanted = np.ceil(DECILES * count - 1e-9)
    inner = np.minimum(np.searchsorted(ranks, wanted), len(ranks) - 1)
    return np.unique(np.concatenate(([0], inner, [len(ranks) - 1]))).astype(np.intp)


def _histogram(read: _Column) -> tuple[Floats, Floats] | None:
    if read.histogram is None or not read.count:
        return None
    return np.array(read.histogram.edges), np.array(read.histogram.counts) / read.count
