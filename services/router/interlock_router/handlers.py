"""What the router does about a control event: it follows routes."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from interlock import metrics
from interlock.schemas.events import Route
from interlock_router.model import Routes

log = structlog.get_logger("interlock.router")


def on_route(route: Route, routes: Routes) -> None:
    """Take a route whose epoch rises; keep the last good one where the new one cannot be meant."""
    try:
        taken = routes.apply(route)
    except (ValueError, KeyError, TypeError) as error:
        log.error(
            "route.refused",
            endpoint=route.endpoint,
            epoch=route.epoch,
            detail=str(error),
            todo="the last good route stays",
        )
        return
    if taken:
        metrics.ROUTE_EPOCH.labels(route.endpoint).set(route.epoch)
        log.info(
            "route.taken", endpoint=route.endpoint, epoch=route.epoch, versions=[arm.version for arm in route.arms]
        )


HANDLERS: dict[type, Callable[[Route, Routes], None]] = {Route: on_route}
