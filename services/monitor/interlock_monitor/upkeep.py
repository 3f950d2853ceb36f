"""Upkeep: quality is measured where labels came, and what is older than it is kept goes."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from interlock.cause import Cause
from interlock.clock import Clock, milliseconds
from interlock.postgres import journal
from interlock.postgres.pool import Pool
from interlock_monitor import quality
from interlock_monitor.quality import QualityRules
from interlock_monitor.settings import Settings
from interlock_monitor.store import Store

MEASURE_SECONDS: Final = 1.0
PRUNE_SECONDS: Final = 60.0
ACTOR: Final = "monitor"


class Upkeep:
    """What is done each second and each minute, beside the stream."""

    def __init__(self, pool: Pool, store: Store, settings: Settings, clock: Clock) -> None:
        self._pool = pool
        self._store = store
        self._settings = settings
        self._clock = clock
        self._rules = QualityRules.of(settings)

    async def measure(self) -> None:
        """Measure the quality of the windows that are due. Raises Transient where Postgres is away."""
        while True:
            async with journal.unit(self._pool, Cause.start(ACTOR), clock=self._clock) as unit:
                if await quality.measure_due(unit, self._rules) < self._rules.windows_max:
                    return

    async def prune(self) -> None:
        """Drop what is older than it is kept. Raises Transient where Postgres is away."""
        now, settings = self._clock.now(), self._settings
        await self._store.prune(
            milliseconds(now - timedelta(hours=settings.sketches_keep_hours)),
            milliseconds(now - timedelta(days=settings.windows_keep_days)),
        )
        async with journal.unit(self._pool, Cause.start(ACTOR), clock=self._clock) as unit:
            await quality.prune(unit, self._rules)
