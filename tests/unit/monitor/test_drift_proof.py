"""The rates that drift is promised to have: false alarms, detections, and the right columns named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from interlock_monitor.drift import DriftRules, compare, pooled
from interlock_monitor.drift_distances import chi_square, chi_square_survival
from tests.unit.monitor.worlds import reference_of, window_of

RUNS, WINDOWS, COLUMNS = 100, 10, 30
RULES = DriftRules()
SHIFTED = (1, 9, 22)
"""One normal, one lognormal, one of whole numbers: see `draw`."""


def draw(random: np.random.Generator, rows: int) -> np.ndarray:
    """Return rows of 30 columns: normal, lognormal, of whole numbers, exponential, in turns of 8, 8, 7 and 7."""
    normal = random.standard_normal((16, rows))
    normal[8:] = np.exp(normal[8:])
    whole = random.integers(0, 9, (7, rows)).astype(np.float64)
    return np.concatenate((normal, whole, random.standard_exponential((7, rows))), axis=0).T


SIGMAS = np.array([1.0] * 8 + [np.sqrt((np.e - 1) * np.e)] * 8 + [np.sqrt(80 / 12)] * 7 + [1.0] * 7)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("rows", [1000, 10_000])
def test_no_alarm_without_shift(rows: int) -> None:
    """In at least 99 of 100 runs of 10 windows nothing is blamed, each run with a reference of its own."""
    quiet = 0
    for run in range(RUNS):
        random = np.random.default_rng((run, rows, 1))
        reference = reference_of(draw(random, 10_000))
        verdicts = [compare(reference, window_of(reference, draw(random, rows)), RULES) for _ in range(WINDOWS)]
        assert all(verdict.evidence == "enough" and len(verdict.measured) == COLUMNS for verdict in verdicts)
        quiet += not any(verdict.drifted for verdict in verdicts)
    assert quiet >= 99


@pytest.mark.timeout(600)
@pytest.mark.parametrize("rows", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_shift_of_half_a_sigma_is_named_within_two_windows(rows: int) -> None:
    """Exactly the three shifted columns are blamed in at least 95 of 100 runs, and others in none of the windows."""
    named = 0
    for run in range(RUNS):
        random = np.random.default_rng((run, rows, 2))
        reference = reference_of(draw(random, 10_000))
        blamed: set[str] = set()
        for _ in range(2):
            matrix = draw(random, rows)
            for place in SHIFTED:
                matrix[:, place] += SIGMAS[place] / 2
            blamed |= set(compare(reference, window_of(reference, matrix), RULES).drifted)
        named += blamed == {f"f{place}" for place in SHIFTED}
    assert named >= 95


def hostile(kind: str, random: np.random.Generator, rows: int) -> np.ndarray:
    """Return 30 columns of the same population, of a kind on which careless tests raise false alarms."""
    if kind == "correlated":
        return random.standard_normal((rows, 1)) + 0.05 * random.standard_normal((rows, COLUMNS))
    if kind == "heavy":
        return random.standard_cauchy((rows, COLUMNS)) ** 3
    if kind == "discrete":
        return random.binomial(3, 0.02, (rows, COLUMNS)).astype(np.float64)
    if kind == "missing":
        return np.where(random.random((rows, COLUMNS)) < 0.3, np.nan, random.standard_normal((rows, COLUMNS)))
    return np.minimum(random.zipf(1.3, (rows, COLUMNS)) - 1, 199).astype(np.float64)


@pytest.mark.parametrize("kind", ["correlated", "heavy", "discrete", "missing", "categories"])
def test_the_rate_holds_by_the_p_values_alone(kind: str) -> None:
    """Without the least sizes that matter, and at 1 % a window, 200 small windows alarm at most as promised.

    The p-value alone has to keep the rate, each window with a reference of its own: 2 alarms are expected at most;
    8 or more would be seen once in 900 times.
    """
    rules = DriftRules(false_alarms_per_window=0.01, ks_min=1e-9, share_min=1e-9, missing_min=1e-9)
    options: dict[str, Any] = {}
    if kind == "categories":
        options["categories"] = dict.fromkeys(range(COLUMNS), tuple(f"c{number}" for number in range(200)))
    alarms = 0
    for run in range(200):
        random = np.random.default_rng((run, 3))
        reference = reference_of(hostile(kind, random, 500), **options)
        alarms += bool(compare(reference, window_of(reference, hostile(kind, random, 250)), rules).drifted)
    assert alarms < 8


def test_rare_categories_do_not_make_small_p_values() -> None:
    """Of 5,000 pairs of samples of the same 200 categories, most rare, 5 fall below 0.001; without pooling 200."""
    random = np.random.default_rng(4)
    shares = 1 / np.arange(1, 201) ** 1.3
    before, after = (random.multinomial(rows, shares / shares.sum(), 5000).astype(float) for rows in (10_000, 300))
    likely = [chi_square_survival(*chi_square(*pooled(*pair))) for pair in zip(before, after, strict=True)]
    assert sum(each < 1e-3 for each in likely) <= 15
    assert 25 <= sum(each < 1e-2 for each in likely) <= 80
