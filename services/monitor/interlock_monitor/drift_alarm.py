"""The alarm of one version's arm: raised once, added to when more is to blame, cleared after enough clean windows."""

from __future__ import annotations

from datetime import datetime

import msgspec

from interlock.clock import instant_of
from interlock.schemas.events import DriftCleared, DriftDetected
from interlock_monitor.drift import DriftRules, Verdict
from interlock_monitor.windows import WindowKey


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """Where the alarm stands after the windows up to `judged`; kept as JSON.

    `judged` is the start of the latest window judged with enough evidence, in milliseconds. `detected_at` is None
    while all is quiet. `features` are all that were to blame since then, those of the first window first.
    """

    judged: int = -1
    clean_windows: int = 0
    detected_at: datetime | None = None
    features: tuple[str, ...] = ()

    @property
    def raised(self) -> bool:
        """Whether drift was detected and not cleared."""
        return self.detected_at is not None


def step(
    alarm: Alarm | None,
    key: WindowKey,
    verdict: Verdict,
    rules: DriftRules,
    at: datetime,
    window_milliseconds: int,
) -> tuple[Alarm, DriftDetected | DriftCleared | None]:
    """Return the alarm after a window's verdict, and what is to be told.

    A window without enough evidence changes nothing, nor does the revision of one before the latest judged. Drift
    raises the alarm. While it is raised, a window that blames something new is told again, with all that this window
    blames; what is no longer to blame is not told before the alarm is cleared, so that a column at the threshold does
    not make a series of events. The revision of the latest window can raise or add to the alarm, but counts for no
    clean window of its own.
    """
    alarm = alarm or Alarm()
    start = key.start_milliseconds
    if verdict.evidence != "enough" or start < alarm.judged:
        return alarm, None
    if verdict.features:
        return _drifted(alarm, key, verdict, at, window_milliseconds)
    if start == alarm.judged:
        return alarm, None
    if not alarm.raised:
        return msgspec.structs.replace(alarm, judged=start), None
    clean = alarm.clean_windows + 1
    if clean < rules.clear_windows:
        return msgspec.structs.replace(alarm, judged=start, clean_windows=clean), None
    assert alarm.detected_at is not None
    cleared = DriftCleared(
        endpoint=key.endpoint,
        model=key.model,
        version=key.version,
        digest=key.digest,
        arm=key.arm,
        window_start=instant_of(start),
        window_end=instant_of(start + window_milliseconds),
        detected_at=alarm.detected_at,
        features=alarm.features,
        at=at,
    )
    return Alarm(judged=start), cleared


def _drifted(
    alarm: Alarm, key: WindowKey, verdict: Verdict, at: datetime, window_milliseconds: int
) -> tuple[Alarm, DriftDetected | None]:
    new = tuple(name for name in verdict.drifted if name not in alarm.features)
    after = Alarm(
        judged=key.start_milliseconds,
        clean_windows=0,
        detected_at=alarm.detected_at or at,
        features=alarm.features + new,
    )
    if not new:
        return after, None
    detected = DriftDetected(
        endpoint=key.endpoint,
        model=key.model,
        version=key.version,
        digest=key.digest,
        arm=key.arm,
        window_start=instant_of(key.start_milliseconds),
        window_end=instant_of(key.start_milliseconds + window_milliseconds),
        rows=verdict.rows,
        features=verdict.features,
        false_alarms_per_window=verdict.false_alarms_per_window,
        at=at,
    )
    return after, detected
