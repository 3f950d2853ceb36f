"""The stream's life: a Faust app for the endpoints there are, and a new one after any doubt."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any, Final, cast

import structlog

from interlock import metrics
from interlock.backoff import pause
from interlock.clock import Clock, milliseconds
from interlock.errors import Transient
from interlock.kafka.admin import wait_for_kafka
from interlock.kafka.consumer import Stuck
from interlock.kafka.passing import passing
from interlock_monitor.agents import App, make_app
from interlock_monitor.agents_transport import ReadingConsumer
from interlock_monitor.closing import Closing
from interlock_monitor.errors import Stalled
from interlock_monitor.intake import Intake
from interlock_monitor.model import Place
from interlock_monitor.settings import Settings
from interlock_monitor.store import Store

START_SECONDS_MAX: Final = 30.0
STOP_SECONDS_MAX: Final = 8.0
KAFKA_SECONDS_MAX: Final = 5.0
NARRATORS: Final = ("faust", "mode", "interlock_monitor.agents", "interlock_monitor.agents_transport")
"""Loggers of the framework, which narrate, and print a traceback where this stream says a sentence."""

log = structlog.get_logger("interlock.monitor")


class Stream:
    """Runs one Faust app after the other in the process's own event loop, and each second brings home what it took."""

    def __init__(
        self, store: Store, intake: Intake, closing: Closing, settings: Settings, clock: Clock, stopping: asyncio.Event
    ) -> None:
        self._store = store
        self._intake = intake
        self._closing = closing
        self._settings = settings
        self._clock = clock
        self._stopping = stopping
        self._failure: BaseException | None = None
        self._live = False
        self._stalls = 0
        for name in NARRATORS:
            logging.getLogger(name).setLevel(logging.CRITICAL)

    async def ready(self) -> None:
        """Return if the stream is read; raises Transient while it is not."""
        if not self._live:
            raise Transient("The stream of observations is not read yet.")

    async def run(self) -> None:
        """Read until the process is to end; after each change of endpoints with a new app. Raises Transient, Stuck."""
        while not self._stopping.is_set():
            endpoints = await self._store.endpoints()
            if endpoints:
                await self._run_app(endpoints)
            else:
                self._live = True
                await pause(self._stopping, self._settings.stream_flush_seconds)
        self._live = False

    async def _run_app(self, endpoints: list[str]) -> None:
        await wait_for_kafka(self._settings, KAFKA_SECONDS_MAX)
        self._failure = None
        app = make_app(self._settings, endpoints, self._intake, self._fail)
        try:
            with passing("the stream"):
                async with asyncio.timeout(START_SECONDS_MAX):
                    await app.start()
                log.info("stream.started", endpoints=endpoints, places=len(self._intake.places))
                await self._watch(app, endpoints)
                await self._intake.flush()
        except Transient as error:
            metrics.MONITOR_STREAM_RESTARTS.labels(type(error).__name__).inc()
            raise
        finally:
            self._live = False
            self._intake.stop()
            await _stop(app)

    async def _watch(self, app: App, endpoints: list[str]) -> None:
        """Each second: bring home, close windows, measure. Return when the process is to end or endpoints changed."""
        moved, moved_at = self._intake.moved, self._clock.monotonic()
        while True:
            self._raise_failure(app)
            self._live = True
            waiting = self._waiting(app)
            if self._intake.moved != moved or not (waiting or app.rebalancing):
                moved, moved_at, self._stalls = self._intake.moved, self._clock.monotonic(), 0
            self._refuse_standing_still(self._clock.monotonic() - moved_at, len(waiting))
            await self._intake.flush()
            await self._store.keep_waiting(waiting, milliseconds(self._clock.now()))
            await self._closing.close_due(waiting)
            if self._stopping.is_set() or await self._store.endpoints() != endpoints:
                return
            await pause(self._stopping, self._settings.stream_flush_seconds)

    def _refuse_standing_still(self, seconds: float, waiting: int) -> None:
        """Raise Stalled when nothing moved for a while, and Stuck when new apps did not help either."""
        settings = self._settings
        if seconds <= settings.stream_stall_seconds:
            return
        self._stalls += 1
        told = f"{waiting} partitions wait, and nothing moved for {self._stalls * seconds:.0f} s."
        if self._stalls * settings.stream_stall_seconds >= settings.stream_stuck_seconds_max:
            raise Stuck(told)
        raise Stalled(told)

    def _waiting(self, app: App) -> set[Place]:
        """Return where something waits to be read, or may; note the lags."""
        consumer = cast("ReadingConsumer", app.consumer)
        lags = consumer.lags()
        for place, lag in lags.items():
            if lag is not None:
                metrics.MONITOR_LAG.labels(place.topic, str(place.partition)).set(lag)
        unread = {Place(message.topic, message.partition) for message in consumer.unacked}
        return {place for place, lag in lags.items() if lag != 0} | (unread & lags.keys())

    def _fail(self, error: BaseException) -> None:
        """Note what an agent failed of; nothing more is taken in."""
        if self._failure is None:
            self._failure = error
            self._intake.stop()

    def _raise_failure(self, app: App) -> None:
        if self._failure is not None:
            raise self._failure
        if app.crashed:
            raise app.crash_reason or Transient("the stream ended without a reason")


async def _stop(app: Any) -> None:
    """End an app within a bound; what does not end is left behind, for its offsets decide nothing."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STOP_SECONDS_MAX):
            try:
                with passing("the stream's end"):
                    await app.stop()
            except Transient as error:
                log.warning("stream.unclosed", detail=error.detail)
