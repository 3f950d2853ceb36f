"""The walk of a rollout: what follows from each fact, which versions are kept warm, and which one serves.

Everything here is pure: a rollout and a fact go in, a step (the next rollout and the events that follow) comes
out. Facts may come twice, late or out of order. An order (promotion or rollback) carries a number that rises per
endpoint, and one whose number is not above the newest heard changes nothing. Nothing is placed that was not
approved with the same digest, and nothing serves before it is warm.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace

from interlock.cause import Cause
from interlock.schemas.events import (
    DeployFailed,
    EndpointCreated,
    RollbackOrdered,
    RouteCause,
    VersionApproved,
    VersionDrained,
    VersionPromoted,
    VersionWarmed,
)
from interlock_deployer import table
from interlock_deployer.errors import ORDER_NOT_APPROVED
from interlock_deployer.rollout import (
    ORDERS_KEPT_MAX,
    Approval,
    Limits,
    Order,
    Placement,
    Proof,
    Rollout,
    Stage,
    Step,
)


def created(rollout: Rollout, event: EndpointCreated) -> Step:
    """The endpoint exists: its topics can be made."""
    if rollout.partitions is not None:
        return Step(rollout)
    return Step(replace(rollout, partitions=event.partitions))


def opened(rollout: Rollout, now: datetime, limits: Limits) -> Step:
    """The endpoint's topics exist: routes may name it."""
    if rollout.opened or rollout.partitions is None:
        return Step(rollout)
    return _settle(replace(rollout, opened=True), now, limits)


def approved(rollout: Rollout, event: VersionApproved, origin: Cause, now: datetime, limits: Limits) -> Step:
    """A version may go to this endpoint: start it and keep it warm. The first approval of a number stands."""
    if event.version in rollout.approvals:
        return Step(rollout)
    approvals = {**rollout.approvals, event.version: Approval(event.digest, origin)}
    return _settle(replace(rollout, approvals=approvals), now, limits)


def promoted(rollout: Rollout, event: VersionPromoted, origin: Cause, now: datetime, limits: Limits) -> Step:
    """A version is to become champion: at once if it is warm, else as soon as it is."""
    order = Order(
        event.promotion,
        event.version,
        event.digest,
        RouteCause.PROMOTION,
        event.previous_version,
        event.actor,
        origin,
    )
    return _ordered(rollout, order, frozenset({event.version}), now, limits)


def ordered_back(rollout: Rollout, event: RollbackOrdered, origin: Cause, now: datetime, limits: Limits) -> Step:
    """An earlier version is to become champion again; the one rolled back from becomes the previous."""
    order = Order(
        event.promotion,
        event.to_version,
        event.to_digest,
        RouteCause.ROLLBACK,
        event.from_version,
        event.actor,
        origin,
    )
    return _ordered(rollout, order, frozenset({event.to_version, event.from_version}), now, limits)


def warmed(rollout: Rollout, version: int, digest: str, proof: Proof, now: datetime, limits: Limits) -> Step:
    """A version's application is up and gave the expected answers; an order that waited for it is carried out."""
    placement = rollout.placements.get(version)
    if placement is None or placement.stage is not Stage.STARTING or placement.digest != digest:
        return Step(rollout)
    warm = replace(
        placement,
        stage=Stage.WARM,
        since=now,
        proof=proof,
        attempts=0,
        retry_at=None,
        failure=None,
        detail="",
    )
    event = VersionWarmed(
        endpoint=rollout.endpoint,
        model=rollout.model,
        version=version,
        digest=digest,
        application=rollout.application(version),
        vectors=proof.vectors,
        seconds=proof.seconds,
        at=now,
    )
    step = _settle(_placed(rollout, warm), now, limits)
    return Step(step.rollout, (event, *step.events))


def failed(rollout: Rollout, version: int, digest: str, code: str, detail: str, now: datetime, limits: Limits) -> Step:
    """A version could not be brought up: try again later, and say so when the reason is a new one."""
    placement = rollout.placements.get(version)
    if placement is None or placement.stage is not Stage.STARTING or placement.digest != digest:
        return Step(rollout)
    # The exponent is bounded so that a version failing for weeks does not overflow the float.
    pause_seconds = min(
        limits.deploy_retry_seconds_max, limits.deploy_retry_seconds * 2.0 ** min(placement.attempts, 32)
    )
    waiting = replace(
        placement,
        since=now,
        attempts=placement.attempts + 1,
        retry_at=now + timedelta(seconds=pause_seconds),
        failure=code,
        detail=detail,
    )
    events = () if placement.failure == code else (_failure(rollout, version, digest, code, detail, now),)
    return Step(_placed(rollout, waiting), events)


def lost(rollout: Rollout, version: int, now: datetime) -> Step:
    """A version's application is gone although nobody deleted it (Ray restarted): bring it up again."""
    placement = rollout.placements.get(version)
    if placement is None:
        return Step(rollout)
    if placement.stage is Stage.WARM:
        return Step(_placed(rollout, replace(placement, stage=Stage.STARTING, since=now)))
    if placement.stage is Stage.DRAINING:
        return Step(_placed(rollout, replace(placement, stage=Stage.DELETING, since=now)))
    return Step(rollout)


def emptied(rollout: Rollout, version: int, now: datetime) -> Step:
    """The drain is over: from here on the application may be deleted. Nothing happens if it is wanted again."""
    placement = rollout.placements.get(version)
    if placement is None or placement.stage is not Stage.DRAINING or not _due(placement.drain_at, now):
        return Step(rollout)
    return Step(_placed(rollout, replace(placement, stage=Stage.DELETING, since=now)))


def drained(rollout: Rollout, version: int, now: datetime, limits: Limits) -> Step:
    """The application is deleted. If it was wanted again meanwhile, it starts from the beginning."""
    placement = rollout.placements.get(version)
    if placement is None or placement.stage is not Stage.DELETING:
        return Step(rollout)
    placements = {number: kept for number, kept in rollout.placements.items() if number != version}
    event = VersionDrained(
        endpoint=rollout.endpoint,
        model=rollout.model,
        version=version,
        digest=placement.digest,
        application=rollout.application(version),
        at=now,
    )
    step = _settle(replace(rollout, placements=placements), now, limits)
    # A version that never got warm had nothing to drain.
    return Step(step.rollout, (event, *step.events) if placement.proof is not None else step.events)


def wanted(rollout: Rollout, warm_versions_max: int) -> set[int]:
    """Return the versions to keep warm.

    Always the champion, the one before, the way back and the one ordered; then, as far as the bound allows, the
    newest that are approved, above the champion and never ordered yet.
    """
    ordered = rollout.order.version if rollout.order is not None else None
    kept = {
        version
        for version in (rollout.champion, rollout.previous, rollout.way_back, ordered)
        if version is not None and version in rollout.approvals
    }
    fresh = sorted(
        (version for version in rollout.approvals if version not in kept and _is_fresh(rollout, version)), reverse=True
    )
    return kept | set(fresh[: max(0, warm_versions_max - len(kept))])


def _ordered(rollout: Rollout, order: Order, named: frozenset[int], now: datetime, limits: Limits) -> Step:
    newest = max(rollout.applied, rollout.order.promotion if rollout.order else 0)
    approval = rollout.approvals.get(order.version)
    if approval is not None and approval.digest != order.digest:
        detail = f"order {order.promotion} names {order.digest}, but approved is {approval.digest}"
        failure = _failure(rollout, order.version, order.digest, ORDER_NOT_APPROVED.id, detail, now)
        return Step(rollout, (failure,) if order.promotion > newest else ())
    # What was heard first under a number stands.
    orders = {order.promotion: (order.version, order.cause is RouteCause.ROLLBACK)} | rollout.orders
    orders = {number: orders[number] for number in sorted(orders)[-ORDERS_KEPT_MAX:]}
    rollout = replace(rollout, orders=orders, ordered=rollout.ordered | named)
    if order.promotion <= newest:
        return _settle(rollout, now, limits)
    rollout = replace(rollout, order=order)
    placement = rollout.placements.get(order.version)
    if placement is not None and placement.retry_at is not None:
        # Somebody asks for it now: try at once, and report afresh.
        rollout = _placed(rollout, replace(placement, attempts=0, retry_at=None, failure=None, detail=""))
    return _settle(rollout, now, limits)


def _settle(rollout: Rollout, now: datetime, limits: Limits) -> Step:
    """Carry out the order if its version is warm, and bring the placements in line with what is wanted.

    Nothing is let go before the order had its turn: it may want again what seems unwanted.
    """
    rollout = _taken_up(rollout, now, limits)
    order = rollout.order
    events: tuple[Any, ...] = ()
    if order is not None and rollout.opened and _is_warm(rollout, order):
        assert order.promotion > rollout.applied, "orders are carried out in the order of their numbers"
        rollout = replace(
            rollout,
            epoch=rollout.epoch + 1,
            applied=order.promotion,
            champion=order.version,
            # Promoting the champion again must not make it its own way back.
            previous=order.previous if order.previous != order.version else rollout.previous,
            order=None,
        )
        rollout = _taken_up(replace(rollout, shadows=_shadows(rollout, limits)), now, limits)
        events = table.changes(rollout, order, now)
    elif rollout.champion is not None and (shadows := _shadows(rollout, limits)) != rollout.shadows:
        rollout = replace(rollout, epoch=rollout.epoch + 1, shadows=shadows)
        events = (table.route(rollout, now),)
    return Step(_let_go(rollout, now, limits), events)


def _shadows(rollout: Rollout, limits: Limits) -> tuple[int, ...]:
    """Return the versions that are warm and wait for their first promotion, where these are to be seen beforehand."""
    if not limits.shadow_approved:
        return ()
    kept = wanted(rollout, limits.warm_versions_max)
    return tuple(
        version
        for version, placement in sorted(rollout.placements.items())
        if placement.stage is Stage.WARM and version in kept and _is_fresh(rollout, version)
    )


def _is_fresh(rollout: Rollout, version: int) -> bool:
    """Say whether a version waits for its first promotion: it is newer than the champion, and no order named it."""
    return version not in rollout.ordered and version > (rollout.champion or 0)


def _is_warm(rollout: Rollout, order: Order) -> bool:
    placement = rollout.placements.get(order.version)
    return placement is not None and placement.stage is Stage.WARM and placement.digest == order.digest


def _taken_up(rollout: Rollout, now: datetime, limits: Limits) -> Rollout:
    """Place what is wanted and not there; take back what was draining."""
    placements = dict(rollout.placements)
    for version in sorted(wanted(rollout, limits.warm_versions_max)):
        placement = placements.get(version)
        if placement is None:
            approval = rollout.approvals[version]
            placements[version] = Placement(version, approval.digest, Stage.STARTING, now, approval.origin)
        elif placement.stage is Stage.DRAINING:
            placements[version] = replace(placement, stage=Stage.WARM, since=now, drain_at=None)
    return replace(rollout, placements=placements)


def _let_go(rollout: Rollout, now: datetime, limits: Limits) -> Rollout:
    """Drain what is warm and no longer wanted; drop what has not got so far."""
    keep = wanted(rollout, limits.warm_versions_max)
    placements = dict(rollout.placements)
    for version, placement in rollout.placements.items():
        if version in keep:
            continue
        if placement.stage is Stage.WARM:
            drain_at = now + timedelta(seconds=limits.route_drain_seconds)
            placements[version] = replace(placement, stage=Stage.DRAINING, since=now, drain_at=drain_at)
        elif placement.stage is Stage.STARTING:
            placements[version] = replace(placement, stage=Stage.DELETING, since=now)
    return replace(rollout, placements=placements)


def _placed(rollout: Rollout, placement: Placement) -> Rollout:
    return replace(rollout, placements={**rollout.placements, placement.version: placement})


def _failure(rollout: Rollout, version: int, digest: str, code: str, detail: str, now: datetime) -> DeployFailed:
    return DeployFailed(
        endpoint=rollout.endpoint, model=rollout.model, version=version, digest=digest, code=code, detail=detail, at=now
    )


def _due(instant: datetime | None, now: datetime) -> bool:
    return instant is None or instant <= now
