"""What the monitor does on each control event: note what is to be watched, and with what to compare it."""

from __future__ import annotations

from typing import Any, Final

from interlock.postgres.journal import Unit
from interlock.schemas.events import BuildSucceeded, Route
from interlock_monitor.store import Store


async def on_build_succeeded(event: BuildSucceeded, unit: Unit, *, store: Store) -> None:
    """The version has a reference profile."""
    await store.keep_profile(unit, event)


async def on_route(event: Route, unit: Unit, *, store: Store) -> None:
    """The endpoint's topics exist: its first route is told after they were made."""
    await store.keep_endpoint(unit, event.endpoint)


BUILDS: Final[dict[type[Any], Any]] = {BuildSucceeded: on_build_succeeded}
ROUTES: Final[dict[type[Any], Any]] = {Route: on_route}
