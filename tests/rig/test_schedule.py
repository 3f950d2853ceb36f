"""The fault schedule is a function of its seed, and leaves nothing out."""

from __future__ import annotations

import pytest

from tests.rig.schedule import (
    FREEZE_SECONDS,
    ROUTER_FAULTS,
    SERVER_FAULTS,
    ZOMBIE_SECONDS,
    Fault,
    Strike,
    Victim,
    by_victim,
    draw,
    mix,
)

VICTIMS = [
    *(Victim(f"line{line}/router{slot}", 10, ROUTER_FAULTS) for line in range(3) for slot in range(2)),
    Victim("kafka", 1, SERVER_FAULTS),
]
PRINTED = ["1.344 line1/router1 zombie 8.299", "7.638 line2/router0 freeze 0.221", "8.474 line1/router0 kill 1.322"]


def test_the_same_seed_gives_the_same_schedule() -> None:
    """To the millisecond and in the same order; another seed gives another."""
    assert draw(7, 200, 60.0, VICTIMS) == draw(7, 200, 60.0, VICTIMS)
    assert draw(7, 200, 60.0, VICTIMS) != draw(8, 200, 60.0, VICTIMS)


def test_this_seed_gives_this_schedule() -> None:
    """Also on another machine and tomorrow: what a failed run has printed can be repeated."""
    assert [str(strike) for strike in draw(1, 3, 10.0, VICTIMS)] == PRINTED


def test_a_schedule_is_printed_and_read_back() -> None:
    """What a failed run has printed is the schedule."""
    strikes = draw(3, 50, 30.0, VICTIMS)
    assert [Strike.parse(str(strike)) for strike in strikes] == strikes


def test_strikes_are_as_many_as_asked_in_order_and_within_the_time() -> None:
    """Moments rise and stay inside the run; standstills have the lengths of their kind."""
    strikes = draw(5, 1_000, 600.0, VICTIMS)
    assert len(strikes) == 1_000
    moments = [strike.at_seconds for strike in strikes]
    assert moments == sorted(moments) and moments[0] >= 0 and moments[-1] <= 600
    for strike in strikes:
        low, high = {Fault.FREEZE: FREEZE_SECONDS, Fault.ZOMBIE: ZOMBIE_SECONDS}.get(strike.fault, (0.0, 1.5))
        assert low <= strike.seconds <= high


def test_every_kind_of_fault_hits_every_victim_and_only_its_own_kinds() -> None:
    """Nothing is left to chance that must be tried."""
    strikes = draw(11, 100, 60.0, VICTIMS)
    hit = {name: {strike.fault for strike in each} for name, each in by_victim(strikes).items()}
    assert hit == {victim.name: set(victim.faults) for victim in VICTIMS}


def test_weights_decide_how_often() -> None:
    """A victim of ten times the weight is hit about ten times as often."""
    counts = {name: len(each) for name, each in by_victim(draw(13, 6_100, 60.0, VICTIMS)).items()}
    assert 60 < counts["kafka"] < 150
    assert all(850 < counts[name] < 1_150 for name in counts if name != "kafka")


def test_the_mix_is_told_by_kind() -> None:
    """Lines and slots do not matter to a reader."""
    strikes = [Strike(0, "line1/router0", Fault.KILL, 0), Strike(1, "line2/router1", Fault.KILL, 0)]
    assert mix([*strikes, Strike(2, "kafka", Fault.FREEZE, 1)]) == "kafka freeze 1, router kill 2"


def test_nobody_to_hurt_is_an_error() -> None:
    """A run without victims would prove nothing."""
    with pytest.raises(ValueError, match="nobody"):
        draw(1, 1, 1.0, [])
