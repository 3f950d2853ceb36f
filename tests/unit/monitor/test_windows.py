"""Windows hold exactly what the observations told, whichever way these are cut, ordered, merged or kept."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.codec.observations import Refused, event_time
from interlock.schemas.events import Observation
from interlock.sketches import InvalidSketch
from interlock_monitor.drift import DriftRules, compare
from interlock_monitor.windows import WindowKey, WindowState, fold, touched, window_closed
from interlock_monitor.windows_reading import read
from tests.unit.monitor.worlds import T0, WINDOW, answered, at, names, observation, reference_of

RANDOM = np.random.default_rng(2)
START = T0 - T0 % WINDOW


def refused(times: list[int], reason: str = "MISSING_FEATURE", version: int = 2) -> Refused:
    """Return requests that got no score."""
    rows = np.arange(len(times))
    model = ("champion", "fraud", version, f"sha256:d{version}") if version else ("", "", 0, "")
    return Refused(*model, reason, rows, np.array(times, dtype=np.int64))


def folded(*observations: Observation, **changes: Any) -> dict[WindowKey, WindowState]:
    """Return the windows of some observations."""
    states: dict[WindowKey, WindowState] = {}
    for each in observations:
        fold(read(each, WINDOW), states, changes.get("references", {}), changes.get("closed", lambda _: False))
    return states


def key(start: int = START, **changes: Any) -> WindowKey:
    """Return the key of the plain arm."""
    return WindowKey("fraud", "fraud", 2, "sha256:d2", "champion", start)._replace(**changes)


def test_one_batch_over_windows_and_arms() -> None:
    """Every row stands in the window of its event time, under the arm that answered; `touched` names the same keys."""
    matrix = RANDOM.normal(size=(600, 4))
    times = T0 - RANDOM.integers(0, 23_000, 600)
    groups = (
        answered(matrix[:400], times[:400]),
        answered(matrix[400:], times[400:], arm="canary", version=3, digest="sha256:d3"),
    )
    seen = observation(*groups, refused=[refused([T0, T0 - 23_000]), refused([T0], "EMPTY", version=0)])
    states = folded(seen)
    assert set(states) == touched(read(seen, WINDOW))
    for name, rows, arm in (
        ("fraud", slice(0, 400), {}),
        ("fraud", slice(400, 600), {"arm": "canary", "version": 3, "digest": "sha256:d3"}),
    ):
        starts = times[rows] // WINDOW * WINDOW
        for start, count in Counter(starts.tolist()).items():
            state = states[key(start, model=name, **arm)]
            inside = matrix[rows][starts == start]
            assert state.rows == count
            for place, feature in enumerate(names(4)):
                column = state.features[feature]
                assert (column.count, column.missing) == (count, 0)
                assert (column.minimum, column.maximum) == (inside[:, place].min(), inside[:, place].max())
                assert column.mean == pytest.approx(inside[:, place].mean(), abs=1e-12)
    assert states[key()].rejected == 1 and states[key()].reasons == {"MISSING_FEATURE": 1}
    assert states[WindowKey("fraud", "", 0, "", "", START)].reasons == {"EMPTY": 1}
    assert read(seen, WINDOW).event_time_max == T0


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_counts_do_not_depend_on_the_batches(cuts: list[int], random: Any) -> None:
    """Cut into batches, folded in any order, in parts merged after a trip through bytes: the same counts and ranks."""
    reference = reference_of(np.random.default_rng(1).normal(size=(300, 3)))
    rows = sum(cuts)
    matrix = np.random.default_rng(rows).normal(size=(rows, 3)).round(1)
    matrix[::3, 1] = math.nan
    times = T0 - np.random.default_rng(rows + 1).integers(0, 12_000, rows)
    bounds = np.cumsum([0, *cuts]).tolist()
    batches = [observation(answered(matrix[a:b], times[a:b])) for a, b in pairwise(bounds)]
    whole = folded(observation(answered(matrix, times)), references={("fraud", 2): reference})
    random.shuffle(batches)
    merged: dict[WindowKey, WindowState] = {}
    for batch in batches:
        for each, state in folded(batch, references={("fraud", 2): reference}).items():
            merged.setdefault(each, WindowState()).merge(WindowState.from_bytes(state.to_bytes()))
    at_once = folded(*batches, references={("fraud", 2): reference})
    assert set(merged) == set(whole) == set(at_once)
    for each, state in whole.items():
        for other in (merged[each], at_once[each]):
            assert (other.rows, other.rejected, other.reasons) == (state.rows, state.rejected, state.reasons)
            for stage, histogram in state.latency.items():
                assert (other.latency[stage].counts == histogram.counts).all()
            for name, column in state.features.items():
                found = other.features[name]
                assert (found.count, found.missing) == (column.count, column.missing)
                assert (found.minimum, found.maximum) == (column.minimum, column.maximum)
                assert column.ranks is not None and found.ranks is not None
                assert (found.ranks == column.ranks).all()


def test_cells_are_counted_by_the_profiles_rule() -> None:
    """A window of the reference's own rows has the reference's own ranks, ties and all: no distance is left."""
    matrix = np.column_stack(
        (RANDOM.normal(size=2000), RANDOM.integers(0, 4, 2000), np.full(2000, 7.0), RANDOM.lognormal(size=2000))
    )
    reference = reference_of(matrix)
    state = folded(observation(answered(matrix, [T0] * 2000)), references={("fraud", 2): reference})[key()]
    for column in reference.columns:
        assert np.array_equal(state.features[column.name].ranks_at(column.edges), column.ranks)
    for measured in compare(reference, state, DriftRules()).measured:
        drift = measured.drift
        assert (drift.value, drift.psi, drift.jensen_shannon, drift.p_value) == (0, 0, 0, 1)
        assert drift.wasserstein == 0


def test_missing_infinite_and_constant_columns() -> None:
    """NaN and infinity are missing, infinity counted besides; a column of them has no values; a constant has one."""
    matrix = np.array([[math.nan, 1.0, math.inf, 5.0], [math.nan, math.nan, -math.inf, 5.0], [math.nan, 3.0, 2.0, 5.0]])
    columns = folded(observation(answered(matrix, [T0] * 3)))[key()].features
    nothing, some, infinite, constant = (columns[name] for name in names(4))
    assert (nothing.count, nothing.missing, nothing.minimum, nothing.mean, nothing.quantile(0.5)) == (
        0,
        3,
        None,
        None,
        None,
    )
    assert (some.count, some.missing, some.infinite, some.mean) == (2, 1, 0, 2.0)
    assert (infinite.count, infinite.missing, infinite.infinite, infinite.maximum) == (1, 2, 2, 2.0)
    assert (constant.minimum, constant.maximum, constant.quantile(0.5), constant.missing_rate) == (5.0, 5.0, 5.0, 0.0)


def test_a_clock_ahead_or_before_1970_counts_as_now() -> None:
    """Such a request stands in its score's window; a little ahead is believed, and so is hours behind."""
    scored = T0 + 20
    times = [scored + 7_200_000, scored + 2000, -5, T0 - 7_200_000]
    states = folded(observation(answered(np.zeros((4, 1)), times)))
    starts = {int(event_time(time, scored)) // WINDOW * WINDOW for time in times}
    assert {each.start_milliseconds for each in states} == starts and len(starts) == 3
    late = states[key(START - 7_200_000)]
    assert late.rows == 1 and late.latency["total"].quantile(0.5) == pytest.approx(7_200_020, rel=0.01)


def test_latencies_by_stage() -> None:
    """Queue, score and total in milliseconds, each within 1 %; a request from a clock a little ahead waited 0."""
    times = [T0 - 500, T0 - 100, T0 + 1500]
    state = folded(observation(answered(np.zeros((3, 1)), times), taken_at=T0, scored_at=T0 + 40))[key()]
    assert {stage: histogram.count for stage, histogram in state.latency.items()} == {
        "queue": 3,
        "score": 3,
        "total": 3,
    }
    assert state.latency["queue"].maximum == 500 and state.latency["queue"].minimum == 0
    assert state.latency["score"].quantile(0.9) == 40 and state.latency["total"].minimum == 0
    assert state.latency["total"].quantile(0.5) == pytest.approx(140, rel=0.01)


def test_rows_behind_a_closed_window_are_late() -> None:
    """They count as rows too."""
    seen = observation(answered(np.zeros((3, 1)), [T0, T0 - WINDOW, T0 - WINDOW]))
    states = folded(seen, closed=lambda each: each.start_milliseconds < START)
    assert [(state.rows, state.late_rows) for _, state in sorted(states.items())] == [(2, 2), (1, 0)]


@pytest.mark.parametrize("reference_known", [True, False])
def test_sketches_in_place_of_columns(reference_known: bool) -> None:
    """Counts stay exact, ranks come within 1 %, the state says that it is approximate; columns mix with sketches."""
    matrix = RANDOM.normal(size=(8000, 2))
    matrix[:500, 1] = math.nan
    matrix[500, 1] = math.inf
    times = np.sort(T0 - RANDOM.integers(0, 9000, 8000))
    reference = reference_of(RANDOM.normal(size=(5000, 2)))
    references = {("fraud", 2): reference if reference_known else None}
    sketched = observation(answered(matrix, times), sketch=True)
    assert sketched.groups[0].sketches and not sketched.groups[0].features
    states = folded(sketched, observation(answered(matrix[:100], times[:100])), references=references)
    exact = folded(
        observation(answered(matrix, times)),
        observation(answered(matrix[:100], times[:100])),
        references={("fraud", 2): reference},
    )
    assert set(states) == set(exact) == touched(read(sketched, WINDOW))
    for each, state in states.items():
        state = WindowState.from_bytes(state.to_bytes())  # noqa: PLW2901 - as a restart would have it
        assert state.approximate and not exact[each].approximate
        for column in reference.columns:
            found, wanted = state.features[column.name], exact[each].features[column.name]
            assert (found.count, found.missing, found.minimum, found.maximum) == (
                wanted.count,
                wanted.missing,
                wanted.minimum,
                wanted.maximum,
            )
            assert found.mean is None and not found.counted
            assert np.abs(found.ranks_at(column.edges) - wanted.ranks_at(column.edges)).max() <= 0.01 * wanted.count
        assert not compare(reference, state, DriftRules(missing_min=1.0)).drifted


def test_a_reference_that_comes_too_late_is_compared_by_the_sketch() -> None:
    """Half a count is none: the ranks of a window that began without the grid come from its sketch."""
    matrix = RANDOM.normal(size=(4000, 2))
    reference = reference_of(RANDOM.normal(size=(4000, 2)))
    states = folded(observation(answered(matrix[:100], [T0] * 100)))
    fold(
        read(observation(answered(matrix[100:], [T0] * 3900)), WINDOW),
        states,
        {("fraud", 2): reference},
        lambda _: False,
    )
    column = states[key()].features["f0"]
    assert column.ranks is None and not column.counted
    exact = np.searchsorted(np.sort(matrix[:, 0]), reference.columns[0].edges, side="right")
    assert np.abs(column.ranks_at(reference.columns[0].edges) - exact).max() <= 40
    verdict = compare(reference, states[key()], DriftRules())
    assert verdict.evidence == "enough" and not verdict.drifted


def test_parts_counted_on_different_grids_are_compared_by_the_sketch() -> None:
    """Ranks at other edges do not add up, nor do some with none: the whole has none, and its rows all the same."""
    matrix = RANDOM.normal(size=(2000, 2))
    one, other = (reference_of(RANDOM.normal(size=(3000, 2))) for _ in range(2))
    batches = [observation(answered(part, [T0] * 1000)) for part in np.split(matrix, 2)]
    for second in (other, None):
        whole = folded(batches[0], references={("fraud", 2): one})[key()]
        whole.merge(WindowState.from_bytes(folded(batches[1], references={("fraud", 2): second})[key()].to_bytes()))
        assert whole.rows == whole.features["f0"].count == 2000
        assert whole.features.grid is None and whole.features["f0"].ranks is None
        assert not compare(one, whole, DriftRules()).drifted


def test_a_malformed_observation_changes_nothing() -> None:
    """Lengths that do not fit, sketches that do not add up, damaged bytes: ValueError, and no state was touched."""
    good = observation(answered(RANDOM.normal(size=(50, 2)), [T0] * 50), refused=[refused([T0])])
    group, rejected = good.groups[0], good.rejected[0]
    sketched = observation(answered(RANDOM.normal(size=(50, 2)), [T0] * 50), sketch=True).groups[0]
    one = sketched.sketches[0]
    change = msgspec.structs.replace
    bad = [
        change(good, groups=(change(group, requested_at=group.requested_at[:-8]),)),
        change(good, groups=(change(group, features=group.features[:-8]),)),
        change(good, groups=(change(group, outputs=b""),)),
        change(good, rejected=(change(rejected, rows=2),)),
        change(good, rejected=(change(rejected, requested_at=b"123"),)),
        change(
            good, groups=(group, change(sketched, sketches=(change(one, kll=b"\x00" * 40), *sketched.sketches[1:])))
        ),
        change(good, groups=(group, change(sketched, sketches=(change(one, rows=51), *sketched.sketches[1:])))),
        change(good, groups=(group, change(sketched, sketches=(change(one, missing=1), *sketched.sketches[1:])))),
        change(good, groups=(group, change(sketched, sketches=sketched.sketches[1:]))),
        change(good, groups=(group, change(sketched, sketches=sketched.sketches * 2))),
    ]
    for each in bad:
        states: dict[WindowKey, WindowState] = {}
        with pytest.raises(ValueError):  # noqa: PT011 - which of the many sentences is not the point
            fold(read(each, WINDOW), states, {}, lambda _: False)
        assert not states
    with pytest.raises(ValueError, match="cannot take sketches"):
        read(change(good, groups=(sketched,)), 1500)


def test_other_columns_do_not_go_into_a_window() -> None:
    """A window is of one digest, and so of one signature."""
    states = folded(observation(answered(np.zeros((3, 2)), [T0] * 3)))
    with pytest.raises(ValueError, match="was given f0"):
        fold(read(observation(answered(np.zeros((3, 1)), [T0] * 3)), WINDOW), states, {}, lambda _: False)


@given(st.binary(max_size=100), st.integers(0, 10_000), st.integers(0, 255))
def test_hostile_bytes_of_a_state_are_refused_or_sound(noise: bytes, place: int, byte: int) -> None:
    """Noise, a state cut short or with one byte changed: InvalidSketch, or a state that can be used."""
    good = bytearray(folded(observation(answered(np.arange(12.0).reshape(6, 2), [T0] * 6)))[key()].to_bytes())
    cut = bytes(good[: place % len(good)])
    good[place % len(good)] = byte
    for data in (noise, cut, bytes(good)):
        try:
            state = WindowState.from_bytes(data)
        except InvalidSketch:
            continue
        assert state.rows >= 0 and all(column.count >= 0 for column in state.features.values())


def test_the_event_of_a_closed_window() -> None:
    """Counts, rates and quantiles as they stand in the state; an empty window of rejections has no latencies."""
    matrix = RANDOM.normal(size=(300, 2))
    state = folded(observation(answered(matrix, [T0] * 300), refused=[refused([T0, T0])]))[key()]
    event = window_closed(key(), state, 1, compare(None, state, DriftRules()), at(T0 + 9000), WINDOW)
    assert (event.rows, event.rejected, event.evidence, event.drifted) == (300, 2, "no_reference", ())
    assert event.events_per_second == 302 / 5 and event.score_mean == pytest.approx(0.5)
    assert (event.window_end - event.window_start).total_seconds() == 5
    assert {each.stage: each.p99 for each in event.latency_milliseconds} == {"queue": 0, "score": 20, "total": 20}
    empty = folded(observation(refused=[refused([T0], "EMPTY", version=0)]))[WindowKey("fraud", "", 0, "", "", START)]
    event = window_closed(key(), empty, 2, compare(None, empty, DriftRules()), at(T0), WINDOW)
    assert (event.latency_milliseconds, event.score_mean, event.rejected) == ((), None, 1)
