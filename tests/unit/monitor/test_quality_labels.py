"""Which labels are refused, and which of several about one request stands."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from interlock.clock import milliseconds
from interlock.schemas.events import LabelRecorded
from interlock_monitor.quality_labels import Arrived, Key, Refused, Said, fold, read

REQUESTED = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
LEARNT = REQUESTED + timedelta(hours=3)


def label(**changes: Any) -> LabelRecorded:
    known: dict[str, Any] = {
        "endpoint": "fraud",
        "request_id": "r1",
        "requested_at": REQUESTED,
        "label": 1.0,
        "weight": 12.5,
        "source": "chargeback",
        "at": LEARNT,
    }
    return LabelRecorded(**known | changes)


def arrived(offset: int = 0, received: datetime = LEARNT, topic: str = "fraud.labels", **changes: Any) -> Arrived:
    return Arrived(label(**changes), topic, 0, offset, milliseconds(received))


def said(offset: int = 0, **changes: Any) -> Said:
    kept = read(arrived(offset, **{"received": LEARNT + timedelta(hours=1), **changes}), 30)
    assert isinstance(kept, Said)
    return kept


KEY = Key("fraud", milliseconds(REQUESTED), b"r1")


def test_a_good_label_is_kept() -> None:
    """Also one without a weight, and one of a regression."""
    assert isinstance(read(arrived(), 30), Said)
    assert isinstance(read(arrived(weight=None, label=-17.25), 30), Said)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"label": math.nan}, Refused.NOT_FINITE),
        ({"label": math.inf}, Refused.NOT_FINITE),
        ({"weight": math.nan}, Refused.NOT_FINITE),
        ({"weight": -0.01}, Refused.NEGATIVE_WEIGHT),
        ({"endpoint": "loans"}, Refused.OTHER_ENDPOINT),
        ({"request_id": ""}, Refused.REQUEST_ID),
        ({"request_id": "é" * 129}, Refused.REQUEST_ID),
        ({"at": LEARNT + timedelta(seconds=2.001)}, Refused.LEARNT_IN_THE_FUTURE),
        ({"requested_at": LEARNT - timedelta(days=30, milliseconds=1)}, Refused.TOO_LATE),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_bad_label_is_refused_with_its_reason(changes: dict[str, Any], reason: Refused) -> None:
    """Each for its own reason, decided by the record alone."""
    assert read(arrived(**changes), 30) is reason


def test_the_bounds_themselves_are_kept() -> None:
    """Two seconds of a fast clock, thirty days of a slow chargeback, an id of 256 bytes."""
    assert isinstance(read(arrived(at=LEARNT + timedelta(seconds=2)), 30), Said)
    assert isinstance(read(arrived(requested_at=LEARNT - timedelta(days=30)), 30), Said)
    assert isinstance(read(arrived(request_id="é" * 128), 30), Said)


def test_the_label_of_a_sender_whose_clock_is_ahead_is_kept_and_counted() -> None:
    """Its request is dated two hours after everybody else's now: it may be there, dated just so."""
    ahead = said(requested_at=LEARNT + timedelta(hours=2))
    change = fold({}, [ahead])
    assert change.counts == Counter({("fraud", "recorded"): 1, ("fraud", "ahead"): 1})
    assert len(change.truths) == 1


def test_the_same_twice_changes_nothing() -> None:
    """It is counted, and marks no window."""
    first = fold({}, [said(0)])
    again = fold(first.truths, [said(1)])
    assert again.changed == set()
    assert again.counts == Counter({("fraud", "repeated"): 1})


def test_a_correction_replaces_and_an_older_one_does_not() -> None:
    """What was learnt later stands, whenever it comes."""
    late = said(1, label=0.0, at=LEARNT - timedelta(minutes=1))
    correction = said(2, label=0.0, at=LEARNT + timedelta(seconds=1))
    known = fold({}, [said(0)]).truths
    older = fold(known, [late])
    assert older.changed == set() and older.truths == {}
    newer = fold(known, [correction])
    assert newer.truths[KEY].label == 0.0 and newer.changed == {KEY}
    assert older.counts[("fraud", "repeated")] == newer.counts[("fraud", "corrected")] == 1


def test_of_two_learnt_at_the_same_moment_the_later_record_stands() -> None:
    """In whichever order they are read."""
    one, two = said(4, label=1.0), said(5, label=0.0)
    for order in ([one, two], [two, one]):
        assert fold({}, order).truths[KEY].label == 0.0


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.sampled_from([0.0, 1.0])), max_size=7), st.data())
def test_what_stands_depends_on_neither_order_nor_cuts(told: list[tuple[int, int, float]], data: st.DataObject) -> None:
    """Any order, in any chunks, gives the truths of the whole topic read at once."""
    every = [
        said(offset, request_id=f"r{which}", at=LEARNT - timedelta(seconds=age), label=truth)
        for offset, (which, age, truth) in enumerate(told)
    ]
    whole = fold({}, every).truths
    shuffled = data.draw(st.permutations(every))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(every)), max_size=3)))
    known: dict[Any, Any] = {}
    for start, stop in itertools.pairwise([0, *cuts, len(every)]):
        known |= fold(known, shuffled[start:stop]).truths
    assert known == whole


def test_counts_do_not_depend_on_cuts() -> None:
    """First, repetition and correction are the same in one chunk as in three."""
    run = [said(0), said(1), said(2, label=0.0, at=LEARNT + timedelta(seconds=1))]
    counts: Counter[tuple[str, str]] = Counter()
    known: dict[Any, Any] = {}
    for each in run:
        change = fold(known, [each])
        known |= change.truths
        counts += change.counts
    assert counts == fold({}, run).counts
