"""Observations: what is written comes back row by row, whatever the batch looks like, and always fits its record."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.clock import milliseconds
from interlock.codec import rows
from interlock.codec.observations import (
    CLOCK_AHEAD_MILLISECONDS,
    REQUEST_ID_BYTES_MAX,
    Answered,
    Refused,
    Seen,
    columns,
    event_time,
    observe,
    observe_all,
)
from interlock.codec.ragged import Ragged
from interlock.sketches import Kll

AT = datetime(2026, 11, 27, 12, 0, 0, 345_000, tzinfo=UTC)
NOW = milliseconds(AT)
UNBOUNDED = 2**40


def answered(offsets: list[int], features: int = 3, arm: str = "champion", **changes: Any) -> Answered:
    """Return an arm's answers with numbers that differ in every cell."""
    count = len(offsets)
    cells = np.array(offsets, dtype=np.float64)[:, None] + np.arange(features) / 1000
    whole = Answered(
        arm=arm,
        model="m",
        version=1,
        digest="sha256:1",
        offsets=np.array(offsets, dtype=np.int64),
        requested_at=NOW - np.arange(count, dtype=np.int64),
        request_ids=Ragged.of([f"r{offset}".encode() for offset in offsets]),
        output_names=("score", "rank"),
        outputs=np.stack([np.array(offsets, dtype=np.float64), -np.array(offsets, dtype=np.float64)], axis=1),
        feature_names=tuple(f"f{index}" for index in range(features)),
        features=cells,
    )
    return replace(whole, **changes)


def seen(*parts: Answered | Refused, start: int = 0, end: int = 10_000) -> Seen:
    """Return a batch with these parts."""
    return Seen(
        endpoint="fraud",
        topic="fraud.requests",
        partition=3,
        from_offset=start,
        next_offset=end,
        epoch=7,
        taken_at=AT,
        at=AT,
        answered=tuple(part for part in parts if isinstance(part, Answered)),
        refused=tuple(part for part in parts if isinstance(part, Refused)),
    )


def refused(offsets: list[int], reason: str = "EMPTY") -> Refused:
    """Return requests that got no score."""
    places = np.array(offsets, dtype=np.int64)
    return Refused("", "", 0, "", reason, places, NOW + places)


def test_columns_come_back_through_the_wire_as_they_were_written() -> None:
    """Two arms, a rejection, NaN and a text beyond ASCII: every number and every id is where it was."""
    first = answered([100, 102, 105], request_ids=Ragged.of([b"a", "é".encode(), b""]))
    first.features[1, 2] = np.nan
    second = answered([101, 104], features=0, arm="canary")
    given_ = seen(first, second, refused([103]), start=90, end=110)
    back = rows.decode(rows.encode(observe(given_, UNBOUNDED)))
    assert (back.rows, back.from_offset, back.next_offset, back.epoch, back.at) == (6, 90, 110, 7, AT)
    for group, part in zip(back.groups, (first, second), strict=True):
        found = columns(group)
        assert (group.arm, group.rows, group.output_names) == (part.arm, part.offsets.size, part.output_names)
        assert (found.offsets + 90).tolist() == part.offsets.tolist()
        assert found.requested_at.tolist() == part.requested_at.tolist()
        assert [each.encode() for each in found.request_ids] == list(part.request_ids)
        np.testing.assert_array_equal(found.outputs, part.outputs)
        assert found.features is not None
        np.testing.assert_array_equal(found.features, part.features.T)
    [rejection] = back.rejected
    assert (rejection.reason, rejection.rows, rejection.version) == ("EMPTY", 1, 0)
    assert np.frombuffer(rejection.requested_at, "<i8").tolist() == [NOW + 103]


def test_columns_are_views_of_the_bytes() -> None:
    """Reading copies nothing, and so nobody can write into what was read."""
    found = columns(observe(seen(answered(list(range(50)))), UNBOUNDED).groups[0])
    for array in (found.offsets, found.requested_at, found.outputs, found.features):
        assert array is not None
        assert not array.flags.owndata
        assert not array.flags.writeable


@pytest.mark.parametrize(
    "spoiled",
    [
        {"rows": 2},
        {"offsets": b"\0"},
        {"requested_at": b"\0" * 16},
        {"request_ids": b"r0r1r"},
        {"request_id_lengths": b"\xff" * 12},
        {"outputs": b""},
        {"features": b"\0" * 8},
        {"feature_names": ("f0",)},
    ],
)
def test_a_group_whose_lengths_disagree_is_refused(spoiled: dict[str, Any]) -> None:
    """ValueError, whichever column is short or long; never numbers of the wrong rows."""
    group = observe(seen(answered([0, 1, 2])), UNBOUNDED).groups[0]
    fields = {name: getattr(group, name) for name in group.__struct_fields__}
    with pytest.raises(ValueError, match=r"\S"):
        columns(type(group)(**(fields | spoiled)))


def test_a_very_long_request_id_is_left_out_and_its_neighbours_are_not() -> None:
    """Ids come from strangers: one may be a megabyte, and the observation must fit its record."""
    ids = [b"a", b"x" * (REQUEST_ID_BYTES_MAX + 1), b"y" * REQUEST_ID_BYTES_MAX]
    found = columns(observe(seen(answered([0, 1, 2], request_ids=Ragged.of(ids))), UNBOUNDED).groups[0])
    assert found.request_ids == ["a", "", "y" * REQUEST_ID_BYTES_MAX]


def test_features_beyond_the_bound_are_sketched_pane_by_pane() -> None:
    """The sketches of all panes together have every value; what is missing or infinite is counted as missing."""
    part = answered(list(range(4000)), features=2)
    part.features[::10, 0] = np.nan
    part.features[5, 1] = np.inf
    observation = rows.decode(rows.encode(observe(seen(part), 1000)))
    found = columns(observation.groups[0])
    assert found.features is None
    assert found.outputs.shape == (4000, 2)
    panes = (part.requested_at // 1000).tolist()
    assert {milliseconds(each.pane) for each in found.sketches} == {1000 * pane for pane in panes}
    for index, name in enumerate(part.feature_names):
        whole, mine = Kll(), [each for each in found.sketches if each.name == name]
        for each in mine:
            assert each.rows == panes.count(milliseconds(each.pane) // 1000)
            whole.merge(Kll.from_bytes(each.kll))
        present = part.features[np.isfinite(part.features[:, index]), index]
        assert whole.count == present.size == 4000 - sum(each.missing for each in mine)
        assert min(each.minimum for each in mine if each.minimum is not None) == present.min()
        for share in (0.1, 0.5, 0.9):
            assert abs((present <= whole.quantile(share)).mean() - share) < 0.02


def test_a_pane_without_any_value_has_no_extremes() -> None:
    """A feature that is missing throughout is sketched as such."""
    part = answered([0, 1], features=1)
    part.features[:] = np.nan
    [sketch] = observe(seen(part), 0).groups[0].sketches
    assert (sketch.rows, sketch.missing, sketch.minimum, sketch.maximum) == (2, 2, None, None)


@given(
    st.lists(st.sampled_from(["a", "b", "no", "gap"]), min_size=1, max_size=60),
    st.integers(1, 4000),
    st.integers(0, 3),
    st.integers(0, 40),
)
def test_a_batch_in_stretches_covers_every_offset_once(kinds: list[str], bound: int, before: int, wide: int) -> None:
    """However small the record: the stretches follow each other without gap or overlap and hold all rows in order."""
    places = {kind: [index for index, each in enumerate(kinds) if each == kind] for kind in ("a", "b", "no")}
    parts: list[Answered | Refused] = [
        answered([before + place for place in places[arm]], wide, arm) for arm in ("a", "b") if places[arm]
    ]
    if places["no"]:
        parts.append(refused([before + place for place in places["no"]]))
    batch = seen(*parts, start=0, end=before + len(kinds))
    stretches = observe_all(batch, UNBOUNDED, bound)
    assert [each.from_offset for each in stretches] == [0, *[each.next_offset for each in stretches[:-1]]]
    assert stretches[-1].next_offset == batch.next_offset
    assert sum(each.rows for each in stretches) == batch.rows
    for part in batch.answered:
        groups = [(each, columns(group)) for each in stretches for group in each.groups if group.arm == part.arm]
        offsets = [offset + each.from_offset for each, found in groups for offset in found.offsets.tolist()]
        assert offsets == part.offsets.tolist()
        np.testing.assert_array_equal(np.concatenate([found.outputs for _, found in groups]), part.outputs)
        cells = [found.features.T for _, found in groups if found.features is not None]
        np.testing.assert_array_equal(np.concatenate(cells), part.features)


@pytest.mark.parametrize("panes", [1, 500])
def test_no_observation_of_a_wide_model_outgrows_its_record(panes: int) -> None:
    """1,000 features, event times together or far apart: sketches where they fit, else several with columns."""
    count, bound = 500, 2**20
    times = NOW - 1000 * (np.arange(count, dtype=np.int64) % panes)
    ids = Ragged.of([b"i" * REQUEST_ID_BYTES_MAX] * count)
    part = answered(list(range(count)), 1000, requested_at=times, request_ids=ids)
    observations = observe_all(seen(part), 1000, bound)
    assert len(observations) > 1
    assert all(len(rows.encode(each)) < 1.1 * bound for each in observations)
    narrow = answered(list(range(count)), 20, requested_at=times)
    [only] = observe_all(seen(narrow), 1000, bound)
    assert bool(only.groups[0].sketches) == (panes == 1)


def test_the_time_of_an_event_is_its_own_unless_that_cannot_be_true() -> None:
    """From however long ago it is believed; further ahead than a clock may be, or before 1970, the score's counts."""
    ahead = CLOCK_AHEAD_MILLISECONDS
    asked = [NOW, NOW - 10**9, 0, NOW + ahead, NOW + ahead + 1, NOW + 7_200_000, 2**63 - 1, -1, -(2**63)]
    expected = [NOW, NOW - 10**9, 0, NOW + ahead, NOW, NOW, NOW, NOW, NOW]
    assert [event_time(each, NOW) for each in asked] == expected
    assert event_time(np.array(asked), NOW).tolist() == expected
    assert event_time(np.array(asked), np.full(len(asked), NOW)).tolist() == expected


def test_impossible_times_can_be_sketched() -> None:
    """A pane is a moment that exists, whatever a producer's clock said."""
    part = answered([0, 1, 2], requested_at=np.array([-(2**63), 2**63 - 1, NOW]))
    assert {each.pane for each in observe(seen(part), 0).groups[0].sketches} == {AT.replace(microsecond=0)}
