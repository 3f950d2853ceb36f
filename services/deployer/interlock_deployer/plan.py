"""The plan: what has to be done so that Ray Serve runs what the rollouts want. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final

import msgspec

from interlock_deployer.errors import DEPLOY_FAILED, DEPLOY_TIMEOUT
from interlock_deployer.rollout import Placement, Rollout, Stage

#: The names that `ids.application_name` gives; applications of other names in the same Ray are not ours to touch.
_OURS: Final = re.compile(r".+--v[1-9][0-9]*--[0-9a-f]{12}")
_GONE: Final = frozenset({"DEPLOY_FAILED", "DELETING"})
_COMING: Final = frozenset({"NOT_STARTED", "DEPLOYING", "UNHEALTHY"})


class Seen(msgspec.Struct, frozen=True):
    """An application as Ray Serve reports it; `waited_seconds` is how long it has not been running."""

    status: str
    message: str = ""
    waited_seconds: float = 0.0


class Open(msgspec.Struct, frozen=True):
    """Make the endpoint's topics; `again` where it is open, and lacks at most what is new in this release."""

    endpoint: str
    partitions: int
    again: bool = False


class Start(msgspec.Struct, frozen=True):
    """Start the application of a version."""

    application: str
    model: str
    version: int
    digest: str


class Remove(msgspec.Struct, frozen=True):
    """Delete an application that nobody wants, or that failed to start."""

    application: str


class Prove(msgspec.Struct, frozen=True):
    """Warm a running application with the version's vectors."""

    endpoint: str
    model: str
    version: int
    digest: str
    application: str


class Fail(msgspec.Struct, frozen=True):
    """Record that a version did not come up."""

    endpoint: str
    version: int
    digest: str
    code: str
    detail: str


class Lose(msgspec.Struct, frozen=True):
    """Record that the application of a warm version is gone."""

    endpoint: str
    version: int


class Empty(msgspec.Struct, frozen=True):
    """Record that a version's drain is over."""

    endpoint: str
    version: int


class Drain(msgspec.Struct, frozen=True):
    """Record that a version's application is deleted."""

    endpoint: str
    version: int


Action = Open | Start | Remove | Prove | Fail | Lose | Empty | Drain


def plan(
    rollouts: Iterable[Rollout], seen: Mapping[str, Seen], now: datetime, deploy_seconds_max: float
) -> list[Action]:
    """Return what to do next, each action once. Carried out over and over, it ends in an empty plan."""
    rollouts = list(rollouts)
    needed = {
        rollout.application(placement.version)
        for rollout in rollouts
        for placement in rollout.placements.values()
        if placement.stage is not Stage.DELETING
    }
    actions: dict[Action, None] = {}  # a dict keeps the order and drops what is said twice
    for rollout in rollouts:
        for placement in rollout.placements.values():
            for action in _placement(rollout, placement, seen, needed, now, deploy_seconds_max):
                actions[action] = None
    for name, application in seen.items():
        unwanted = name not in needed or application.status == "DEPLOY_FAILED"
        if unwanted and application.status != "DELETING" and _OURS.fullmatch(name):
            actions[Remove(name)] = None
    return list(actions)


def openings(rollouts: Iterable[Rollout], complete: Collection[str]) -> list[Open]:
    """Return the endpoints whose topics are still to be made; `complete` names those that have all of them."""
    return [
        Open(rollout.endpoint, rollout.partitions, rollout.opened)
        for rollout in rollouts
        if rollout.partitions is not None and not (rollout.opened and rollout.endpoint in complete)
    ]


def busy(rollouts: Iterable[Rollout]) -> bool:
    """Say whether something is starting or being deleted, so that looking again soon pays."""
    return any(
        placement.stage is Stage.DELETING or (placement.stage is Stage.STARTING and placement.retry_at is None)
        for rollout in rollouts
        for placement in rollout.placements.values()
    )


def _placement(
    rollout: Rollout,
    placement: Placement,
    seen: Mapping[str, Seen],
    needed: set[str],
    now: datetime,
    deploy_seconds_max: float,
) -> Iterator[Action]:
    name = rollout.application(placement.version)
    application = seen.get(name)
    match placement.stage:
        case Stage.STARTING:
            if placement.retry_at is None or placement.retry_at <= now:
                yield from _starting(rollout, placement, name, application, deploy_seconds_max)
        case Stage.WARM | Stage.DRAINING:
            if application is None or application.status in _GONE:
                yield Lose(rollout.endpoint, placement.version)
            elif placement.stage is Stage.DRAINING and placement.drain_at is not None and placement.drain_at <= now:
                yield Empty(rollout.endpoint, placement.version)
        case Stage.DELETING:
            if application is None or name in needed:
                yield Drain(rollout.endpoint, placement.version)


def _starting(
    rollout: Rollout, placement: Placement, name: str, application: Seen | None, deploy_seconds_max: float
) -> Iterator[Action]:
    version, digest = placement.version, placement.digest
    if application is None:
        yield Start(name, rollout.model, version, digest)
    elif application.status == "RUNNING":
        yield Prove(rollout.endpoint, rollout.model, version, digest, name)
    elif application.status == "DEPLOY_FAILED":
        yield Fail(rollout.endpoint, version, digest, DEPLOY_FAILED.id, application.message)
    elif application.status in _COMING and application.waited_seconds > deploy_seconds_max:
        detail = f"{application.status} after {deploy_seconds_max:g} s. {application.message}".strip()
        yield Fail(rollout.endpoint, version, digest, DEPLOY_TIMEOUT.id, detail)
        yield Remove(name)
