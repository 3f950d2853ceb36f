"""The builder: what it listens to and repeats."""

from __future__ import annotations

from typing import Final

from interlock.ids import uuid7
from interlock.schemas.topics import MODEL_EVENTS
from interlock.service import Host, Service
from interlock_builder import handlers
from interlock_builder.settings import Settings
from interlock_builder.store import Store
from interlock_builder.worker import Worker

__all__ = ["USES", "Settings", "build"]

USES: Final = ("postgres",)


async def build(host: Host) -> Service:
    """Put the builder together."""
    assert host.pool is not None
    store = Store(host.pool, holder=uuid7())
    worker = Worker(host.pool, store, host.blobs, host.settings, host.clock, host.stopping)
    return Service(
        name="builder",
        consumes={MODEL_EVENTS: handlers.MODEL},
        loops=(worker.run,) * host.settings.builds_at_once,
    )
