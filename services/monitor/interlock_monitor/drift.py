"""Drift: whether a window still looks like the reference profile, and which features or outputs to blame if not.

A column drifts where its difference is both unlikely without drift and large enough to matter. Unlikely: its p-value
is below the rate of false alarms that is allowed per window, divided by the number of tests (Bonferroni; it holds
however the columns depend on each other). Large enough: the difference itself is at least a set size, since with many
rows every difference becomes significant. Both samples are random: the reference's rows count as the window's do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from interlock.schemas.events import FeatureDrift
from interlock.sketches import Floats
from interlock_monitor.drift_distances import (
    chi_square,
    chi_square_critical,
    chi_square_survival,
    jensen_shannon,
    kolmogorov,
    kolmogorov_critical,
    more_missing,
    population_stability,
    wasserstein,
)
from interlock_monitor.drift_reference import InvalidReference, Reference, ReferenceColumn
from interlock_monitor.windows import WindowState
from interlock_monitor.windows_columns import FeatureState

__all__ = ["DriftRules", "InvalidReference", "Measured", "Reference", "Verdict", "compare"]

EXPECTED_MIN: Final = 10.0
"""Categories with fewer expected rows are counted together: chi-square's tail is too thin for them."""

_TESTS_PER_COLUMN: Final = 2
_TAIL_SHARES: Final = 16

Evidence = Literal["enough", "too_few_rows", "no_reference"]


@dataclass(frozen=True)
class DriftRules:
    """From what difference on a column counts as drifted, and how much evidence that needs."""

    rows_min: int = 200
    reference_rows_min: int = 200
    false_alarms_per_window: float = 1e-4
    ks_min: float = 0.1
    share_min: float = 0.1
    missing_min: float = 0.05
    clear_windows: int = 2


@dataclass(frozen=True)
class Measured:
    """How far one column is from the reference: `drift` as it stands in events, and whether that is drift.

    `size` is the deciding difference as a multiple of the smallest one that matters; the worst has the largest.
    """

    kind: Literal["feature", "output"]
    drift: FeatureDrift
    drifted: bool
    size: float


@dataclass(frozen=True)
class Verdict:
    """What comparing a window with its reference came to; `measured` are all columns, worst first."""

    evidence: Evidence
    rows: int
    measured: tuple[Measured, ...]
    false_alarms_per_window: float

    @property
    def features(self) -> tuple[FeatureDrift, ...]:
        """The columns that drifted, worst first; none without enough evidence."""
        return tuple(each.drift for each in self.measured if each.drifted)

    @property
    def drifted(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(each.feature for each in self.features)


def compare(reference: Reference | None, state: WindowState, rules: DriftRules) -> Verdict:
    """Return the verdict on a window.

    Without a reference, or with one of too few rows, there is nothing to measure; with too few rows in the window
    everything is measured and nothing counts as drift. Columns that only one side knows are passed over.
    """
    if reference is None or reference.rows < rules.reference_rows_min:
        return Verdict("no_reference", state.rows, (), rules.false_alarms_per_window)
    pairs = list(_pairs(reference, state))
    evidence: Evidence = "enough" if state.rows >= rules.rows_min else "too_few_rows"
    measured = _Comparison(pairs, rules).measure() if state.rows and pairs else []
    if evidence != "enough":
        measured = [Measured(each.kind, each.drift, drifted=False, size=each.size) for each in measured]
    measured.sort(key=lambda each: (not each.drifted, -each.size, each.drift.feature))
    return Verdict(evidence, state.rows, tuple(measured), rules.false_alarms_per_window)


def _pairs(reference: Reference, state: WindowState) -> Iterator[tuple[ReferenceColumn, FeatureState]]:
    """Yield each column of the reference with the window's; ranks counted on another grid are left out."""
    for column in reference.columns:
        columns, grid = (
            (state.features, reference.feature_grid)
            if column.kind == "feature"
            else (state.outputs, reference.output_grid)
        )
        if column.name in columns:
            found = columns[column.name]
            yield column, found if columns.grid == grid.name else replace(found, ranks=None)


@dataclass(frozen=True)
class _Finding:
    statistic: str
    value: float
    threshold: float
    p_value: float
    drifted: bool
    size: float


class _Comparison:
    """All columns of one window beside the reference's, as matrices: (columns, edges), filled up to equal length."""

    def __init__(self, pairs: Sequence[tuple[ReferenceColumn, FeatureState]], rules: DriftRules) -> None:
        self._pairs = pairs
        self._rules = rules
        self._rate = rules.false_alarms_per_window / (_TESTS_PER_COLUMN * len(pairs))
        self._reference_counts = np.array([column.count for column, _ in pairs], dtype=np.float64)
        self._window_counts = np.array([state.count for _, state in pairs], dtype=np.float64)
        self._ranks = [state.ranks_at(column.edges) for column, state in pairs]
        width = max((column.edges.size for column, _ in pairs), default=0)
        self._reference = _filled([column.ranks for column, _ in pairs], self._reference_counts, width)
        self._window = _filled(self._ranks, self._window_counts, width)

    def measure(self) -> list[Measured]:
        differences = np.abs(self._reference - self._window).max(axis=1, initial=0)
        both = np.minimum(self._reference_counts, self._window_counts) > 0
        effective = np.divide(
            self._reference_counts * self._window_counts,
            self._reference_counts + self._window_counts,
            out=np.zeros(len(self._pairs)),
            where=both,
        )
        likely = kolmogorov(np.sqrt(effective) * differences)
        psi, divergence = self._coarse()
        moved = self._wasserstein()
        found = []
        for place, (column, state) in enumerate(self._pairs):
            known = bool(both[place]) and column.edges.size > 0
            distribution = _Finding("ks", 0.0, self._rules.ks_min, 1.0, drifted=False, size=0.0)
            if known and column.labels is not None:
                distribution = self._categories(column, state, self._ranks[place])
            elif known:
                distribution = self._ks(
                    float(differences[place]), float(likely[place]), float(effective[place]), state, column
                )
            finding = max(distribution, self._missing(column, state), key=lambda each: (each.drifted, each.size))
            if not finding.drifted:
                finding = distribution
            found.append(
                Measured(
                    kind=column.kind,
                    drifted=finding.drifted,
                    size=finding.size,
                    drift=FeatureDrift(
                        feature=column.name,
                        statistic=finding.statistic,
                        value=finding.value,
                        threshold=finding.threshold,
                        p_value=finding.p_value,
                        psi=float(psi[place]) if known else None,
                        jensen_shannon=float(divergence[place]) if known else None,
                        wasserstein=float(moved[place]) if known and column.labels is None else None,
                        missing_rate=state.missing_rate,
                        reference_missing_rate=column.missing_rate,
                        median=None if column.labels is not None else state.quantile(0.5),
                        reference_median=column.median,
                    ),
                )
            )
        return found

    def _ks(
        self, difference: float, likely: float, effective: float, state: FeatureState, column: ReferenceColumn
    ) -> _Finding:
        """Judge a numeric column by Kolmogorov-Smirnov's two-sample test on the grid, less a sketch's own error."""
        size_min = self._rules.ks_min + (0.0 if state.counted else state.kll.rank_error)
        threshold = max(size_min, kolmogorov_critical(self._rate) / math.sqrt(effective))
        drifted = difference >= size_min and likely < self._rate
        return _Finding("ks", difference, threshold, likely, drifted, difference / self._rules.ks_min)

    def _categories(self, column: ReferenceColumn, state: FeatureState, ranks: NDArray[np.int64]) -> _Finding:
        """Judge a column of categories by chi-square, and by the share of rows that would have to change category."""
        expected = _cells(column.ranks, column.count)
        actual = _cells(ranks, state.count)
        share = float(np.abs(expected / column.count - actual / state.count).sum() / 2)
        value, degrees = chi_square(*pooled(expected, actual))
        likely = chi_square_survival(value, degrees)
        threshold = chi_square_critical(self._rate, degrees) if degrees else math.inf
        drifted = share >= self._rules.share_min and likely < self._rate
        return _Finding("chi_square", value, threshold, likely, drifted, share / self._rules.share_min)

    def _missing(self, column: ReferenceColumn, state: FeatureState) -> _Finding:
        difference = abs(state.missing_rate - column.missing_rate)
        size = difference / self._rules.missing_min
        if difference < self._rules.missing_min:
            return _Finding("missing", difference, self._rules.missing_min, 1.0, drifted=False, size=size)
        likely = more_missing(column.rows - column.count, column.rows, state.missing, state.rows)
        return _Finding("missing", difference, self._rules.missing_min, likely, likely < self._rate, size)

    def _wasserstein(self) -> Floats:
        """Return Wasserstein's distance of every column that is one of numbers."""
        positions = np.zeros((len(self._pairs), self._reference.shape[1] + 1))
        for row, (column, state), ranks in zip(positions, self._pairs, self._ranks, strict=True):
            if column.edges.size and column.labels is None and state.count:
                found = _positions(column, state, ranks)
                row[: found.size] = found
                row[found.size :] = found[-1]
        return wasserstein(self._reference, self._window, positions)

    def _coarse(self) -> tuple[Floats, Floats]:
        """Return PSI and Jensen-Shannon distance of every column, over some ten cells or the categories."""
        width = max((column.coarse.size for column, _ in self._pairs), default=0)
        if not width:
            return np.zeros(len(self._pairs)), np.zeros(len(self._pairs))
        chosen = np.zeros((len(self._pairs), width), dtype=np.intp)
        for place, (column, _) in enumerate(self._pairs):
            if column.coarse.size:
                chosen[place, : column.coarse.size] = column.coarse
                chosen[place, column.coarse.size :] = column.coarse[-1]
        reference = np.diff(np.take_along_axis(self._reference, chosen, axis=1), axis=1, prepend=0, append=1)
        window = np.diff(np.take_along_axis(self._window, chosen, axis=1), axis=1, prepend=0, append=1)
        reference, window = np.maximum(reference, 0), np.maximum(window, 0)
        return population_stability(reference, window), jensen_shannon(reference, window)


def pooled(reference: Floats, window: Floats) -> tuple[Floats, Floats]:
    """Return two rows of counts with those categories counted as one that would expect too few rows on either side."""
    totals = reference + window
    smaller = min(reference.sum(), window.sum()) / totals.sum()
    rare = totals * smaller < EXPECTED_MIN
    if not rare.any():
        return reference, window
    return np.append(reference[~rare], reference[rare].sum()), np.append(window[~rare], window[rare].sum())


def _positions(column: ReferenceColumn, state: FeatureState, ranks: NDArray[np.int64]) -> Floats:
    """Return where each cell's values lie: where the reference's do, or outside its range where the window's own do."""
    positions = column.positions.copy()
    below, above = int(ranks[0]), state.count - int(ranks[-1])
    if state.minimum is None or state.maximum is None:
        return positions
    positions[0] = _tail(state, column.edges[0], state.minimum, 0.0, below / state.count) if below else positions[1]
    start = 1 - above / state.count
    positions[-1] = _tail(state, column.edges[-1], state.maximum, start, 1 - start) if above else positions[-2]
    return positions


def _tail(state: FeatureState, edge: float, extreme: float, start: float, share: float) -> float:
    """Return where the values outside the reference's range lie on average."""
    if share < 1 / _TAIL_SHARES:
        return (edge + extreme) / 2
    steps = (np.arange(_TAIL_SHARES) + 0.5) / _TAIL_SHARES
    values = np.clip(state.kll.quantiles(start + share * steps), min(edge, extreme), max(edge, extreme))
    return float(values.mean())


def _cells(ranks: NDArray[np.int64], count: int) -> Floats:
    return np.diff(ranks, prepend=0, append=count).astype(np.float64)


def _filled(ranks: Sequence[NDArray[np.int64]], counts: Floats, width: int) -> Floats:
    """Return the shares up to each edge, (columns, width); behind a column's last edge everything is below."""
    matrix = np.ones((len(ranks), width))
    for place, (row, count) in enumerate(zip(ranks, counts.tolist(), strict=True)):
        if count:
            matrix[place, : len(row)] = row / count
    return matrix
