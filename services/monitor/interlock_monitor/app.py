"""Read this first: the monitor reads observations and labels by Faust, and keeps what it counted in Postgres."""

from __future__ import annotations

from typing import Final

from interlock import memory
from interlock.schemas.topics import BUILD_EVENTS, ROUTES
from interlock.service import Host, Service
from interlock_monitor import handlers, http
from interlock_monitor.closing import Closing
from interlock_monitor.intake import Intake
from interlock_monitor.references import References
from interlock_monitor.settings import Settings
from interlock_monitor.store import Store
from interlock_monitor.store_windows import WindowStore
from interlock_monitor.stream import Stream
from interlock_monitor.upkeep import MEASURE_SECONDS, PRUNE_SECONDS, Upkeep

__all__ = ["USES", "Settings", "build"]

USES: Final = ("postgres",)


async def build(host: Host) -> Service:
    """Put the monitor together."""
    memory.settle()
    assert host.pool is not None
    settings: Settings = host.settings
    store = Store(host.pool, settings.window_milliseconds)
    references = References(store, host.blobs, settings, host.clock)
    intake = Intake(host.pool, store, references, settings, host.clock)
    closing = Closing(host.pool, WindowStore(host.pool), references, settings, host.clock)
    stream = Stream(store, intake, closing, settings, host.clock, host.stopping)
    upkeep = Upkeep(host.pool, store, settings, host.clock)
    return Service(
        name="monitor",
        consumes={BUILD_EVENTS: handlers.BUILDS, ROUTES: handlers.ROUTES},
        needs={"store": store},
        routers=[http.router(host.pool, references, settings)],
        loops=[stream.run],
        every={MEASURE_SECONDS: upkeep.measure, PRUNE_SECONDS: upkeep.prune},
        ready=[stream.ready],
    )
