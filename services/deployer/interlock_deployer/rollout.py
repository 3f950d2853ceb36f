"""The rollout of one endpoint as it stands: what was approved and ordered, what serves, where each version is."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import msgspec

from interlock.cause import Cause
from interlock.ids import application_name
from interlock.schemas.events import RouteCause

ORDERS_KEPT_MAX: Final = 100
"""So many orders of an endpoint are remembered, to find the way back along them."""


class Stage(StrEnum):
    """Where a placed version stands."""

    STARTING = "STARTING"  # wanted; its application is not up, or not proven yet
    WARM = "WARM"  # proven with its vectors; may serve at any moment
    DRAINING = "DRAINING"  # still up and warm, but no longer wanted; comes back at once if wanted again
    DELETING = "DELETING"  # its application is being deleted; it can only come back from the beginning


class Limits(msgspec.Struct, frozen=True):
    """The bounds that a rollout keeps to; see the settings of the same names."""

    warm_versions_max: int
    route_drain_seconds: float
    deploy_retry_seconds: float
    deploy_retry_seconds_max: float
    shadow_approved: bool = False


class Proof(msgspec.Struct, frozen=True):
    """What warming found out about a version, and what its arm of a route will say."""

    signature: str
    result_schema: str
    result_schema_id: int
    vectors: int
    seconds: float


class Placement(msgspec.Struct, frozen=True):
    """One version on its way into or out of an endpoint.

    `since` is when its stage began; `origin` what it goes back to, so that its events carry on that trace.
    """

    version: int
    digest: str
    stage: Stage
    since: datetime
    origin: Cause
    proof: Proof | None = None
    drain_at: datetime | None = None
    attempts: int = 0
    retry_at: datetime | None = None
    failure: str | None = None
    detail: str = ""


class Approval(msgspec.Struct, frozen=True):
    """The digest that was approved for this endpoint, and the event that said so."""

    digest: str
    origin: Cause


class Order(msgspec.Struct, frozen=True):
    """A promotion or rollback that was heard and not carried out yet."""

    promotion: int
    version: int
    digest: str
    cause: RouteCause
    previous: int | None
    actor: str
    origin: Cause


class Rollout(msgspec.Struct, frozen=True):
    """Everything the deployer knows about one endpoint.

    `opened` says that the endpoint's topics exist. `applied` is the number of the newest order carried out.
    `orders` holds the newest orders heard, carried out or not, as promotion number → (version, is a rollback);
    `ordered` every version that an order ever named: it is no longer waiting for its first promotion.
    `shadows` are the versions that the route names beside the champion, without a share.
    """

    endpoint: str
    model: str
    partitions: int | None = None
    opened: bool = False
    epoch: int = 0
    applied: int = 0
    champion: int | None = None
    previous: int | None = None
    order: Order | None = None
    approvals: dict[int, Approval] = {}
    orders: dict[int, tuple[int, bool]] = {}
    ordered: frozenset[int] = frozenset()
    placements: dict[int, Placement] = {}
    shadows: tuple[int, ...] = ()

    def application(self, version: int) -> str:
        """Return the name of the Serve application of an approved version."""
        return application_name(self.model, version, self.approvals[version].digest)

    @property
    def way_back(self) -> int | None:
        """The version that a rollback would go to: a promotion lengthens the line of champions, a rollback cuts it.

        It is folded from the orders by their numbers, so that it does not depend on when they were heard.
        """
        line: list[int] = []
        for promotion in sorted(self.orders):
            version, is_rollback = self.orders[promotion]
            if promotion > self.applied:
                break
            if not is_rollback:
                line = [each for each in line if each != version]
            elif version in line:
                line = line[: line.index(version)]
            else:
                line = line[:-1]
            line.append(version)
        return line[-2] if len(line) > 1 else None


class Step(msgspec.Struct, frozen=True):
    """The next state, and the events to append in the same transaction, in order."""

    rollout: Rollout
    events: tuple[Any, ...] = ()
