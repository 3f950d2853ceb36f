"""What can be asked of the registry over HTTP: models, versions, endpoints, the commands, the timeline, blobs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from interlock.auth import Identity
from interlock.blobs import Blobs
from interlock.cache import Cache
from interlock.cause import Cause
from interlock.errors import Refusal
from interlock.http import cause, idempotency_key, require
from interlock.postgres.journal import Unit, command
from interlock.postgres.pool import Connection, Pool, passing
from interlock_registry import errors, handlers, store, views
from interlock_registry.settings import Settings
from interlock_registry.store_timeline import Entry
from interlock_registry.timeline import Timeline

T = TypeVar("T")
Name = Annotated[str, Path(max_length=64, description="A model's or endpoint's name.")]
Number = Annotated[int, Path(ge=1, le=2**31 - 1, description="A version's number within its model.")]
Anybody = Annotated[Identity, Depends(require())]
Operator = Annotated[Identity, Depends(require("operator"))]
Approver = Annotated[Identity, Depends(require("approver"))]
Why = Annotated[Cause, Depends(cause)]
Key = Annotated[str | None, Depends(idempotency_key)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewEndpoint(_Body):
    """An endpoint to be created."""

    name: str = Field(max_length=64, description="The name that callers bind to.")
    model: str = Field(max_length=64, description="The model whose versions answer it; fixed for ever.")
    partitions: int = Field(
        4, ge=1, description="Partitions of its topics; fixed for ever, since keys keep their order."
    )


class NewApproval(_Body):
    """Consent to a version, with the evidence it has now."""

    endpoint: str = Field(max_length=64, description="The endpoint it is given for.")
    note: str = Field("", max_length=2000, description="Why, in the approver's words.")


class NewPromotion(_Body):
    """A version that is to answer an endpoint."""

    version: int = Field(ge=1, le=2**31 - 1, description="The version's number.")


class NewRollback(_Body):
    """The way back."""

    reason: str = Field("", max_length=2000, description="Why.")
    to_version: int | None = Field(
        None, ge=1, le=2**31 - 1, description="A version that served before; by default the one before this."
    )


class TimelineEntry(_Body):
    """One control event, as the registry wrote or heard it."""

    position: int = Field(description="Its place in the timeline; places only rise.")
    id: str = Field(description="The event's id.")
    type: str = Field(description="The event's name, such as VersionPromoted.")
    model: str | None = Field(description="The model it concerns.")
    endpoint: str | None = Field(description="The endpoint it concerns.")
    at: datetime = Field(description="When it happened.")
    event: dict[str, Any] = Field(description="The event itself.")


class TimelinePart(_Body):
    """Some entries of the timeline, and where to go on from."""

    entries: list[TimelineEntry] = Field(description="The entries, in order.")
    position: int = Field(description="Pass this as `after` to get what follows.")


def router(settings: Settings, pool: Pool, blobs: Blobs, cache: Cache, timeline: Timeline) -> APIRouter:
    """Return the routes under /v1."""
    routes = APIRouter(prefix="/v1")
    _models(routes, pool)
    _versions(routes, pool)
    _endpoints(routes, settings, pool, cache)
    _routes_of_endpoints(routes, pool)
    _timeline(routes, settings, timeline)
    _blobs(routes, blobs)
    return routes


def _models(routes: APIRouter, pool: Pool) -> None:
    @routes.get("/models", tags=["models"], operation_id="list_models")
    async def models(_: Anybody) -> list[dict[str, Any]]:
        """List the models, each with its newest version's number."""
        return await _read(pool, store.models)

    @routes.get("/models/{model}", tags=["models"], operation_id="get_model")
    async def model(model: Name, _: Anybody) -> dict[str, Any]:
        """Show one model."""
        found = await _read(pool, lambda connection: store.models(connection, model))
        if not found:
            raise Refusal(errors.MODEL_UNKNOWN, f"There is no model {model}.")
        return found[0]


def _versions(routes: APIRouter, pool: Pool) -> None:
    @routes.get("/models/{model}/versions", tags=["models"], operation_id="list_versions")
    async def versions(model: Name, _: Anybody) -> list[dict[str, Any]]:
        """List a model's versions, oldest first."""
        found = await _read(pool, lambda connection: store.versions(connection, model))
        if not found:
            raise Refusal(errors.MODEL_UNKNOWN, f"There is no model {model}.")
        return [views.of_version(version) for version in found]

    @routes.get("/models/{model}/versions/{version}", tags=["models"], operation_id="get_version")
    async def version(model: Name, version: Number, _: Anybody) -> dict[str, Any]:
        """Show one version: its state, its gates with their numbers, its approvals."""
        return views.of_version(await _read(pool, lambda connection: handlers.find_version(connection, model, version)))

    @routes.post(
        "/models/{model}/versions/{version}/approvals", status_code=202, tags=["models"], operation_id="approve_version"
    )
    async def approve(
        model: Name, version: Number, body: NewApproval, _: Approver, why: Why, key: Key
    ) -> dict[str, Any]:
        """Approve a proven version for an endpoint; never one's own."""

        async def decide(unit: Unit) -> dict[str, Any]:
            return views.of_version(await handlers.approve(model, version, body.endpoint, body.note, unit))

        return await _command(pool, key, why, decide, ("approve", model, version, body.model_dump()))


def _endpoints(routes: APIRouter, settings: Settings, pool: Pool, cache: Cache) -> None:
    @routes.get("/endpoints", tags=["endpoints"], operation_id="list_endpoints")
    async def endpoints(_: Anybody, model: str | None = None) -> list[dict[str, Any]]:
        """List the endpoints, of all models or of one."""

        async def look(connection: Connection) -> list[dict[str, Any]]:
            return [await views.of_endpoint(connection, each) for each in await store.endpoints(connection, model)]

        return await _read(pool, look)

    @routes.get("/endpoints/{endpoint}", tags=["endpoints"], operation_id="get_endpoint")
    async def endpoint(endpoint: Name, _: Anybody) -> dict[str, Any]:
        """Show one endpoint: the champion in force, its schemas and its topics."""

        async def look(connection: Connection) -> dict[str, Any]:
            return await views.of_endpoint(connection, await handlers.find_endpoint(connection, endpoint))

        return await _read(pool, look)

    @routes.post("/endpoints", status_code=202, tags=["endpoints"], operation_id="create_endpoint")
    async def create(body: NewEndpoint, _: Operator, why: Why, key: Key) -> dict[str, Any]:
        """Create an endpoint; its topics follow when the deployer hears of it."""
        if body.partitions > settings.endpoint_partitions_max:
            bound = settings.endpoint_partitions_max
            raise Refusal(errors.PARTITIONS_INVALID, f"{body.partitions} partitions are more than {bound}.")

        async def decide(unit: Unit) -> dict[str, Any]:
            made = await handlers.create_endpoint(body.name, body.model, body.partitions, unit)
            return await views.of_endpoint(unit.connection, made)

        return await _command(pool, key, why, decide, ("create_endpoint", body.model_dump()))

    @routes.get("/endpoints/{endpoint}/live", tags=["endpoints"], operation_id="get_live_figures")
    async def live(endpoint: Name, _: Anybody) -> dict[str, Any]:
        """Show the newest figures of every router instance that serves the endpoint."""
        await _read(pool, lambda connection: handlers.find_endpoint(connection, endpoint))
        return {"endpoint": endpoint, "instances": await cache.get_live(f"live:{endpoint}:")}


def _routes_of_endpoints(routes: APIRouter, pool: Pool) -> None:
    @routes.post(
        "/endpoints/{endpoint}/promotions", status_code=202, tags=["endpoints"], operation_id="promote_version"
    )
    async def promote(endpoint: Name, body: NewPromotion, _: Operator, why: Why, key: Key) -> dict[str, Any]:
        """Promote a version that is proven and approved; the deployer makes it the champion."""

        async def decide(unit: Unit) -> dict[str, Any]:
            return await handlers.promote(endpoint, body.version, unit)

        return await _command(pool, key, why, decide, ("promote", endpoint, body.model_dump()))

    @routes.post("/endpoints/{endpoint}/rollbacks", status_code=202, tags=["endpoints"], operation_id="roll_back")
    async def roll_back(endpoint: Name, body: NewRollback, _: Operator, why: Why, key: Key) -> dict[str, Any]:
        """Go back to the version that served before, or to one named."""

        async def decide(unit: Unit) -> dict[str, Any]:
            return await handlers.roll_back(endpoint, body.reason, body.to_version, unit)

        return await _command(pool, key, why, decide, ("roll_back", endpoint, body.model_dump()))


def _timeline(routes: APIRouter, settings: Settings, timeline: Timeline) -> None:
    waiting = asyncio.Semaphore(settings.timeline_waiters_max)

    @routes.get("/timeline", tags=["timeline"], operation_id="read_timeline")
    async def read(
        _: Anybody,
        model: str | None = None,
        endpoint: str | None = None,
        after: Annotated[int, Query(ge=0, le=2**62, description="Give entries behind this position.")] = 0,
        wait_seconds: Annotated[float, Query(ge=0, le=3600, description="How long to wait for the first.")] = 0.0,
        newest: Annotated[int | None, Query(ge=1, description="Give the newest so many entries instead.")] = None,
    ) -> TimelinePart:
        """Give the control events behind a position, in order; with `wait_seconds`, wait for the next one."""
        if newest is not None:
            return _part(await timeline.newest(newest, model=model, endpoint=endpoint), after)
        # A reader too many is answered at once instead of being made to wait: it asks again by itself.
        seconds = 0.0 if waiting.locked() else min(wait_seconds, settings.timeline_wait_seconds_max)
        async with waiting if seconds else contextlib.nullcontext():
            found = await timeline.wait(after, model=model, endpoint=endpoint, seconds=seconds)
        return _part(found, after)


def _part(found: list[Entry], after: int) -> TimelinePart:
    entries = [TimelineEntry(**vars(entry)) for entry in found]
    return TimelinePart(entries=entries, position=entries[-1].position if entries else after)


def _blobs(routes: APIRouter, blobs: Blobs) -> None:
    @routes.get("/blobs/{digest}", tags=["blobs"], operation_id="get_blob", response_class=Response)
    async def blob(digest: Annotated[str, Path(max_length=80)], _: Anybody) -> Response:
        """Give the bytes kept under a digest: evidence, profiles, manifests, artifacts."""
        content = await asyncio.to_thread(blobs.get, digest)
        kind = "application/json" if content[:1] in (b"{", b"[") else "application/octet-stream"
        headers = {"Content-Security-Policy": "sandbox", "X-Content-Type-Options": "nosniff", "ETag": f'"{digest}"'}
        return Response(content, media_type=kind, headers=headers)


async def _read(pool: Pool, look: Callable[[Connection], Awaitable[T]]) -> T:
    """Run a read on one connection, in one snapshot; raises Transient where Postgres is away."""
    async with (
        passing(),
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        return await look(connection)


async def _command(
    pool: Pool, key: str | None, why: Cause, decide: Callable[[Unit], Awaitable[Any]], request: Any
) -> dict[str, Any]:
    """Carry out a command once for each idempotency key; its answer is the same each time."""

    async def plain(unit: Unit) -> Any:
        return msgspec.to_builtins(await decide(unit))

    answer: dict[str, Any] = await command(pool, key, why, plain, request=request)
    return answer
