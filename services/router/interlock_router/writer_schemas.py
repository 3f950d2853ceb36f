"""The schemas that requests were written with, by id, from the schema registry; an id never changes its meaning."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict

import httpx

from interlock import telemetry
from interlock.clock import Clock
from interlock.codec.plan import Plan, compile_plan
from interlock.errors import Transient
from interlock_router.settings import Settings


class WriterSchemas:
    """Compiled writer schemas behind one bounded cache; an id that is not registered is None for a while."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._plans: OrderedDict[int, Plan] = OrderedDict()
        self._unknown: OrderedDict[int, float] = OrderedDict()
        self._asking: dict[int, asyncio.Lock] = {}
        headers = {}
        if settings.token is not None:
            headers["Authorization"] = f"Bearer {settings.token.get_secret_value()}"
        url = httpx.URL(settings.schema_registry_url.get_secret_value())
        if url.userinfo:
            headers = {}  # credentials in the URL win, as with any Confluent client
        self._client = httpx.AsyncClient(
            base_url=url, headers=headers, trust_env=False, timeout=settings.schema_request_seconds_max
        )

    async def plan(self, schema_id: int) -> Plan | None:
        """Return how to read what was written with this id, or None if it is not registered.

        Raises Transient while the registry is away or refuses us: whether the id exists is then not known.
        """
        plan = self._plans.get(schema_id)
        if plan is not None:
            return plan
        lock = self._asking.setdefault(schema_id, asyncio.Lock())
        async with lock:
            plan = self._plans.get(schema_id)
            if plan is None and self._clock.monotonic() >= self._unknown.get(schema_id, 0.0):
                plan = await self._ask(schema_id)
                self._keep(schema_id, plan)
        self._asking.pop(schema_id, None)
        return plan

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _keep(self, schema_id: int, plan: Plan | None) -> None:
        if plan is None:
            self._unknown[schema_id] = self._clock.monotonic() + self._settings.schema_unknown_seconds
        else:
            self._plans[schema_id] = plan
            self._unknown.pop(schema_id, None)
        for cache in (self._plans, self._unknown):
            while len(cache) > self._settings.schemas_max:
                cache.popitem(last=False)

    async def _ask(self, schema_id: int) -> Plan | None:
        try:
            place = self._client.base_url
            with telemetry.calling("GET", place.host, place.port, "/schemas/ids/{id}") as traced:
                answer = await self._client.get(f"/schemas/ids/{schema_id}", headers=traced)
        except httpx.HTTPError as error:
            raise Transient(f"the schema registry is away: {type(error).__name__}: {error}") from error
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        if answer.status_code != httpx.codes.OK:
            raise Transient(
                f"the schema registry answers {answer.status_code} for schema {schema_id}: {answer.text[:200]}"
            )
        try:
            return compile_plan(json.loads(answer.json()["schema"]))
        except (ValueError, KeyError, TypeError) as error:
            raise Transient(
                f"the schema registry's answer for schema {schema_id} is not understood: {error}"
            ) from error
