"""The histogram of latencies: exact counts, quantiles within 1 %, merging in any order, bytes that are checked."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from interlock.sketches import InvalidSketch, LogHistogram

LATENCIES = arrays(np.float64, st.integers(0, 60), elements=st.floats(0.01, 1e12))


def of(values: np.ndarray) -> LogHistogram:
    """Return a histogram of values."""
    histogram = LogHistogram()
    histogram.add(values)
    return histogram


def same(left: LogHistogram, right: LogHistogram) -> bool:
    """Return whether two histograms counted the same."""
    bounds = (left.minimum, left.maximum) == (right.minimum, right.maximum)
    return bounds and bool((left.counts == right.counts).all()) and math.isclose(left.total, right.total, rel_tol=1e-9)


@given(LATENCIES, LATENCIES, LATENCIES)
def test_merging_is_associative_and_commutative(first: np.ndarray, second: np.ndarray, third: np.ndarray) -> None:
    """However it is bracketed and ordered, the counts are those of all values at once."""
    left = of(first)
    left.merge(of(second))
    left.merge(of(third))
    right = of(third)
    inner = of(second)
    inner.merge(of(first))
    right.merge(inner)
    whole = of(np.concatenate((first, second, third)))
    assert same(left, right) and same(left, whole)
    assert whole.count == len(first) + len(second) + len(third)


@given(LATENCIES.filter(len), st.floats(0, 1))
def test_every_quantile_is_within_one_percent(values: np.ndarray, share: float) -> None:
    """The value at the rank ceil(share * n), by its own size."""
    exact = float(np.sort(values)[max(1, math.ceil(share * len(values))) - 1])
    assert of(values).quantile(share) == pytest.approx(exact, rel=0.01 + 1e-9)


def test_the_99th_percentile_of_a_million_latencies() -> None:
    """Within 2 % of numpy's, for lognormal latencies in thousands of batches."""
    random = np.random.default_rng(3)
    values, histogram = random.lognormal(3, 1.2, 1_000_000), LogHistogram()
    for batch in np.split(values, 1000):
        histogram.add(batch)
    for share in (0.5, 0.9, 0.99, 0.999):
        assert histogram.quantile(share) == pytest.approx(np.quantile(values, share), rel=0.02)
    assert histogram.maximum == values.max() and histogram.count == 1_000_000


def test_the_same_value_many_times_is_one_addition() -> None:
    """`times` counts as adding it again and again; 0 and below stand in the first bucket, NaN nowhere."""
    once, again = LogHistogram(), LogHistogram()
    once.add(7.0, 1000)
    again.add(np.full(1000, 7.0))
    assert same(once, again) and once.quantile(0.5) == 7.0
    once.add([0.0, -3.0, 1e300])
    assert (once.minimum, once.maximum, once.quantile(0)) == (-3.0, 1e300, 0.0)
    assert once.quantile(1) == pytest.approx(1e13, rel=0.02)
    with pytest.raises(ValueError, match="not a number"):
        once.add([1.0, math.nan])
    with pytest.raises(ValueError, match="between 0 and 1"):
        once.quantile(1.5)
    assert math.isnan(LogHistogram().quantile(0.5))


def test_integers_are_counted_together_and_read_at_any_time() -> None:
    """Whatever is asked in between, and however they are cut, they count as the same numbers as floats do."""
    random, whole, parts = np.random.default_rng(4), LogHistogram(), LogHistogram()
    values = random.integers(0, 100_000, 50_000)
    whole.add(values.astype(float))
    for number, part in enumerate(np.split(values, 25)):
        parts.add(part)
        assert parts.count == (number + 1) * 2000
    merged = LogHistogram.from_bytes(LogHistogram().to_bytes())
    merged.merge(parts)
    assert same(parts, whole) and same(merged, whole) and parts.total == whole.total
    assert parts.quantile(0.99) == whole.quantile(0.99)


@given(LATENCIES)
def test_bytes_come_back_the_same(values: np.ndarray) -> None:
    """Also the empty histogram's."""
    assert same(LogHistogram.from_bytes(of(values).to_bytes()), of(values))


@given(st.binary(max_size=200), st.integers(0, 200), st.integers(0, 255))
def test_hostile_bytes_are_refused_or_sound(noise: bytes, place: int, byte: int) -> None:
    """Noise, and a good histogram with a byte changed or an end cut off: InvalidSketch, or counts that may be used."""
    good = bytearray(of(np.array([3.0, 4.0, 90.0])).to_bytes())
    cut = bytes(good[: place % len(good)])
    good[place % len(good)] = byte
    for data in (noise, cut, bytes(good), bytes(good) + noise):
        try:
            read = LogHistogram.from_bytes(data)
        except InvalidSketch:
            continue
        assert read.count >= 0 and (math.isnan(read.quantile(0.5)) == (read.count == 0))
