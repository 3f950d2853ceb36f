"""Lanes take one after the other."""

from __future__ import annotations

from itertools import pairwise
from operator import itemgetter

from interlock_router.turns import Turns


def test_lanes_that_want_to_take_together_are_spread_over_an_interval() -> None:
    """Four lanes at the same moment, each again an interval after its turn: soon they are a fourth of it apart."""
    turns, takes = Turns(), dict.fromkeys("abcd", 100.0)
    for _ in range(8):
        wishes = {lane: at + 0.04 for lane, at in sorted(takes.items(), key=itemgetter(1))}
        takes = {lane: at + turns.next_seconds(lane, at, 0.04) for lane, at in wishes.items()}
    gaps = [round(later - earlier, 6) for earlier, later in pairwise(sorted(takes.values()))]
    assert gaps == [0.01, 0.01, 0.01]


def test_a_lane_alone_never_waits() -> None:
    """Its own interval is behind it when it asks, and the others took long ago."""
    turns = Turns()
    for lane in "abc":
        turns.next_seconds(lane, 1.0, 0.04)
    assert [turns.next_seconds("a", at, 0.04) for at in (2.0, 2.04, 2.08)] == [0.0, 0.0, 0.0]


def test_lanes_without_requests_take_no_turns() -> None:
    """Two of four lanes fall silent: after two intervals the turns are half an interval apart."""
    turns = Turns()
    for lane in "abcd":
        turns.next_seconds(lane, 10.0, 0.04)
    waits = [turns.next_seconds(lane, at, 0.04) for lane, at in (("a", 10.2), ("b", 10.2), ("a", 10.24), ("b", 10.26))]
    assert [round(wait, 6) for wait in waits] == [0.0, 0.02, 0.0, 0.0]


def test_a_lane_with_a_long_interval_does_not_hold_up_a_quick_one() -> None:
    """The slow one's next turn would be an eighth of a second away; the quick one waits for its part of 40 ms."""
    turns = Turns()
    turns.next_seconds("slow", 5.0, 0.25)
    assert round(turns.next_seconds("quick", 5.0, 0.04), 6) == 0.02
