"""The alarm is raised once, told again only when more is to blame, and cleared after clean windows with evidence."""

from __future__ import annotations

from datetime import datetime

import msgspec
import numpy as np

from interlock.schemas.events import DriftCleared, DriftDetected
from interlock_monitor.drift import DriftRules, Verdict, compare
from interlock_monitor.drift_alarm import Alarm, step
from interlock_monitor.windows import WindowKey
from tests.unit.monitor.worlds import T0, WINDOW, at, reference_of, window_of

RULES = DriftRules()
RANDOM = np.random.default_rng(4)
REFERENCE = reference_of(RANDOM.normal(size=(5000, 4)))


def verdict(*shifted: int, rows: int = 1000) -> Verdict:
    """Return the verdict on a window in which some columns are shifted, the earlier named the further."""
    matrix = RANDOM.normal(size=(rows, 4))
    for order, place in enumerate(shifted):
        matrix[:, place] += 2.0 - order / 2
    return compare(REFERENCE, window_of(REFERENCE, matrix), RULES)


class Watch:
    """Feeds windows one after the other and keeps what was told."""

    def __init__(self) -> None:
        self.alarm: Alarm | None = None
        self.told: list[DriftDetected | DriftCleared] = []

    def see(self, window: int, found: Verdict) -> DriftDetected | DriftCleared | None:
        """Judge the window of that number; the alarm takes a trip through JSON, as it does in the store."""
        key = WindowKey("fraud", "fraud", 2, "sha256:d2", "champion", T0 + window * WINDOW)
        self.alarm, event = step(self.alarm, key, found, RULES, self.now(window), WINDOW)
        self.alarm = msgspec.json.decode(msgspec.json.encode(self.alarm), type=Alarm)
        if event is not None:
            self.told.append(event)
        return event

    @staticmethod
    def now(window: int) -> datetime:
        """Return when a window was judged."""
        return at(T0 + (window + 1) * WINDOW + 2000)


def test_raised_once_and_cleared_after_two_clean_windows() -> None:
    """All to blame, worst first; the same again says nothing; one clean window is not enough."""
    watch = Watch()
    assert watch.see(0, verdict()) is None
    raised = watch.see(1, verdict(2, 0))
    assert isinstance(raised, DriftDetected) and [each.feature for each in raised.features] == ["f2", "f0"]
    assert (raised.rows, raised.false_alarms_per_window, raised.window_start) == (1000, 1e-4, at(T0 + WINDOW))
    assert watch.see(2, verdict(2, 0)) is None and watch.see(3, verdict()) is None
    assert watch.see(4, verdict(2)) is None and watch.see(5, verdict()) is None
    cleared = watch.see(6, verdict())
    assert isinstance(cleared, DriftCleared) and cleared.features == ("f2", "f0")
    assert (cleared.detected_at, cleared.window_start) == (Watch.now(1), at(T0 + 6 * WINDOW))
    assert watch.alarm is not None and not watch.alarm.raised
    assert isinstance(watch.see(7, verdict(2)), DriftDetected)
    assert len(watch.told) == 3


def test_something_new_to_blame_is_told_again() -> None:
    """With all that this window blames; a column that goes and comes back is not told a second time."""
    watch = Watch()
    watch.see(0, verdict(1))
    added = watch.see(1, verdict(3, 1))
    assert isinstance(added, DriftDetected) and [each.feature for each in added.features] == ["f3", "f1"]
    for window, found in enumerate([verdict(1), verdict(3), verdict(3, 1), verdict(1)], start=2):
        assert watch.see(window, found) is None
    watch.see(6, verdict())
    cleared = watch.see(7, verdict())
    assert isinstance(cleared, DriftCleared) and cleared.features == ("f1", "f3")
    assert cleared.detected_at == Watch.now(0)


def test_windows_without_evidence_neither_raise_nor_clear() -> None:
    """Too few rows, and no reference, as long as it takes."""
    watch = Watch()
    few, none = verdict(1, rows=150), compare(None, window_of(None, RANDOM.normal(size=(900, 4))), RULES)
    assert watch.see(0, few) is None and watch.see(1, none) is None
    watch.see(2, verdict(1))
    for window in range(3, 20):
        assert watch.see(window, few if window % 2 else none) is None
    assert watch.alarm is not None and watch.alarm.raised
    assert watch.see(20, verdict()) is None
    assert watch.see(21, few) is None
    assert isinstance(watch.see(22, verdict()), DriftCleared)


def test_revisions_of_windows_gone_by() -> None:
    """One of an older window changes nothing; one of the latest may raise and add, but is no further clean window."""
    watch = Watch()
    watch.see(5, verdict())
    assert watch.see(4, verdict(1)) is None
    assert isinstance(watch.see(5, verdict(1)), DriftDetected)
    for _ in range(3):
        assert watch.see(5, verdict()) is None and watch.see(3, verdict()) is None
    assert watch.see(6, verdict()) is None and watch.see(6, verdict()) is None
    assert isinstance(watch.see(7, verdict()), DriftCleared)
    assert watch.see(6, verdict(1)) is None
