"""How many requests a lane takes follows how quickly they are scored, and how soon how quickly they are answered."""

from __future__ import annotations

from interlock_router.pace import ROWS_FIRST, ROWS_MIN, Pace

MILLISECOND = 0.001


def test_a_quick_version_is_given_more_and_more_up_to_the_bound() -> None:
    """Four times as much each time, and not on the word of a small batch."""
    pace = Pace(100_000, 0.25)
    assert pace.rows() == ROWS_FIRST
    pace.scored(10, 0.0001)
    assert pace.rows() == ROWS_FIRST
    sizes = []
    for _ in range(5):
        pace.scored(pace.rows(), pace.rows() * 0.002 * MILLISECOND)
        sizes.append(pace.rows())
    assert sizes == [16_384, 65_536, 100_000, 100_000, 100_000]


def test_more_is_taken_for_several_versions() -> None:
    """Up to four times as much, and no more than they score in time."""
    pace = Pace(10_000, 0.25)
    for _ in range(4):
        pace.scored(pace.rows(10), pace.rows(10) * 0.002 * MILLISECOND)
    assert [pace.rows(versions) for versions in (0, 1, 2, 3, 4, 10)] == [10_000, 10_000, 20_000, 30_000, 40_000, 40_000]
    pace.scored(40_000, 1.0)
    assert [pace.rows(versions) for versions in (1, 10)] == [10_000, 10_000]


def test_a_slow_version_is_given_what_it_scores_in_time() -> None:
    """A millisecond a row: 250 rows in a quarter of a second; as slow as can be: the least; and back again."""
    pace = Pace(16_384, 0.25)
    pace.scored(4096, 4096 * MILLISECOND)
    assert pace.rows() == 250
    pace.scored(250, 60.0)
    assert pace.rows() == ROWS_MIN
    pace.scored(ROWS_MIN, 0.0)
    assert pace.rows() == 4 * ROWS_MIN


def test_the_bound_holds_where_it_is_smaller_than_all_others() -> None:
    """A bound of six rows is a bound of six rows."""
    pace = Pace(6, 0.25)
    assert pace.rows() == 6
    pace.scored(6, 100.0)
    assert pace.rows() == 6


def test_the_interval_follows_how_long_batches_take() -> None:
    """As long as a batch takes, within the bounds; one slow batch moves it by a fifth."""
    pace = Pace(16_384, 0.25, interval_seconds=0.04, interval_seconds_max=0.2)
    assert pace.interval_seconds == 0.04
    for _ in range(60):
        pace.answered(0.06)
    assert round(pace.interval_seconds, 5) == 0.06
    pace.answered(0.11)
    assert round(pace.interval_seconds, 5) == 0.07
    for _ in range(60):
        pace.answered(30.0)
    assert round(pace.interval_seconds, 5) == 0.2
    for _ in range(60):
        pace.answered(-1.0)  # the wall clock was set back
    assert pace.interval_seconds == 0.04


def test_without_intervals_there_is_none() -> None:
    """Zero is what a test asks for that wants many small batches: the longest interval does not bring one back."""
    pace = Pace(16_384, 0.25, interval_seconds=0.0, interval_seconds_max=0.0)
    pace.answered(0.1)
    assert pace.interval_seconds == 0.0
