"""Distances between two distributions over the same cells, and how likely they are without drift."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from interlock.sketches import Floats

PSI_FLOOR: Final = 1e-4

_SERIES: Final = np.arange(1, 21, dtype=np.float64)
_LATE_FROM: Final = 1.0
_FRACTION_STEPS_MAX: Final = 10_000
_TINY: Final = 1e-300


def population_stability(reference: Floats, window: Floats) -> Floats:
    """Return the population stability index over the last axis: sum of (w - r) * ln(w / r); shares of each cell.

    A share of 0 counts as 0.0001, as usual (Yurdakul and Naranjo, "Statistical properties of the population stability
    index", Journal of Risk Model Validation 14(4), 2020). Twice the symmetrised Kullback-Leibler divergence, in nats.
    """
    expected = np.where(reference > 0, reference, PSI_FLOOR)
    actual = np.where(window > 0, window, PSI_FLOOR)
    return np.asarray(((actual - expected) * np.log(actual / expected)).sum(axis=-1))


def jensen_shannon(reference: Floats, window: Floats) -> Floats:
    """Return the Jensen-Shannon distance over the last axis, base 2: from 0 (equal) to 1 (nothing in common).

    The square root of the divergence (Lin, "Divergence measures based on the Shannon entropy", IEEE Transactions on
    Information Theory 37(1), 1991; that the root is a metric: Endres and Schindelin, the same, 49(7), 2003).
    """
    middle = (reference + window) / 2
    divergence = (_entropy_terms(reference, middle) + _entropy_terms(window, middle)).sum(axis=-1) / 2
    return np.asarray(np.sqrt(np.clip(divergence, 0, 1)))


def _entropy_terms(shares: Floats, middle: Floats) -> Floats:
    filled = shares > 0
    ratio = np.divide(shares, middle, out=np.ones_like(shares), where=filled)
    return np.asarray(shares * np.log2(ratio))


def wasserstein(reference: Floats, window: Floats, positions: Floats) -> Floats:
    """Return the Wasserstein-1 distance over the last axis, in the positions' unit.

    `positions` rise; `reference` and `window` are the shares up to and with each of them but the last. The area between
    the two distribution functions (Vallender, "Calculation of the Wasserstein distance between probability
    distributions on the line", Theory of Probability and its Applications 18(4), 1974).
    """
    return np.asarray((np.abs(reference - window) * np.diff(positions, axis=-1)).sum(axis=-1))


def kolmogorov(statistic: Floats) -> Floats:
    """Return the survival function of the Kolmogorov distribution at sqrt(m * n / (m + n)) * D.

    Kolmogorov, "Sulla determinazione empirica di una legge di distribuzione", Giornale dell'Istituto Italiano degli
    Attuari 4, 1933; below 1 by Jacobi's theta transformation of the same series. Where samples are finite, tied or
    binned, D is stochastically smaller: as a p-value it errs to the safe side (Noether 1963; Conover 1972).
    """
    x = np.maximum(np.asarray(statistic, dtype=np.float64), 0)[..., None]
    late = np.maximum(x, _LATE_FROM)
    signs = np.where(_SERIES % 2 == 1, 2.0, -2.0)
    tail = (signs * np.exp(-2 * (_SERIES * late) ** 2)).sum(axis=-1)
    early = np.clip(x, 1e-2, _LATE_FROM)
    odd = 2 * _SERIES - 1
    head = (math.sqrt(2 * math.pi) / early[..., 0]) * np.exp(-((odd * math.pi / early) ** 2) / 8).sum(axis=-1)
    return np.asarray(np.where(x[..., 0] >= _LATE_FROM, tail, 1 - head))


def kolmogorov_critical(rate: float) -> float:
    """Return the value that the Kolmogorov distribution exceeds at that rate (below 0.1, where one term is enough)."""
    return math.sqrt(-math.log(rate / 2) / 2)


def chi_square(reference: Floats, window: Floats) -> tuple[float, int]:
    """Return Pearson's chi-square of two rows of counts and its degrees of freedom, as for a contingency table.

    Pearson, "On the criterion that a given system of deviations...", Philosophical Magazine 50, 1900. Cells that are
    empty in both are left out; none is corrected for continuity. 0 and 0 where fewer than two cells are left.
    """
    table = np.stack((reference, window)).astype(np.float64)
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2 or not (table.sum(axis=1) > 0).all():
        return 0.0, 0
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    return float(((table - expected) ** 2 / expected).sum()), table.shape[1] - 1


def chi_square_survival(value: float, degrees: int) -> float:
    """Return how likely a chi-square of so many degrees of freedom is to exceed a value.

    The regularised upper gamma function Q(degrees / 2, value / 2): its power series below a + 1, above it Lentz's
    continued fraction (Abramowitz and Stegun 6.5.29 and 6.5.31).
    """
    if degrees < 1 or value <= 0:
        return 1.0
    a, x = degrees / 2, value / 2
    scale = math.exp(a * math.log(x) - x - math.lgamma(a))
    return 1 - _gamma_series(a, x) * scale if x < a + 1 else _gamma_fraction(a, x) * scale


def _gamma_series(a: float, x: float) -> float:
    term = total = 1 / a
    for step in range(1, _FRACTION_STEPS_MAX):
        term *= x / (a + step)
        total += term
        if term < total * 1e-16:
            break
    return total


def _gamma_fraction(a: float, x: float) -> float:
    b = x + 1 - a
    c, d = 1 / _TINY, 1 / b
    result = d
    for step in range(1, _FRACTION_STEPS_MAX):
        numerator = -step * (step - a)
        b += 2
        d = numerator * d + b
        d = 1 / (d if abs(d) > _TINY else _TINY)
        c = b + numerator / c
        c = c if abs(c) > _TINY else _TINY
        change = c * d
        result *= change
        if abs(change - 1) < 1e-15:
            break
    return result


def chi_square_critical(rate: float, degrees: int) -> float:
    """Return the value that a chi-square of so many degrees of freedom exceeds at that rate."""
    low, high = 0.0, 2.0 * degrees
    while chi_square_survival(high, degrees) > rate:
        high *= 2
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if chi_square_survival(middle, degrees) > rate else (low, middle)
    return high


def more_missing(reference_missing: int, reference_rows: int, missing: int, rows: int) -> float:
    """Return how likely so large a difference of two missing rates is, both ways: twice Fisher's exact tail, at most 1.

    Fisher, "On the interpretation of chi-square from contingency tables...", Journal of the Royal Statistical Society
    85(1), 1922: given the total of missing values, those of the window are hypergeometric.
    """
    if missing * reference_rows < reference_missing * rows:  # fewer: count the values that are there instead
        return more_missing(reference_rows - reference_missing, reference_rows, rows - missing, rows)
    total = reference_missing + missing
    last = min(rows, total)
    first = (
        _log_choose(total, missing)
        + _log_choose(reference_rows + rows - total, rows - missing)
        - _log_choose(reference_rows + rows, rows)
    )
    at = np.arange(missing, last, dtype=np.float64)
    there = reference_rows + rows - total
    steps = np.log((total - at) * (rows - at)) - np.log((at + 1) * (there - rows + at + 1))
    logs = np.concatenate(([0.0], np.cumsum(steps)))
    return float(min(1.0, 2 * math.exp(min(first, 0.0)) * np.exp(logs).sum()))


def _log_choose(all_of: int, some: int) -> float:
    return math.lgamma(all_of + 1) - math.lgamma(some + 1) - math.lgamma(all_of - some + 1)
