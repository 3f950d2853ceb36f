"""What the deployer does on each event: write down what follows, in the event's own transaction.

Nothing here waits for Ray. A flip to a warm version is complete when the transaction commits; everything else is
left to the keeper (`serve.py`), which is woken. Any deployer may handle an event: the rollout's row lock puts the
handlers in line, and only acting on Ray needs the lease.
"""

from __future__ import annotations

from typing import Any, Final

from interlock.postgres.journal import Unit
from interlock.schemas.events import (
    EndpointCreated,
    RollbackOrdered,
    VersionApproved,
    VersionPromoted,
    VersionRegistered,
)
from interlock_deployer import model
from interlock_deployer.rollout import Limits
from interlock_deployer.serve import Keeper
from interlock_deployer.store import Store


async def on_version_registered(event: VersionRegistered, unit: Unit, *, store: Store) -> None:
    """Keep what is needed to run the version later."""
    await store.keep_version(unit, event)


async def on_endpoint_created(event: EndpointCreated, unit: Unit, *, store: Store, keeper: Keeper) -> None:
    """The endpoint's topics are to be made."""
    rollout = await store.rollout(unit, event.endpoint, event.model)
    await store.keep(unit, rollout, model.created(rollout, event))
    keeper.wake()


async def on_version_approved(
    event: VersionApproved, unit: Unit, *, store: Store, keeper: Keeper, limits: Limits
) -> None:
    """The version is to be started and kept warm."""
    rollout = await store.rollout(unit, event.endpoint, event.model)
    await store.keep(unit, rollout, model.approved(rollout, event, unit.cause, unit.clock.now(), limits))
    keeper.wake()


async def on_version_promoted(
    event: VersionPromoted, unit: Unit, *, store: Store, keeper: Keeper, limits: Limits
) -> None:
    """The version becomes champion, at once if it is warm."""
    rollout = await store.rollout(unit, event.endpoint, event.model)
    await store.keep(unit, rollout, model.promoted(rollout, event, unit.cause, unit.clock.now(), limits))
    keeper.wake()


async def on_rollback_ordered(
    event: RollbackOrdered, unit: Unit, *, store: Store, keeper: Keeper, limits: Limits
) -> None:
    """An earlier version becomes champion again, at once if it is warm."""
    rollout = await store.rollout(unit, event.endpoint, event.model)
    await store.keep(unit, rollout, model.ordered_back(rollout, event, unit.cause, unit.clock.now(), limits))
    keeper.wake()


MODEL: Final[dict[type[Any], Any]] = {
    VersionRegistered: on_version_registered,
    EndpointCreated: on_endpoint_created,
    VersionApproved: on_version_approved,
    VersionPromoted: on_version_promoted,
    RollbackOrdered: on_rollback_ordered,
}
