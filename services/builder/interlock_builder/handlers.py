"""What the builder does on each event: note what is to be built, and who is champion."""

from __future__ import annotations

from typing import Any, Final

from interlock.postgres.journal import Unit
from interlock.schemas.events import RollbackOrdered, VersionPromoted, VersionRegistered
from interlock_builder import store


async def on_version_registered(event: VersionRegistered, unit: Unit) -> None:
    """The version is to be built."""
    await store.add(unit, event)


async def on_version_promoted(event: VersionPromoted, unit: Unit) -> None:
    """The version is what later ones are measured against."""
    await store.crown(unit, event.endpoint, event.model, event.version, event.digest, event.promotion, event.at)


async def on_rollback_ordered(event: RollbackOrdered, unit: Unit) -> None:
    """The version gone back to is what later ones are measured against."""
    await store.crown(unit, event.endpoint, event.model, event.to_version, event.to_digest, event.promotion, event.at)


MODEL: Final[dict[type[Any], Any]] = {
    VersionRegistered: on_version_registered,
    VersionPromoted: on_version_promoted,
    RollbackOrdered: on_rollback_ordered,
}
