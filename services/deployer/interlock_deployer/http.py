"""What operators can ask the deployer: the routes as they stand, and the versions on their way."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends
from pydantic import BaseModel

from interlock.auth import Identity
from interlock.http import require
from interlock_deployer.rollout import Placement, Rollout
from interlock_deployer.store import Store

Viewer = Annotated[Identity, Depends(require("viewer"))]


class OrderView(BaseModel):
    """A promotion or rollback that waits for its version to be warm."""

    promotion: int
    version: int
    digest: str
    cause: str
    actor: str


class RouteView(BaseModel):
    """An endpoint's route; `epoch` is 0 and `champion` null until the first promotion was carried out."""

    endpoint: str
    model: str
    epoch: int
    promotion: int
    champion: int | None
    previous: int | None
    shadows: list[int]
    topics_exist: bool
    waiting: OrderView | None


class ApplicationView(BaseModel):
    """A version placed on an endpoint: where it stands, and what went wrong if it does not come up."""

    endpoint: str
    model: str
    version: int
    digest: str
    application: str
    stage: str
    since: str
    attempts: int
    retry_at: str | None
    failure: str | None
    detail: str


def router(store: Store) -> APIRouter:
    """Return the deployer's routes; all are for viewers and change nothing."""
    routes = APIRouter(prefix="/v1", tags=["deployer"])

    @routes.get("/routes", summary="The route of every endpoint")
    async def list_routes(viewer: Viewer) -> list[RouteView]:
        return [_route(rollout) for rollout in await store.rollouts()]

    @routes.get("/applications", summary="Every version that is up, coming up or going")
    async def list_applications(viewer: Viewer) -> list[ApplicationView]:
        return [
            _application(rollout, placement)
            for rollout in await store.rollouts()
            for _, placement in sorted(rollout.placements.items())
        ]

    return routes


def _route(rollout: Rollout) -> RouteView:
    order = rollout.order
    waiting = None if order is None else OrderView(**_only(order, OrderView))
    return RouteView(
        endpoint=rollout.endpoint,
        model=rollout.model,
        epoch=rollout.epoch,
        promotion=rollout.applied,
        champion=rollout.champion,
        previous=rollout.previous,
        shadows=list(rollout.shadows),
        topics_exist=rollout.opened,
        waiting=waiting,
    )


def _application(rollout: Rollout, placement: Placement) -> ApplicationView:
    named = {
        "endpoint": rollout.endpoint,
        "model": rollout.model,
        "application": rollout.application(placement.version),
    }
    return ApplicationView(**_only(placement, ApplicationView), **named)


def _only(struct: msgspec.Struct, view: type[BaseModel]) -> dict[str, Any]:
    """Return the struct's fields that the view shows, as plain JSON values."""
    return {name: value for name, value in msgspec.to_builtins(struct).items() if name in view.model_fields}
