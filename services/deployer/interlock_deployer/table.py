"""The route table as routers read it from `interlock.routes`, whole with its epoch, and what is said of a change."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from interlock.schemas.events import Arm, RolledBack, Route, RouteCause, RouteChanged, VersionServing
from interlock_deployer.rollout import Order, Rollout

WEIGHT_WHOLE: Final = 10_000
CHAMPION: Final = "champion"


def route(rollout: Rollout, now: datetime) -> Route:
    """Return the route of a rollout that has a proven champion: one arm that takes everything, and its shadows."""
    assert rollout.champion is not None, "a route has a champion"
    placement = rollout.placements[rollout.champion]
    assert placement.proof is not None, "only a proven version may take traffic"
    return Route(
        endpoint=rollout.endpoint,
        epoch=rollout.epoch,
        promotion=rollout.applied,
        result_schema=placement.proof.result_schema,
        result_schema_id=placement.proof.result_schema_id,
        arms=(
            _arm(rollout, rollout.champion, CHAMPION, WEIGHT_WHOLE),
            *(_arm(rollout, version, f"shadow-{version}", 0) for version in rollout.shadows),
        ),
        at=now,
    )


def _arm(rollout: Rollout, version: int, name: str, weight: int) -> Arm:
    placement = rollout.placements[version]
    assert placement.proof is not None, "only a proven version may be asked"
    return Arm(
        arm=name,
        model=rollout.model,
        version=version,
        digest=placement.digest,
        application=rollout.application(version),
        weight=weight,
        signature=placement.proof.signature,
    )


def changes(rollout: Rollout, order: Order, now: datetime) -> tuple[Any, ...]:
    """Return the events of an order that was just carried out, the route among them."""
    changed = RouteChanged(
        endpoint=rollout.endpoint,
        epoch=rollout.epoch,
        champion_version=order.version,
        previous_version=rollout.previous,
        cause=order.cause,
        promotion=order.promotion,
        at=now,
    )
    if order.cause is RouteCause.ROLLBACK:
        assert order.previous is not None, "a rollback names the version it comes from"
        back = RolledBack(
            endpoint=rollout.endpoint,
            model=rollout.model,
            from_version=order.previous,
            to_version=order.version,
            epoch=rollout.epoch,
            actor=order.actor,
            at=now,
        )
        # The route goes first: it is what the routers wait for.
        return (route(rollout, now), changed, back)
    serving = VersionServing(
        endpoint=rollout.endpoint,
        model=rollout.model,
        version=order.version,
        digest=order.digest,
        application=rollout.application(order.version),
        epoch=rollout.epoch,
        at=now,
    )
    return (route(rollout, now), serving, changed)
