"""Closing: windows that nothing is expected for any more are told, compared with the reference, and alarmed about."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import msgspec
import structlog

from interlock import metrics
from interlock.cause import Cause
from interlock.clock import Clock, milliseconds
from interlock.postgres import journal
from interlock.postgres.journal import Unit
from interlock.postgres.pool import Pool
from interlock.schemas.events import DriftCleared, DriftDetected, WindowClosed
from interlock.sketches import InvalidSketch
from interlock_monitor.drift import DriftRules, Verdict, compare
from interlock_monitor.drift_alarm import step
from interlock_monitor.model import Place
from interlock_monitor.references import References
from interlock_monitor.settings import Settings
from interlock_monitor.store_windows import Due, WindowStore
from interlock_monitor.windows import WindowState, window_closed
from interlock_monitor.windows_watermark import Watermarks

log = structlog.get_logger("interlock.monitor")

ACTOR: Final = "monitor"

Event = WindowClosed | DriftDetected | DriftCleared


class Closing:
    """Closes the windows that are due. Several monitors may do it at once: each window's row is locked by one."""

    def __init__(
        self, pool: Pool, store: WindowStore, references: References, settings: Settings, clock: Clock
    ) -> None:
        self._pool = pool
        self._store = store
        self._references = references
        self._settings = settings
        self._clock = clock
        self._rules = DriftRules(
            rows_min=settings.drift_rows_min, false_alarms_per_window=settings.drift_false_alarms_per_window
        )

    async def close_due(self, waiting: Collection[Place]) -> int:
        """Close every window that is due, `waiting` being the places where something is still to be read.

        Returns how many. Raises Transient where Postgres is away.
        """
        now = milliseconds(self._clock.now())
        closed = 0
        for endpoint, watermark in (await self._watermarks(waiting, now)).items():
            revisable = now - round(self._settings.window_revision_seconds * 1000)
            while due := await self._store.due(endpoint, watermark, revisable, self._settings.windows_closed_max):
                await self._references.learn({(each.model, each.version) for each in due if each.version})
                done = await self._close(due)
                closed += done
                if done < len(due):
                    break  # another monitor has the rest
        return closed

    async def _watermarks(self, waiting: Collection[Place], now: int) -> dict[str, int]:
        """Return up to where each endpoint's windows may close, by what all monitors together have read."""
        settings = self._settings
        marks = Watermarks(settings.window_lateness_seconds, settings.partition_idle_seconds)
        endpoints = set()
        for place, endpoint, event_time, seen_at in await self._store.progress():
            endpoints.add(endpoint)
            if event_time is not None:
                marks.observe(endpoint, place.partition, event_time, seen_at)
            elif place in waiting:
                marks.observe(endpoint, place.partition, 0, now)
        return {endpoint: marks.watermark(endpoint, now) for endpoint in sorted(endpoints)}

    async def _close(self, due: list[Due]) -> int:
        """Close windows of one endpoint, oldest first, in one transaction."""
        closed, events = 0, []
        async with journal.unit(self._pool, Cause.start(ACTOR), clock=self._clock) as unit:
            for each in due:
                locked = await self._store.lock(unit, each)
                if locked is not None:
                    events += await self._told(unit, locked)
                    closed += 1
            for event in events:  # last, because the first append locks the endpoint's events for everybody
                await unit.append(f"endpoint/{event.endpoint}", event)
        for event in events:
            _note(event)
        return closed

    async def _told(self, unit: Unit, due: Due) -> list[Event]:
        """Keep a window's newest revision and what it does to its version's alarm; return what is to be told of it."""
        at = self._clock.now()
        try:
            state = WindowState.from_bytes(due.state)
        except InvalidSketch as error:  # nothing mends it, and it must not hold the windows behind it up
            log.error("window.sketches_unusable", detail=str(error), window=due.row)
            await self._store.drop_sketches(unit, due)
            return []
        verdict = compare(self._references.known.get((due.model, due.version)), state, self._rules)
        told = window_closed(due.key, state, due.revision + 1, verdict, at, due.length_milliseconds)
        await self._store.close(unit, due, told, verdict_json(verdict), milliseconds(at))
        if not due.version:
            return []  # requests that reached no version are no version's window
        before = await self._store.alarm(unit, due)
        after, event = step(before, due.key, verdict, self._rules, at, due.length_milliseconds)
        if after != before:
            await self._store.keep_alarm(unit, due, after)
        metrics.MONITOR_DRIFT.labels(due.endpoint, due.model, str(due.version), due.arm).set(float(after.raised))
        return [told] if event is None else [told, event]


def _note(event: Event) -> None:
    """Count and log what was told."""
    if isinstance(event, WindowClosed):
        metrics.MONITOR_WINDOWS_CLOSED.labels(event.endpoint, "first" if event.revision == 1 else "later").inc()
        return
    name = "drift.detected" if isinstance(event, DriftDetected) else "drift.cleared"
    features = [each if isinstance(each, str) else each.feature for each in event.features]
    log.warning(name, endpoint=event.endpoint, model=event.model, version=event.version, features=features)


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as it is kept beside its window."""
    return {
        "evidence": verdict.evidence,
        "rows": verdict.rows,
        "drifted": list(verdict.drifted),
        "features": [
            {"kind": each.kind, "drifted": each.drifted, **msgspec.to_builtins(each.drift)} for each in verdict.measured
        ],
    }
