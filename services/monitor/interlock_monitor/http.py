"""What can be asked of the monitor: windows, features, drift, quality, coverage; nothing is changed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Header, Query, Response

from interlock.auth import Identity
from interlock.clock import milliseconds
from interlock.errors import Refusal
from interlock.http import require
from interlock.postgres.pool import Pool
from interlock_monitor import http_views, quality
from interlock_monitor.errors import ENDPOINT_UNKNOWN, WINDOW_UNKNOWN
from interlock_monitor.http_parquet import MEDIA_TYPE, parquet
from interlock_monitor.quality import QualityRules
from interlock_monitor.references import References
from interlock_monitor.settings import Settings
from interlock_monitor.store_views import ViewStore

GAPS_SHOWN_MAX = 1000
LATEST_WINDOWS = 100

Viewer = Annotated[Identity, Depends(require("viewer", "author", "approver", "operator", "service"))]
Version = Annotated[int | None, Query(ge=0)]
Since = Annotated[datetime | None, Query(alias="from")]
Limit = Annotated[int, Query(ge=1)]
Until = Annotated[datetime | None, Query(alias="to")]


def router(pool: Pool, references: References, settings: Settings) -> APIRouter:
    """Return the monitor's routes."""
    routes = APIRouter(prefix="/v1/endpoints/{endpoint}", tags=["monitor"])
    store = ViewStore(pool)
    _add_windows(routes, store, settings)

    @routes.get("/drift", summary="How each version's newest window stands beside its reference profile")
    async def drift(endpoint: str, viewer: Viewer) -> Response:
        await _known(store, endpoint)
        rows = await store.latest(endpoint, LATEST_WINDOWS * settings.window_milliseconds)
        await references.learn({(row["model"], row["version"]) for row in rows})
        found = [http_views.drift(row, references.known.get((row["model"], row["version"]))) for row in rows]
        return _json({"endpoint": endpoint, "versions": found})

    @routes.get("/quality", summary="How right each version was, by the labels so far")
    async def measured(
        endpoint: str,
        viewer: Viewer,
        version: Version = None,
        arm: str | None = None,
        since: Since = None,
        until: Until = None,
        limit: Limit = 200,
    ) -> Response:
        await _known(store, endpoint)
        rules = QualityRules.of(settings)
        view = await quality.view(
            pool,
            endpoint,
            rules=rules,
            version=version,
            arm=arm,
            since=_aware(since),
            until=_aware(until),
            windows_max=min(limit, settings.answer_windows_max),
        )
        return _json(view)

    @routes.get("/coverage", summary="Which requests are counted, and which cannot be")
    async def coverage(endpoint: str, viewer: Viewer) -> Response:
        await _known(store, endpoint)
        return _json(http_views.coverage(endpoint, *await store.coverage(endpoint, GAPS_SHOWN_MAX)))

    return routes


def _add_windows(routes: APIRouter, store: ViewStore, settings: Settings) -> None:
    @routes.get("/windows", summary="An endpoint's newest windows, as JSON or Parquet")
    async def windows(
        endpoint: str,
        viewer: Viewer,
        version: Version = None,
        arm: str | None = None,
        since: Since = None,
        until: Until = None,
        limit: Limit = 200,
        format: str | None = None,
        accept: Annotated[str, Header()] = "",
    ) -> Response:
        await _known(store, endpoint)
        rows = await store.windows(
            endpoint, version, arm, _aware(since), _aware(until), min(limit, settings.answer_windows_max)
        )
        found = [http_views.window(row) for row in rows]
        if format == "parquet" or MEDIA_TYPE in accept:
            return Response(await asyncio.to_thread(parquet, found), media_type=MEDIA_TYPE)
        return _json({"windows": found})

    @routes.get("/windows/{start}/features", summary="How the features and outputs of one window are spread")
    async def features(
        endpoint: str, start: datetime, viewer: Viewer, version: Version = None, arm: str | None = None
    ) -> Response:
        await _known(store, endpoint)
        begin = _aware(start)
        assert begin is not None
        rows = await store.sketches(endpoint, milliseconds(begin), version, arm)
        if not rows:
            raise Refusal(WINDOW_UNKNOWN, f"{endpoint} has no such window that begins at {begin.isoformat()}.")
        return _json({"endpoint": endpoint, "versions": [http_views.features(row) for row in rows]})


async def _known(store: ViewStore, endpoint: str) -> None:
    """Refuse an endpoint that is not watched."""
    if not await store.knows(endpoint):
        raise Refusal(ENDPOINT_UNKNOWN, f"{endpoint} is not watched.")


def _aware(instant: datetime | None) -> datetime | None:
    """Take a time without a zone for one in UTC."""
    return instant.replace(tzinfo=UTC) if instant is not None and instant.tzinfo is None else instant


def _json(value: Any) -> Response:
    """Return JSON; NaN and infinity, which it cannot hold, become null."""
    return Response(msgspec.json.encode(value), media_type="application/json")
