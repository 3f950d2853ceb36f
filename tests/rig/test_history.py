"""The judge, judged: nothing is wrong in a right history, and each thing made wrong in it is called by its name."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.codec import batches
from tests.rig.histories import MUTATIONS, RULES, Maker
from tests.rig.history import Effect, Journalled, Kind, Published, Rules, Violation, numbered, sums
from tests.rig.history_batches import digest
from tests.rig.history_check import arm_of, check, check_events
from tests.rig.history_reading import java_hash

SEEDS = st.integers(0, 2**32)


@settings(max_examples=50)
@given(SEEDS)
def test_nothing_is_wrong_in_a_right_history(seed: int) -> None:
    """Whatever the batches, rejections, aborted requests and epochs are."""
    assert check(Maker(random.Random(seed)).make(), RULES) == []


@pytest.mark.parametrize("name", MUTATIONS)
@settings(max_examples=12)
@given(seed=SEEDS)
def test_what_is_made_wrong_is_called_by_its_name(name: str, seed: int) -> None:
    """Each mutation of a right history yields a violation of its kind."""
    chance = random.Random(seed)
    history = Maker(chance).make()
    mutate, kind = MUTATIONS[name]
    mutate(history, chance)
    assert kind in {each.kind for each in check(history, RULES)}


def test_the_mutations_yield_every_kind_that_a_history_can_have() -> None:
    """No kind of violation is there that nothing is ever called; events and bytes have tests of their own."""
    others = {Kind.UNREADABLE, Kind.EVENT_LOST, Kind.EVENT_DUPLICATE, Kind.EVENT_ORDER}
    assert {kind for _, kind in MUTATIONS.values()} == set(Kind) - others


def test_what_could_not_be_read_is_passed_on() -> None:
    """A violation that the reader found stands first."""
    history = Maker(random.Random(1)).make()
    found = Violation(Kind.UNREADABLE, "e.results", 0, 5, "", "a record", "00")
    history.unreadable.append(found)
    assert check(history, RULES) == [found]
    assert str(found) == "unreadable: e.results/0/5 -: expected a record; found 00"


@settings(max_examples=25)
@given(SEEDS)
def test_an_unfinished_history_may_lack_answers_but_only_behind_the_offset(seed: int) -> None:
    """With `complete=False` what the group has not passed may be missing; what it has passed may not."""
    history = Maker(random.Random(seed)).make()
    unanswered = history.requests[-1]._replace(offset=10_000)
    history.requests.append(unanswered)
    assert check(history, replace(RULES, complete=False)) == []
    assert [each.kind for each in check(history, RULES)] == [Kind.LOST]


@settings(max_examples=50)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=200))
def test_digests_are_those_of_the_product(values: list[bytes]) -> None:
    """Two implementations that share the document and the hash agree."""
    assert digest(values) == batches.digest(values)
    holey = [None if index % 5 == 2 else value for index, value in enumerate(values)]
    assert digest(holey) == batches.digest(holey)


def test_scores_and_hashes_are_what_the_documents_say() -> None:
    """Known values: the two score functions, Java's hash of a text, the slot of a key."""
    assert sums(7.9, 2) == 7.002
    assert numbered(7.0, 2) == 2_000_000_007
    assert java_hash("hello") == 99_162_322
    assert java_hash("polygenelubricants") == 0  # the hash is the least integer, whose absolute value there is none of
    assert arm_of("e", (), b"k", "r") is None
    assert Rules().complete


_JOURNAL = [
    Journalled(number, f"id-{number}", "t", f"k{number % 2}", b"%d" % number, 1 + number // 4) for number in range(8)
]
_PUBLISHED = [Published("t", 0, each.position, each.key, each.event_id, each.value) for each in _JOURNAL]
_EFFECTS = [Effect(each.key, each.event_id) for each in _JOURNAL]


def test_events_published_again_under_their_own_ids_are_no_violation() -> None:
    """At least once on the topic, once in effect; keys may run past one another."""
    assert check_events(_JOURNAL, [*_PUBLISHED, *_PUBLISHED[4:]], _EFFECTS) == []
    assert check_events(_JOURNAL, sorted(_PUBLISHED, key=lambda each: each.key), None) == []


@pytest.mark.parametrize(
    ("kind", "published", "effects"),
    [
        (Kind.EVENT_LOST, _PUBLISHED[1:], _EFFECTS),
        (Kind.EVENT_LOST, _PUBLISHED, _EFFECTS[:-1]),
        (Kind.EVENT_DUPLICATE, [*_PUBLISHED, _PUBLISHED[0]._replace(event_id="new")], _EFFECTS),
        (Kind.EVENT_DUPLICATE, [*_PUBLISHED, _PUBLISHED[0]._replace(value=b"new")], _EFFECTS),
        (Kind.EVENT_DUPLICATE, _PUBLISHED, [*_EFFECTS, _EFFECTS[-1]]),
        (Kind.EVENT_ORDER, _PUBLISHED[::-1], _EFFECTS),
        (Kind.EVENT_ORDER, _PUBLISHED, _EFFECTS[::-1]),
        (Kind.ABORTED_VISIBLE, [*_PUBLISHED, Published("t", 0, 9, "k0", "id-9", b"9")], _EFFECTS),
        (Kind.ABORTED_VISIBLE, _PUBLISHED, [*_EFFECTS, Effect("k0", "id-9")]),
    ],
)
def test_what_is_wrong_with_events_is_called_by_its_name(
    kind: Kind, published: list[Published], effects: list[Effect]
) -> None:
    """Lost, doubled, out of order, never decided: on the topic and in effect."""
    assert {each.kind for each in check_events(_JOURNAL, published, effects)} == {kind}


def test_a_lease_epoch_that_comes_back_is_stale() -> None:
    """An event decided under an older lease behind one of a newer."""
    journal = [*_JOURNAL, Journalled(8, "id-8", "t", "k0", b"8", 1)]
    published = [*_PUBLISHED, Published("t", 0, 8, "k0", "id-8", b"8")]
    assert [each.kind for each in check_events(journal, published)] == [Kind.STALE_EPOCH]
