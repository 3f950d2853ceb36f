"""The KLL sketch: exact counts and ends, ranks within 1 %, merging, and bytes that cannot bring the process down."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from interlock.sketches import InvalidSketch, Kll

VALUES = arrays(np.float64, st.integers(0, 900), elements=st.floats(-1e300, 1e300))
SHARES = np.array([0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99])


def of(values: np.ndarray) -> Kll:
    """Return a sketch of values."""
    sketch = Kll()
    sketch.add(values)
    return sketch


def rank_errors(sketch: Kll, values: np.ndarray) -> np.ndarray:
    """Return how far the rank of each answer lies from what was asked, as a share of the count."""
    ordered, answers = np.sort(values), sketch.quantiles(SHARES)
    low = ordered.searchsorted(answers, "left") / len(values)
    high = ordered.searchsorted(answers, "right") / len(values)
    return np.asarray(np.maximum(np.maximum(low - SHARES, SHARES - high), 0))


@settings(max_examples=50)
@given(VALUES, VALUES, VALUES)
def test_merging_counts_in_any_order(first: np.ndarray, second: np.ndarray, third: np.ndarray) -> None:
    """Count, minimum and maximum are those of all values at once, however it is bracketed."""
    left, right, inner = of(first), of(third), of(second)
    left.merge(of(second))
    left.merge(of(third))
    inner.merge(of(first))
    right.merge(inner)
    whole = np.concatenate((first, second, third))
    for sketch in (left, right):
        assert sketch.count == len(whole)
        if len(whole):
            assert (sketch.minimum, sketch.maximum) == (whole.min(), whole.max())
        else:
            assert math.isnan(sketch.minimum) and math.isnan(sketch.quantile(0.5))


@pytest.mark.parametrize("kind", ["normal", "lognormal", "whole", "rising"])
def test_ranks_are_within_one_percent(kind: str) -> None:
    """Over 40 sketches of 50,000 values each, half of them merged from parts, 9 quantiles each."""
    random = np.random.default_rng(8)
    for number in range(40):
        values = {
            "normal": random.normal(size=50_000),
            "lognormal": random.lognormal(0, 2, 50_000),
            "whole": random.integers(0, 40, 50_000).astype(float),
            "rising": np.arange(50_000.0),
        }[kind]
        sketch = Kll()
        for part in np.split(values, 50):
            if number % 2:
                sketch.add(np.sort(part))
            else:
                sketch.merge(Kll.from_bytes(of(part).to_bytes()))
        assert sketch.count == 50_000
        assert rank_errors(sketch, values).max() <= 0.01
    assert sketch.rank_error < 0.01


@pytest.mark.parametrize("k", [8, 200, 280, 2000])
@pytest.mark.parametrize("size", [0, 1, 467, 468, 5000, 16_389, 70_001])
def test_a_sorted_run_is_a_sketch_like_any_other(k: int, size: int) -> None:
    """Count and extremes are exact, ranks within the sketch's error, and the bytes pass the check of the layout."""
    values = np.sort(np.random.default_rng(size).lognormal(size=size))
    sketch = Kll(k)
    for _ in range(2):
        sketch.add_sorted(values)
    again = Kll.from_bytes(sketch.to_bytes())
    assert again.count == 2 * size
    if size:
        assert (again.minimum, again.maximum) == (values[0], values[-1])
        assert rank_errors(again, values).max() <= 2 * again.rank_error


def test_sorted_runs_err_less_than_the_same_values_one_by_one() -> None:
    """Over 100 sketches of uneven runs no rank is off by 1 %, and the mean square is below that of plain additions."""
    random = np.random.default_rng(9)
    squares: dict[str, list[float]] = {"add": [], "add_sorted": []}
    for _ in range(100):
        values = random.normal(size=30_011)
        for name, found in squares.items():
            sketch = Kll()
            for part in np.split(values, [1000, 5096, 9191, 20_000]):
                getattr(sketch, name)(np.sort(part))
            errors = rank_errors(sketch, values)
            assert errors.max() <= 0.01
            found.append(float(np.mean(errors**2)))
    assert np.mean(squares["add_sorted"]) < np.mean(squares["add"])


def test_the_cdf_includes_its_edge() -> None:
    """Up to and with the value, as the profile's cells count."""
    sketch = of(np.array([1.0, 2.0, 2.0, 4.0]))
    assert sketch.cdf([0.5, 1.0, 2.0, 3.0, 4.0]).tolist() == [0, 0.25, 0.75, 0.75, 1.0]
    assert np.isnan(Kll().cdf([1.0])).all()


def test_missing_values_are_passed_over() -> None:
    """NaN counts as no value."""
    assert of(np.array([math.nan, 1.0, math.nan])).count == 1


@pytest.mark.parametrize("k", [8, 200, 280, 2000])
@pytest.mark.parametrize("size", [0, 1, 2, 300, 5000, 1_000_000])
def test_bytes_come_back_the_same(k: int, size: int) -> None:
    """Sketches of every size pass the check of the layout, and answer as before."""
    sketch = Kll(k)
    sketch.add(np.random.default_rng(size).normal(size=size))
    again = Kll.from_bytes(sketch.to_bytes())
    assert again.to_bytes() == sketch.to_bytes()
    assert np.array_equal(again.quantiles(SHARES), sketch.quantiles(SHARES), equal_nan=True)


def test_hostile_bytes_are_refused_or_sound() -> None:
    """Thousands of damaged sketches, most of them damaged where the lengths stand: none ends the process.

    DataSketches itself reads past the end for many of these and dies.
    """
    random = np.random.default_rng(11)
    good = [of(random.normal(size=size)).to_bytes() for size in (0, 1, 2, 100, 3000, 50_000)]
    refused = 0
    for number in range(6000):
        data = bytearray(good[number % len(good)])
        for _ in range(int(random.integers(1, 4))):
            if random.random() < 0.7:
                reach = min(len(data), 64) if random.random() < 0.8 else len(data)
                data[int(random.integers(reach))] = int(random.integers(256))
            else:
                del data[int(random.integers(8, len(data) + 1)) :]
        try:
            sketch = Kll.from_bytes(bytes(data))
        except InvalidSketch:
            refused += 1
            continue
        sketch.quantile(0.5)
        sketch.add(random.normal(size=500))
        other = of(random.normal(size=500))
        other.merge(sketch)
        assert other.count == sketch.count + 500
    assert refused > 3000


@given(st.binary(max_size=120))
def test_noise_is_refused(noise: bytes) -> None:
    """A sentence says what is wrong."""
    with pytest.raises(InvalidSketch, match="KLL"):
        Kll.from_bytes(noise)
