"""A window beside its reference: figures as scipy has them on the same cells, and verdicts with reasons."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from scipy.spatial import distance

from interlock.schemas.events import FeatureDrift
from interlock_builder.bench import as_json
from interlock_monitor.drift import DriftRules, InvalidReference, Reference, Verdict, compare
from interlock_monitor.drift_histogram import histogram
from tests.unit.monitor.worlds import profile_of, reference_of, window_of

RULES = DriftRules()
RANDOM = np.random.default_rng(12)


def judged(before: np.ndarray, after: np.ndarray, rules: DriftRules = RULES) -> Verdict:
    """Return the verdict on some rows, by the profile of others."""
    reference = reference_of(before)
    return compare(reference, window_of(reference, after), rules)


def only(verdict: Verdict) -> FeatureDrift:
    """Return the one column that was measured."""
    assert len(verdict.measured) == 1
    return verdict.measured[0].drift


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.5, 30.0])
@pytest.mark.parametrize("kind", ["normal", "lognormal", "whole", "mostly one value"])
def test_every_distance_is_scipys_on_the_same_cells(kind: str, shift: float) -> None:
    """Kolmogorov-Smirnov, its p-value, Jensen-Shannon, PSI and Wasserstein, each computed from the rows anew."""
    draws: dict[str, Callable[[int], np.ndarray]] = {
        "normal": lambda rows: RANDOM.normal(size=rows),
        "lognormal": lambda rows: RANDOM.lognormal(0, 1.5, rows),
        "whole": lambda rows: RANDOM.poisson(4, rows).astype(float),
        "mostly one value": lambda rows: np.where(RANDOM.random(rows) < 0.97, 0.0, RANDOM.exponential(size=rows)),
    }
    before, after = draws[kind](4000), draws[kind](1500) + shift
    found = only(judged(before.reshape(-1, 1), after.reshape(-1, 1)))

    inner = np.unique(np.quantile(before, np.arange(1, 100) / 100, method="inverted_cdf"))
    edges = np.unique([np.nextafter(before.min(), -np.inf), *inner, before.max()])
    left, right = np.searchsorted(edges, before), np.searchsorted(edges, after)
    test = stats.ks_2samp(left, right, method="asymp")
    assert found.value == pytest.approx(test.statistic, abs=1e-12)
    assert found.p_value == pytest.approx(stats.kstwobign.sf(math.sqrt(4000 * 1500 / 5500) * test.statistic), abs=1e-9)

    ranks = np.searchsorted(np.sort(before), edges, side="right")
    deciles = [int(np.searchsorted(ranks, math.ceil(tenth * 400 - 1e-9))) for tenth in range(1, 10)]
    coarse = edges[np.unique([0, *deciles, len(edges) - 1])]
    cells = [
        np.bincount(np.searchsorted(coarse, rows), minlength=len(coarse) + 1) / len(rows) for rows in (before, after)
    ]
    assert found.jensen_shannon == pytest.approx(distance.jensenshannon(*cells, base=2), abs=1e-9)
    expected, actual = (np.where(each > 0, each, 1e-4) for each in cells)
    assert found.psi == pytest.approx(((actual - expected) * np.log(actual / expected)).sum(), abs=1e-9)

    means = np.array(
        [before[left == cell].mean() if (left == cell).any() else math.nan for cell in range(len(edges) + 1)]
    )
    means[0] = (edges[0] + after.min()) / 2
    share = (right == len(edges)).mean()
    few = share < 1 / 16  # many outside stand where the window's own are, as far as its sketch knows
    means[-1] = (edges[-1] + after.max()) / 2 if few else after[right == len(edges)].mean()
    wanted = stats.wasserstein_distance(means[left], means[right])
    assert found.wasserstein == pytest.approx(wanted, abs=1e-9 if few else 0.03 * wanted)
    if kind == "normal":
        exact = stats.wasserstein_distance(before, after)
        assert found.wasserstein == pytest.approx(exact, rel=0.02, abs=0.02)


def test_categories_are_judged_by_chi_square() -> None:
    """Value and p-value of scipy's contingency table of the same counts; rare categories counted as one."""
    labels = ("a", "b", "c", "d")
    before = RANDOM.choice(4, 5000, p=[0.5, 0.3, 0.1995, 0.0005]).astype(float).reshape(-1, 1)
    for shares, drifted in (
        ([0.5, 0.3, 0.1995, 0.0005], False),
        ([0.3, 0.5, 0.1995, 0.0005], True),
        ([0.5, 0.3, 0.05, 0.15], True),
    ):
        after = RANDOM.choice(4, 1000, p=shares).astype(float).reshape(-1, 1)
        reference = reference_of(before, categories={0: labels})
        verdict = compare(reference, window_of(reference, after), RULES)
        found = only(verdict)
        table = np.stack([np.bincount(rows[:, 0].astype(int), minlength=4) for rows in (before, after)])
        rare = table.sum(axis=0) / 6 < 10
        table = np.column_stack((table[:, ~rare], table[:, rare].sum(axis=1))) if rare.any() else table
        wanted = stats.chi2_contingency(table[:, table.sum(axis=0) > 0], correction=False)
        assert found.statistic == "chi_square" and bool(verdict.drifted) is drifted
        assert found.value == pytest.approx(wanted.statistic, rel=1e-9)
        assert found.p_value == pytest.approx(wanted.pvalue, rel=1e-6, abs=1e-12)
        assert (found.median, found.wasserstein) == (None, None)
        seen = histogram(reference.columns[0], window_of(reference, after).features["f0"])
        assert seen is not None and seen.labels == labels and sum(seen.window) == pytest.approx(1)


def test_the_worst_comes_first() -> None:
    """By the deciding difference as a multiple of what matters; what did not drift comes behind and is not blamed."""
    before, after = RANDOM.normal(size=(5000, 4)), RANDOM.normal(size=(2000, 4))
    after[:, 1] += 0.6
    after[:, 3] += 2.0
    after[:600, 2] = math.nan
    verdict = judged(before, after)
    assert verdict.drifted == ("f3", "f2", "f1")
    assert [each.statistic for each in verdict.features] == ["ks", "missing", "ks"]
    missing = verdict.features[1]
    assert (missing.value, missing.threshold, missing.missing_rate, missing.reference_missing_rate) == (
        0.3,
        0.05,
        0.3,
        0,
    )
    for each in verdict.features:
        assert each.value >= each.threshold and each.p_value < 1e-4 / 8
    assert verdict.features[0].median == pytest.approx(2, abs=0.15)
    assert verdict.features[0].reference_median == pytest.approx(np.median(before[:, 3]))
    assert [each.drift.feature for each in verdict.measured if not each.drifted] == ["f0"]


def test_outputs_drift_too() -> None:
    """The score is a column like the features."""
    matrix, scores = RANDOM.normal(size=(3000, 1)), RANDOM.random(3000)
    reference = reference_of(matrix, scores)
    verdict = compare(reference, window_of(reference, matrix[:1000], scores[:1000] ** 3), RULES)
    assert verdict.drifted == ("score",) and verdict.measured[0].kind == "output"


@pytest.mark.parametrize("rows", [1, 3, 199, 200])
def test_too_few_rows_are_no_evidence(rows: int) -> None:
    """A window with three events raises nothing, however far off; from `rows_min` on it counts."""
    verdict = judged(RANDOM.normal(size=(5000, 2)), np.full((rows, 2), 1000.0))
    assert verdict.evidence == ("enough" if rows >= 200 else "too_few_rows")
    assert len(verdict.drifted) == (2 if rows >= 200 else 0) and len(verdict.measured) == 2


def test_no_reference_is_no_alarm() -> None:
    """Neither without a profile nor with one of a few rows; an empty window is no evidence either."""
    after = np.full((5000, 1), 9.0)
    assert compare(None, window_of(None, after), RULES).evidence == "no_reference"
    small = reference_of(RANDOM.normal(size=(64, 1)))
    verdict = compare(small, window_of(small, after), RULES)
    assert (verdict.evidence, verdict.features, verdict.measured) == ("no_reference", (), ())
    reference = reference_of(RANDOM.normal(size=(500, 1)))
    assert compare(reference, window_of(reference, np.empty((0, 1))), RULES).evidence == "too_few_rows"


@pytest.mark.parametrize(
    ("before", "after", "statistic"),
    [
        (np.zeros(1000), np.full(1000, math.nan), "missing"),
        (np.full(1000, math.nan), np.zeros(1000), "missing"),
        (np.arange(1000.0), np.full(1000, 500.0), "ks"),
        (np.full(1000, 7.0), np.full(1000, 6.999), "ks"),
        (np.full(1000, 7.0), np.full(1000, 7.001), "ks"),
        (np.arange(1000.0), np.full(1000, math.inf), "missing"),
    ],
)
def test_columns_that_turn_into_nothing_or_one_constant(before: np.ndarray, after: np.ndarray, statistic: str) -> None:
    """All missing, all there at last, stuck at one value, a constant that moved either way: reported, and finite."""
    verdict = judged(before.reshape(-1, 1), after.reshape(-1, 1))
    assert [each.statistic for each in verdict.features] == [statistic]
    found = verdict.features[0]
    assert all(math.isfinite(number) for number in (found.value, found.threshold, found.p_value))


def test_the_same_constant_and_no_values_at_all_are_no_drift() -> None:
    """Nothing moved, nothing is blamed."""
    for value in (7.0, math.nan, 0.0, -1e300):
        assert not judged(np.full((1000, 1), value), np.full((900, 1), value)).drifted


def test_few_rows_of_a_significant_but_small_difference_are_not_blamed() -> None:
    """A million rows make every difference significant; only one that matters is drift, and the bound is a setting."""
    before, after = RANDOM.normal(size=(300_000, 1)), RANDOM.normal(0.05, 1, size=(300_000, 1))
    quiet = judged(before, after)
    assert not quiet.drifted and only(quiet).p_value < 1e-30 and only(quiet).threshold == 0.1
    assert judged(before, after, DriftRules(ks_min=0.01)).drifted == ("f0",)


def test_both_sample_sizes_count() -> None:
    """The threshold is the two-sample one: a reference of few rows needs a larger difference than one of many."""
    after = RANDOM.normal(size=(1000, 1))
    small, large = (judged(RANDOM.normal(size=(rows, 1)), after) for rows in (250, 100_000))
    critical = stats.kstwobign.isf(1e-4 / 2)
    assert only(small).threshold == pytest.approx(critical / math.sqrt(250 * 1000 / 1250), rel=1e-6)
    assert only(large).threshold == 0.1


def test_version_1_of_the_profile_gives_what_it_can() -> None:
    """Twenty cells of equal width, with the histogram's own rule for edges; categories by their missing rate alone."""
    before = np.column_stack((RANDOM.normal(size=4000), RANDOM.integers(0, 2, 4000), np.full(4000, 3.0)))
    profile = json.loads(as_json(profile_of(before, categories={1: ("y", "x")})))
    profile["format"] = "interlock.profile.v1"
    for feature in profile["features"]:
        feature.pop("cells", None)
        feature.pop("category_counts", None)
    reference = Reference.from_profile(profile)
    same = window_of(reference, before)
    for column in reference.columns:
        assert np.array_equal(same.features[column.name].ranks_at(column.edges), column.ranks)
    assert reference.columns[1].edges.size == 0
    assert [each.drift.value for each in compare(reference, same, RULES).measured] == [0, 0, 0]
    moved = before + np.array([0.5, 0, 1])
    moved[:1000, 1] = math.nan
    assert set(compare(reference, window_of(reference, moved), RULES).drifted) == {"f0", "f1", "f2"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "interlock.profile.v9"}, "format"),
        ({"rows": "many"}, "no profile"),
        ({"features": {}}, "no profile"),
        ({"cells": {"edges": [2.0, 1.0], "counts": [1, 1, 998], "means": [0.0, 1.0, 2.0]}}, "do not rise"),
        ({"cells": {"edges": [0.0], "counts": [1, 1], "means": [0.0, 1.0]}}, "counted"),
        ({"cells": {"edges": [0.0], "counts": [1000], "means": [0.0]}}, "edges"),
        ({"count": 2000}, "counted"),
    ],
)
def test_a_profile_that_is_none_is_refused(change: dict[str, object], words: str) -> None:
    """With a sentence that says why, whatever its author changed."""
    profile = json.loads(as_json(profile_of(RANDOM.normal(size=(1000, 1)))))
    (profile if next(iter(change)) in profile else profile["features"][0]).update(change)
    with pytest.raises(InvalidReference, match=words):
        Reference.from_profile(profile)


def test_a_histogram_to_look_at() -> None:
    """The profile's cells, one more on each side for what lies outside; shares of both sides add up to 1."""
    before = RANDOM.normal(size=(4000, 1))
    reference = reference_of(before)
    state = window_of(reference, RANDOM.normal(3, 2, size=(4000, 1)))
    seen = histogram(reference.columns[0], state.features["f0"])
    assert seen is not None and seen.edges is not None
    assert len(seen.edges) - 1 == len(seen.window) == len(seen.reference)
    assert sum(seen.window) == pytest.approx(1) and sum(seen.reference) == pytest.approx(1)
    assert (seen.reference[-1], seen.edges[-1]) == (0, state.features["f0"].maximum) and seen.window[-1] > 0.3
    empty = window_of(reference, np.full((5, 1), math.nan))
    assert histogram(reference.columns[0], empty.features["f0"]) is None


def test_the_monitor_does_without_scipy() -> None:
    """It would cost the process some 40 MB for two functions."""
    modules = "interlock_monitor.windows, interlock_monitor.drift_alarm, interlock_monitor.drift_histogram"
    program = f"import sys, {modules}; sys.exit(any(name.startswith('scipy') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
