"""Every distance and every tail is scipy's, to 1e-6 and better, where scipy has it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.spatial import distance

from interlock_monitor import drift_distances as drift

RANDOM = np.random.default_rng(5)


def shares(cells: int, empty: float = 0.0) -> np.ndarray:
    """Return random shares, some of them 0."""
    weights = RANDOM.exponential(size=cells) * (RANDOM.random(cells) >= empty)
    weights[0] += 1e-3
    return np.asarray(weights / weights.sum())


@pytest.mark.parametrize("cells", [2, 11, 100])
def test_jensen_shannon_is_scipys(cells: int) -> None:
    """Base 2, the distance and not the divergence; with empty cells too; 0 and 1 at the ends."""
    for _ in range(50):
        left, right = shares(cells, 0.3), shares(cells, 0.3)
        assert drift.jensen_shannon(left, right) == pytest.approx(distance.jensenshannon(left, right, base=2), abs=1e-9)
    assert drift.jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == 1.0
    assert drift.jensen_shannon(left, left) == 0.0


def test_population_stability_is_the_plain_sum() -> None:
    """Computed one cell after the other, a share of 0 counting as 0.0001; for several columns at once the same."""
    for _ in range(50):
        left, right = shares(11, 0.2), shares(11, 0.2)
        total = 0.0
        for expected, actual in zip(left.tolist(), right.tolist(), strict=True):
            low, high = expected or 1e-4, actual or 1e-4
            total += (high - low) * math.log(high / low)
        assert drift.population_stability(left, right) == pytest.approx(total, abs=1e-12)
    both = drift.population_stability(np.stack((left, right)), np.stack((right, right)))
    assert both.tolist() == [pytest.approx(total), 0.0]


def test_wasserstein_is_scipys() -> None:
    """With weights at positions, in the positions' unit."""
    for _ in range(50):
        positions = np.sort(RANDOM.normal(scale=40, size=60))
        left, right = shares(60, 0.2), shares(60, 0.2)
        wanted = stats.wasserstein_distance(positions, positions, left, right)
        found = drift.wasserstein(np.cumsum(left)[:-1], np.cumsum(right)[:-1], positions)
        assert found == pytest.approx(wanted, abs=1e-9)


def test_kolmogorov_is_scipys() -> None:
    """The tail over its whole range, and its inverse for the small rates that are used."""
    x = np.concatenate((np.linspace(0, 4, 4001), [1e-9, 6.0, 12.0]))
    ours, scipys = drift.kolmogorov(x), stats.kstwobign.sf(x)
    assert np.abs(ours - scipys).max() < 1e-12
    assert np.abs(ours[1000:-1] / scipys[1000:-1] - 1).max() < 1e-9
    for rate in (1e-2, 1e-4, 1.6e-6, 1e-12):
        assert drift.kolmogorov_critical(rate) == pytest.approx(stats.kstwobign.isf(rate), rel=1e-6)


@pytest.mark.parametrize("degrees", [1, 2, 3, 9, 60, 500])
def test_chi_square_tail_is_scipys(degrees: int) -> None:
    """Survival function to 1e-12 absolutely and 1e-9 relatively far out, and its inverse."""
    for value in np.concatenate(([0.0], np.geomspace(1e-3, 20 * degrees + 200, 200))).tolist():
        wanted = float(stats.chi2.sf(value, degrees))
        assert drift.chi_square_survival(value, degrees) == pytest.approx(wanted, abs=1e-12, rel=1e-9)
    for rate in (0.05, 1e-4, 1.6e-6):
        assert drift.chi_square_critical(rate, degrees) == pytest.approx(stats.chi2.isf(rate, degrees), rel=1e-7)


def test_chi_square_is_scipys() -> None:
    """Value and degrees of freedom of a 2 x k table, without correction; empty cells are none."""
    for _ in range(50):
        left, right = RANDOM.integers(1, 400, size=7).astype(float), RANDOM.integers(0, 50, size=7).astype(float)
        wanted = stats.chi2_contingency(np.stack((left, right)), correction=False)
        value, degrees = drift.chi_square(np.append(left, 0), np.append(right, 0))
        assert value == pytest.approx(wanted.statistic, rel=1e-12) and degrees == wanted.dof
        assert drift.chi_square_survival(value, degrees) == pytest.approx(wanted.pvalue, abs=1e-12, rel=1e-9)
    assert drift.chi_square(np.array([5.0, 0.0]), np.array([7.0, 0.0])) == (0.0, 0)


def test_missing_rates_are_compared_by_fishers_exact_tail() -> None:
    """Twice the hypergeometric tail towards the side on which the window lies, at most 1."""
    for _ in range(200):
        m, n = int(RANDOM.integers(1, 3000)), int(RANDOM.integers(1, 3000))
        a, b = int(RANDOM.integers(0, m + 1)), int(RANDOM.integers(0, n + 1))
        if RANDOM.random() < 0.5:
            b = min(n, round(a * n / m))
        tail = stats.hypergeom.sf(b - 1, m + n, a + b, n) if b * m >= a * n else stats.hypergeom.cdf(b, m + n, a + b, n)
        assert drift.more_missing(a, m, b, n) == pytest.approx(min(1.0, 2 * tail), rel=1e-6, abs=1e-300)
    assert drift.more_missing(0, 10_000, 0, 500) == 1.0
    assert drift.more_missing(0, 10_000, 500, 500) < 1e-300
    assert drift.more_missing(10_000, 10_000, 500, 500) == 1.0
