"""What the registry allows of endpoints and what follows from it: promotions, rollbacks, what is in force. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from interlock.errors import Refusal
from interlock.schemas.events import DeployFailed, EndpointCreated, RollbackOrdered, RouteChanged, VersionPromoted
from interlock_registry import errors
from interlock_registry.model import Version, named, require_proven


@dataclass(frozen=True)
class Endpoint:
    """A stable name that callers bind to: what was asked for, and what the deployer says is in force.

    `line` is the line of versions one could go back along: a promotion adds to it, a rollback shortens it.
    """

    name: str
    model: str
    partitions: int
    created_by: str
    created_at: datetime
    promotion: int = 0
    line: tuple[int, ...] = ()
    served: tuple[int, ...] = ()
    champion: int | None = None
    previous: int | None = None
    route_epoch: int = 0
    failure: str | None = None

    @property
    def asked(self) -> int | None:
        """The version that the newest promotion or rollback asked for."""
        return self.line[-1] if self.line else None


def create_endpoint(
    name: str, model: str, partitions: int, known: Endpoint | None, *, actor: str, at: datetime
) -> list[EndpointCreated]:
    """Decide on a new endpoint: none where the very same exists; raises Refusal(ENDPOINT_TAKEN) for another one."""
    named(name, "an endpoint")
    if known is not None:
        if (known.model, known.partitions) == (model, partitions):
            return []
        raise Refusal(
            errors.ENDPOINT_TAKEN,
            f"Endpoint {name} exists already, for model {known.model} with {known.partitions} partitions.",
            model=known.model,
            partitions=known.partitions,
        )
    return [EndpointCreated(endpoint=name, model=model, partitions=partitions, created_by=actor, at=at)]


def endpoint_created(event: EndpointCreated) -> Endpoint:
    """Return the endpoint that its creation begins."""
    return Endpoint(event.endpoint, event.model, event.partitions, event.created_by, event.at)


@dataclass(frozen=True)
class LostWitness:
    """Since when the audit log has no witness, and what is the matter with it."""

    lost_at: datetime
    detail: str


def require_witness(lost: LostWitness | None) -> None:
    """Return if the audit log is being witnessed; raises Refusal(AUDIT_UNWITNESSED): a promotion waits for that."""
    if lost is not None:
        since = lost.lost_at.strftime("%Y-%m-%d %H:%M:%S UTC")
        raise Refusal(
            errors.AUDIT_UNWITNESSED, f"Nobody has witnessed the audit log since {since}: {lost.detail}", since=since
        )


def promote(endpoint: Endpoint, version: Version, *, actor: str, at: datetime) -> VersionPromoted:
    """Decide on a promotion: only a proven version that somebody approved for this endpoint.

    Raises Refusal(OTHER_MODEL | NOT_PROVEN | NOT_APPROVED | ALREADY_CHAMPION).
    """
    what = f"{version.model} version {version.version}"
    if version.model != endpoint.model:
        raise Refusal(
            errors.OTHER_MODEL, f"Endpoint {endpoint.name} belongs to {endpoint.model}, not to {version.model}."
        )
    require_proven(version)
    if not version.approved_for(endpoint.name):
        raise Refusal(
            errors.NOT_APPROVED, f"{what} has no approval for endpoint {endpoint.name}.", author=version.author
        )
    if endpoint.champion == version.version == endpoint.asked:
        raise Refusal(
            errors.ALREADY_CHAMPION,
            f"{what} is the champion of {endpoint.name} already, since epoch {endpoint.route_epoch}.",
        )
    return VersionPromoted(
        endpoint=endpoint.name,
        model=endpoint.model,
        version=version.version,
        digest=version.digest,
        promotion=endpoint.promotion + 1,
        actor=actor,
        previous_version=endpoint.asked if endpoint.asked != version.version else endpoint.champion,
        at=at,
    )


def version_promoted(endpoint: Endpoint, event: VersionPromoted) -> Endpoint:
    """Fold a promotion into what was asked for; what is in force, only the deployer says."""
    if event.promotion <= endpoint.promotion:
        return endpoint
    line = tuple(number for number in endpoint.line if number != event.version)
    served = tuple(dict.fromkeys((*endpoint.served, event.version)))
    return replace(endpoint, promotion=event.promotion, line=(*line, event.version), served=served, failure=None)


def way_back(endpoint: Endpoint, to_version: int | None) -> int:
    """Return the version that a rollback goes to; raises Refusal(NO_WAY_BACK)."""
    if to_version is None:
        if len(endpoint.line) < 2:
            only = f"only version {endpoint.asked} has served it" if endpoint.line else "nothing has served it yet"
            raise Refusal(errors.NO_WAY_BACK, f"Endpoint {endpoint.name} has no previous version: {only}.")
        return endpoint.line[-2]
    if to_version == endpoint.asked:
        raise Refusal(
            errors.NO_WAY_BACK, f"Version {to_version} is what endpoint {endpoint.name} was last told to serve."
        )
    if to_version not in endpoint.served:
        raise Refusal(errors.NO_WAY_BACK, f"Version {to_version} has never been promoted on endpoint {endpoint.name}.")
    return to_version


def roll_back(endpoint: Endpoint, target: Version, *, reason: str, actor: str, at: datetime) -> RollbackOrdered:
    """Decide on a rollback to `target`, which `way_back` chose."""
    return RollbackOrdered(
        endpoint=endpoint.name,
        model=endpoint.model,
        promotion=endpoint.promotion + 1,
        from_version=endpoint.line[-1],
        to_version=target.version,
        to_digest=target.digest,
        actor=actor,
        reason=reason,
        at=at,
    )


def rollback_ordered(endpoint: Endpoint, event: RollbackOrdered) -> Endpoint:
    """Fold a rollback: the line ends at the version gone back to, so that a second one goes further back."""
    if event.promotion <= endpoint.promotion:
        return endpoint
    if event.to_version in endpoint.line:
        line = endpoint.line[: endpoint.line.index(event.to_version) + 1]
    else:
        line = (*endpoint.line[:-1], event.to_version)
    return replace(endpoint, promotion=event.promotion, line=line, failure=None)


def route_changed(endpoint: Endpoint, event: RouteChanged) -> Endpoint:
    """Fold what is in force; epochs only rise, so a late one changes nothing."""
    if event.epoch <= endpoint.route_epoch:
        return endpoint
    return replace(
        endpoint,
        champion=event.champion_version,
        previous=event.previous_version,
        route_epoch=event.epoch,
        failure=None,
    )


def deploy_failed(endpoint: Endpoint, event: DeployFailed) -> Endpoint:
    """Fold a failure to deploy: the champion stays, and the endpoint says why the version asked for is not in force."""
    return replace(endpoint, failure=f"version {event.version}: {event.code}: {event.detail}")
