"""A session with the platform: every command, what is being watched and recorded, and endpoints to ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import datetime
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import httpx

from interlock.client.addresses import Addresses, find
from interlock.client.errors import ADDRESS_UNKNOWN, ENDPOINT_NOT_READY, Away
from interlock.client.rest import Rest
from interlock.clock import Clock, SystemClock
from interlock.errors import Refusal

if TYPE_CHECKING:
    # What speaks to Kafka is imported when it is used: most commands only speak to the registry.
    from interlock.client.endpoint import Endpoint
    from interlock.client.records import ResultReader
    from interlock.kafka.plain import PlainConsumer, PlainProducer
    from interlock.settings import PlatformSettings

TIMELINE_WAIT_SECONDS = 20.0
WATCHER_ATTEMPTS_MAX = 2
"""What only watches is not waited for as a command is."""


def connect(
    url: str | None = None,
    *,
    token: str | None = None,
    bootstrap: str | None = None,
    schema_registry: str | None = None,
    monitor: str | None = None,
    auditor: str | None = None,
) -> Interlock:
    """Return a session, to be used as `async with interlock.connect() as il:`.

    What is not given comes from the INTERLOCK_* variables, else from the stack that runs on this machine.
    Raises Refusal(ADDRESS_UNKNOWN) where there is neither.
    """
    return Interlock(find(url, token, bootstrap, schema_registry, monitor=monitor, auditor=auditor))


class Interlock:
    """What one caller, known by its token, can see and command."""

    def __init__(self, addresses: Addresses, clock: Clock | None = None) -> None:
        self.addresses = addresses
        self.clock: Clock = clock or SystemClock()
        self._rest = Rest(addresses.url, addresses.token)
        self._watchers: dict[str, Rest] = {}
        self._producer: PlainProducer | None = None
        self._producing = asyncio.Lock()
        self._consumers: set[PlainConsumer] = set()
        self._endpoints: list[Endpoint] = []

    async def __aenter__(self) -> Self:
        """Begin; connections are made when they are first needed."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        for endpoint in self._endpoints:
            await endpoint.close()
        for consumer in tuple(self._consumers):
            await self.release(consumer)
        if self._producer is not None:
            await self._producer.close()
        for rest in (self._rest, *self._watchers.values()):
            await rest.close()

    @cached_property
    def reader(self) -> ResultReader:
        """The session's reader of results, which knows every schema met so far."""
        from interlock.client.records import ResultReader

        return ResultReader()

    @property
    def settings(self) -> PlatformSettings:
        """The settings by which Kafka is reached. Raises Refusal(ADDRESS_UNKNOWN) without bootstrap servers."""
        if not self.addresses.kafka_bootstrap_servers:
            raise Refusal(ADDRESS_UNKNOWN, "INTERLOCK_KAFKA_BOOTSTRAP_SERVERS: neither given nor set.")
        from interlock.settings import PlatformSettings

        return PlatformSettings(kafka_bootstrap_servers=self.addresses.kafka_bootstrap_servers)

    async def producer(self) -> PlainProducer:
        """Return the session's one producer, connected."""
        async with self._producing:
            if self._producer is None:
                from interlock.kafka.plain import PlainProducer

                producer = PlainProducer(self.settings)
                await producer.start()
                self._producer = producer
        return self._producer

    async def consumer(self, topic: str, group: str | None = None) -> PlainConsumer:
        """Return a connected consumer of one topic; the session closes it at its own end, `release` does so earlier."""
        from interlock.kafka.plain import PlainConsumer

        consumer = PlainConsumer(self.settings, topic, group)
        await consumer.start()
        self._consumers.add(consumer)
        return consumer

    async def release(self, consumer: PlainConsumer) -> None:
        """Disconnect a consumer, if the session has not done so before."""
        if consumer in self._consumers:
            self._consumers.remove(consumer)
            await consumer.close()

    async def schema(self, schema_id: int) -> str:
        """Return a schema of the schema registry by its id, as JSON text."""
        base = (self.addresses.schema_registry_url or f"{self.addresses.url}/schema-registry").rstrip("/")
        headers = {} if "@" in base else {"Authorization": f"Bearer {self.addresses.token}"}
        async with httpx.AsyncClient(trust_env=False, headers=headers) as http:
            try:
                response = await http.get(f"{base}/schemas/ids/{schema_id}")
                response.raise_for_status()
            except httpx.HTTPError as error:
                raise Away(httpx.URL(base).host, str(error)) from error
        return str(response.json()["schema"])

    @property
    def monitor(self) -> Rest:
        """HTTP to the monitor. Raises Refusal(ADDRESS_UNKNOWN) where nobody said where it is."""
        return self._watcher("INTERLOCK_MONITOR_URL", self.addresses.monitor_url)

    @property
    def auditor(self) -> Rest:
        """HTTP to the auditor. Raises Refusal(ADDRESS_UNKNOWN) where nobody said where it is."""
        return self._watcher("INTERLOCK_AUDITOR_URL", self.addresses.auditor_url)

    def _watcher(self, name: str, url: str) -> Rest:
        if not url:
            raise Refusal(ADDRESS_UNKNOWN, f"{name}: neither given nor set.")
        return self._watchers.setdefault(name, Rest(url, self.addresses.token, WATCHER_ATTEMPTS_MAX))

    # Models and versions

    async def models(self) -> list[dict[str, Any]]:
        """List the models."""
        return _items(await self._rest.get("/v1/models"), "models")

    async def model(self, model: str) -> dict[str, Any]:
        """Return one model."""
        return dict(await self._rest.get(f"/v1/models/{model}"))

    async def versions(self, model: str) -> list[dict[str, Any]]:
        """List a model's versions, in order of their numbers."""
        return _items(await self._rest.get(f"/v1/models/{model}/versions"), "versions")

    async def version(self, model: str, version: int) -> dict[str, Any]:
        """Return one version with its state, gates and approvals."""
        return dict(await self._rest.get(f"/v1/models/{model}/versions/{version}"))

    # Endpoints

    async def endpoints(self) -> list[dict[str, Any]]:
        """List the endpoints."""
        return _items(await self._rest.get("/v1/endpoints"), "endpoints")

    async def endpoint_details(self, endpoint: str) -> dict[str, Any]:
        """Return one endpoint as the registry describes it."""
        return dict(await self._rest.get(f"/v1/endpoints/{endpoint}"))

    async def create_endpoint(self, endpoint: str, model: str, partitions: int = 4) -> dict[str, Any]:
        """Create an endpoint for a model (role operator)."""
        body = {"name": endpoint, "model": model, "partitions": partitions}
        return dict(await self._rest.post("/v1/endpoints", body))

    async def endpoint(self, endpoint: str) -> Endpoint:
        """Open an endpoint to ask it. Raises Refusal(ENDPOINT_NOT_READY) while it has no schemas yet."""
        details = await self.endpoint_details(endpoint)
        if not details.get("request_schema") or not details.get("request_schema_id"):
            raise Refusal(ENDPOINT_NOT_READY, f"{endpoint} has no request schema yet.")
        if details.get("result_schema") and details.get("result_schema_id"):
            self.reader.learn(details["result_schema_id"], details["result_schema"])
        consumer = await self.consumer(details["topics"]["results"])
        marks = await consumer.ends()
        await self.release(consumer)
        from interlock.client.endpoint import Endpoint

        opened = Endpoint(self, details, marks)
        self._endpoints.append(opened)
        return opened

    async def live(self, endpoint: str) -> dict[str, Any]:
        """Return an endpoint's live figures: rate, lag, latency and each version's share, per router instance."""
        return dict(await self._rest.get(f"/v1/endpoints/{endpoint}/live"))

    # What is watched and recorded

    async def windows(self, endpoint: str, **wanted: Any) -> list[dict[str, Any]]:
        """Return an endpoint's windows, oldest first; `version`, `arm`, `from`, `to`, `limit` narrow them."""
        return _items(await self.monitor.get(f"/v1/endpoints/{endpoint}/windows", **wanted), "windows")

    async def drift(self, endpoint: str) -> dict[str, Any]:
        """Return, for each version, whether it drifts and how far each feature is from its reference."""
        return dict(await self.monitor.get(f"/v1/endpoints/{endpoint}/drift"))

    async def quality(self, endpoint: str, **wanted: Any) -> dict[str, Any]:
        """Return how right an endpoint's versions were, by the labels that have arrived."""
        return dict(await self.monitor.get(f"/v1/endpoints/{endpoint}/quality", **wanted))

    async def audit_head(self) -> dict[str, Any]:
        """Return the audit log's head: its size, its root, and what the witness has signed."""
        return dict(await self.auditor.get("/v1/head"))

    async def case(self, name: str) -> dict[str, Any]:
        """Return how a result came about, by its request's coordinates (`topic/partition/offset`), fact by fact."""
        return dict(await self.auditor.get(f"/v1/cases/{name}"))

    async def find_case(self, endpoint: str, request_id: str, requested_at: datetime) -> dict[str, Any]:
        """Return a case by the request's own id and the time that stands in it."""
        at = requested_at.isoformat()
        return dict(await self.auditor.get("/v1/cases", endpoint=endpoint, request_id=request_id, requested_at=at))

    async def case_bundle(self, name: str, *, neighbours: bool = False) -> bytes:
        """Return the same as one file that proves itself, offline.

        With `neighbours` it holds the requests of its leaf too, up to 63 of others, which prove the request's value.
        """
        asked = "?neighbours=true" if neighbours else ""
        return await self.auditor.content(f"/v1/cases/{name}/bundle{asked}")

    async def verifier(self) -> bytes:
        """Return the script that checks such a file."""
        return await self.auditor.content("/v1/verifier")

    # The way to live traffic and back

    async def approve(self, model: str, version: int, endpoint: str, note: str = "") -> dict[str, Any]:
        """Consent to a version for an endpoint (role approver; never to one's own version)."""
        body = {"endpoint": endpoint, "note": note}
        return dict(await self._rest.post(f"/v1/models/{model}/versions/{version}/approvals", body))

    async def promote(self, endpoint: str, version: int) -> dict[str, Any]:
        """Let a proven and approved version answer the endpoint (role operator)."""
        return dict(await self._rest.post(f"/v1/endpoints/{endpoint}/promotions", {"version": version}))

    async def rollback(self, endpoint: str, reason: str, to_version: int | None = None) -> dict[str, Any]:
        """Go back to the version that answered before, or to a named one (role operator)."""
        body: dict[str, Any] = {"reason": reason}
        if to_version is not None:
            body["to_version"] = to_version
        return dict(await self._rest.post(f"/v1/endpoints/{endpoint}/rollbacks", body))

    # What happened

    async def timeline_page(
        self,
        after: int = 0,
        *,
        model: str | None = None,
        endpoint: str | None = None,
        wait_seconds: float = 0,
        newest: int | None = None,
    ) -> dict[str, Any]:
        """Return the control events after a position, waiting for one where there is none yet; or the newest ones."""
        return dict(
            await self._rest.get(
                "/v1/timeline",
                timeout_seconds=wait_seconds + 10,
                after=after,
                model=model,
                endpoint=endpoint,
                wait_seconds=wait_seconds or None,
                newest=newest,
            )
        )

    async def timeline(
        self, after: int = 0, *, model: str | None = None, endpoint: str | None = None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Yield every control event after a position, then those that follow, for ever."""
        while True:
            page = await self.timeline_page(after, model=model, endpoint=endpoint, wait_seconds=TIMELINE_WAIT_SECONDS)
            for entry in page["entries"]:
                yield entry
            after = page["position"]

    async def blob(self, digest: str) -> bytes:
        """Return evidence or a profile by its digest."""
        return await self._rest.content(f"/v1/blobs/{digest}")


def _items(answer: Any, name: str) -> list[dict[str, Any]]:
    """Return the list in an answer, bare or under its name."""
    found: list[dict[str, Any]] = answer[name] if isinstance(answer, dict) else answer
    return [dict(each) for each in found]
