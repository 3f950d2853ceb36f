"""Watermarks: the slowest partition that is awake decides, and no clock ahead of now moves them."""

from __future__ import annotations

from interlock_monitor.windows_watermark import Watermarks

NOW = 10_000_000


def marks() -> Watermarks:
    """Return watermarks with 2 s of lateness, idle after 10 s."""
    return Watermarks(lateness_seconds=2, idle_seconds=10)


def test_the_slowest_partition_decides() -> None:
    """The least of the latest event times, less the lateness; an observation from behind takes nothing back."""
    found = marks()
    found.observe("fraud", 0, NOW - 100, NOW)
    found.observe("fraud", 1, NOW - 4000, NOW)
    found.observe("iris", 0, NOW - 50_000, NOW)
    assert found.watermark("fraud", NOW) == NOW - 6000
    found.observe("fraud", 1, NOW - 9000, NOW)
    assert found.watermark("fraud", NOW) == NOW - 6000


def test_an_idle_partition_is_not_waited_for() -> None:
    """After its time the others go on; where all are idle, the clock does."""
    found = marks()
    found.observe("fraud", 0, NOW - 4000, NOW)
    found.observe("fraud", 1, NOW + 8000, NOW + 8000)
    assert found.watermark("fraud", NOW + 10_000) == NOW - 6000
    assert found.watermark("fraud", NOW + 10_001) == NOW + 6000
    assert found.watermark("fraud", NOW + 30_000) == NOW + 18_000
    assert found.watermark("unknown", NOW) == NOW - 12_000


def test_the_future_moves_nothing() -> None:
    """An event time ahead of now counts as now."""
    found = marks()
    found.observe("fraud", 0, NOW + 7_200_000, NOW)
    assert found.watermark("fraud", NOW) == NOW - 2000
    assert found.watermark("fraud", NOW + 5000) == NOW - 2000


def test_a_partition_that_is_to_be_read_holds_everything_back() -> None:
    """After a restart nothing closes before the backlog is read, or the partition shows to be idle."""
    found = marks()
    found.expect("fraud", 0, NOW)
    found.expect("fraud", 1, NOW)
    found.observe("fraud", 1, NOW, NOW)
    assert found.watermark("fraud", NOW) == -2000
    found.observe("fraud", 0, NOW - 3_600_000, NOW + 1)
    found.expect("fraud", 0, NOW + 2)
    assert found.watermark("fraud", NOW + 2) == NOW - 3_602_000
    found.forget("fraud", 0)
    assert found.watermark("fraud", NOW + 2) == NOW - 2000
    assert found.endpoints() == ["fraud"]
