"""What the registry shows of its state: plain objects for JSON. Pure but for what it reads of the schemas."""

from __future__ import annotations

from typing import Any

import msgspec

from interlock.postgres.pool import Connection
from interlock.schemas import endpoint_topic
from interlock.schemas.topics import ENDPOINT_DEAD_LETTERS, ENDPOINT_REQUESTS, ENDPOINT_RESULTS
from interlock_registry import schema_registry, store
from interlock_registry.model import Version
from interlock_registry.promotions import Endpoint


def of_version(version: Version) -> dict[str, Any]:
    """Return a version, its gates and approvals with it."""
    return {**msgspec.to_builtins(version), "settled": version.settled}


async def of_endpoint(connection: Connection, endpoint: Endpoint) -> dict[str, Any]:
    """Return an endpoint: the champion in force, what was asked for, and all that a caller must know."""
    topics = {
        "requests": endpoint_topic(ENDPOINT_REQUESTS, endpoint.name),
        "results": endpoint_topic(ENDPOINT_RESULTS, endpoint.name),
        "dead_letters": endpoint_topic(ENDPOINT_DEAD_LETTERS, endpoint.name),
    }
    request = await schema_registry.latest(connection, f"{topics['requests']}-value")
    result = await schema_registry.latest(connection, f"{topics['results']}-value")
    return {
        "name": endpoint.name,
        "model": endpoint.model,
        "partitions": endpoint.partitions,
        "created_by": endpoint.created_by,
        "created_at": msgspec.to_builtins(endpoint.created_at),
        "champion": await _champion(connection, endpoint),
        "previous": endpoint.previous,
        "route_epoch": endpoint.route_epoch,
        "asked": None if endpoint.asked is None else {"version": endpoint.asked, "promotion": endpoint.promotion},
        "rolls_back_to": endpoint.line[-2] if len(endpoint.line) > 1 else None,
        "failure": endpoint.failure,
        "request_schema": None if request is None else schema_registry.read_json(request.schema),
        "request_schema_id": None if request is None else request.id,
        "result_schema": None if result is None else schema_registry.read_json(result.schema),
        "result_schema_id": None if result is None else result.id,
        "topics": topics,
    }


async def _champion(connection: Connection, endpoint: Endpoint) -> dict[str, Any] | None:
    if endpoint.champion is None:
        return None
    version = await store.version(connection, endpoint.model, endpoint.champion)
    return {
        "version": endpoint.champion,
        "digest": None if version is None else version.digest,
        "epoch": endpoint.route_epoch,
    }
