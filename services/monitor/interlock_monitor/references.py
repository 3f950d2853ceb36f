"""Reference profiles: how every feature of a version was spread when it was built, looked up once and kept."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

import msgspec
import structlog

from interlock.blobs import Blobs
from interlock.clock import Clock
from interlock.errors import Refusal
from interlock_monitor.drift import Reference
from interlock_monitor.settings import Settings
from interlock_monitor.store import Store

log = structlog.get_logger("interlock.monitor")

LOOK_SECONDS: Final = 0.1
ABSENT_SECONDS: Final = 30.0
"""How long a version counts as one without a profile until it is looked up again."""

Named = tuple[str, int]


class References:
    """The profiles in memory; `known` is what windows are compared with, None for a version without a profile."""

    def __init__(self, store: Store, blobs: Blobs, settings: Settings, clock: Clock) -> None:
        self._store = store
        self._blobs = blobs
        self._settings = settings
        self._clock = clock
        self._absent_until: dict[Named, float] = {}
        self.known: dict[Named, Reference | None] = {}

    async def learn(self, versions: Iterable[Named], *, wait: bool = False) -> None:
        """Look up what is not known yet; with `wait`, give the news of a version's build some time to arrive.

        A build is told on another topic than what the version answers, so it may be heard of a little later. Raises
        Transient where Postgres or the blob store is away.
        """
        for named in versions:
            if named in self.known and self._clock.monotonic() < self._absent_until.get(named, float("inf")):
                continue
            first = named not in self.known
            seconds = self._settings.profile_wait_seconds if wait and first else 0.0
            self._keep(named, await self._find(named, seconds))

    def _keep(self, named: Named, reference: Reference | None) -> None:
        while len(self.known) >= self._settings.references_max:
            oldest = next(iter(self.known))
            del self.known[oldest]
            self._absent_until.pop(oldest, None)
        self.known[named] = reference
        self._absent_until.pop(named, None)
        if reference is None:
            self._absent_until[named] = self._clock.monotonic() + ABSENT_SECONDS

    async def _find(self, named: Named, seconds: float) -> Reference | None:
        deadline = self._clock.monotonic() + seconds
        while (digest := await self._store.profile(*named)) is None:
            if self._clock.monotonic() >= deadline:
                log.info("reference.absent", model=named[0], version=named[1])
                return None
            await asyncio.sleep(LOOK_SECONDS)
        try:
            content = await asyncio.to_thread(self._blobs.get, digest)
            return Reference.from_profile(msgspec.json.decode(content))
        except (Refusal, ValueError) as error:
            log.error("reference.unusable", model=named[0], version=named[1], digest=digest, detail=str(error))
            return None
