"""A registry of a test's own: its HTTP server on a free port, its schema in the real Postgres, its folders."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import uvicorn

import interlock_registry
from interlock import http
from interlock.auth import Verifier, generate_keys, issue
from interlock.blobs import Blobs
from interlock.cache import Cache
from interlock.cause import Cause
from interlock.clock import SystemClock
from interlock.ids import uuid7
from interlock.postgres import journal, migrate, pool
from interlock.schemas.events import BuildStarted, BuildSucceeded, GateEvaluated, Verdict
from interlock.service import Host
from interlock_registry import handlers
from interlock_registry.app import build
from interlock_registry.settings import Settings

SQL = Path(interlock_registry.__file__).parent / "sql"


@dataclass
class Room:
    """What a test of the registry works with."""

    url: str
    settings: Settings
    pool: Any
    blobs: Blobs
    cache: Cache
    private_pem: bytes

    def token(self, subject: str, *roles: str) -> str:
        """Return a token that this registry accepts."""
        return issue(self.private_pem, subject, roles, 3600, SystemClock().now())

    def remote(self, model: str, subject: str = "ann", *roles: str) -> str:
        """Return the address to push a model to."""
        token = self.token(subject, *(roles or ("author",)))
        return self.url.replace("http://", f"http://{subject}:{token}@") + f"/git/{model}.git"

    def client(self, subject: str, *roles: str) -> httpx.AsyncClient:
        """Return an HTTP client that speaks for a subject."""
        headers = {"Authorization": f"Bearer {self.token(subject, *roles)}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=40, trust_env=False)

    async def hear(self, event: Any) -> None:
        """Handle an event as the consumer would: in one unit, once."""
        by_type: dict[Any, Any] = {
            kind: handler for table in handlers.CONSUMES.values() for kind, handler in table.items()
        }
        cause = Cause.start("builder")
        async with journal.unit(self.pool, cause, consumer="test") as unit:
            await by_type[type(event)](event, unit)

    async def build(self, model: str, version: int, digest: str, *, gates: dict[str, Verdict] | None = None) -> None:
        """Play the builder: a build that ends well, with the gates given."""
        verdicts = {"auc": Verdict.PASS} if gates is None else gates
        now = SystemClock().now()
        named: dict[str, Any] = {"model": model, "version": version, "digest": digest, "at": now}
        await self.hear(BuildStarted(attempt=1, **named))
        evidence = self.blobs.put(json.dumps({"evidence": digest}).encode())
        await self.hear(
            BuildSucceeded(
                attempt=1, evidence_digest=evidence, profile_digest=evidence, vectors=64, gates=tuple(verdicts),
                seconds=1.5, **named,
            )
        )  # fmt: skip
        for gate, verdict in verdicts.items():
            value = 0.931 if verdict is Verdict.PASS else 0.81
            sign = ">=" if verdict is Verdict.PASS else "<"
            await self.hear(
                GateEvaluated(
                    gate=gate, metric="auc", verdict=verdict, value=value, bound=0.9, rows=500,
                    detail=f"auc {value:.3f} {sign} 0.900", **named,
                )
            )  # fmt: skip


@asynccontextmanager
async def registry(
    environment: dict[str, str], folder: Path, *, postgres_port: int | None = None, **changed: Any
) -> AsyncIterator[Room]:
    """Run a registry against the real servers, in a schema that goes when the test ends.

    `postgres_port` leads to Postgres by another way, such as a wire that can be cut.
    """
    service = f"t{uuid7().replace('-', '')[-20:]}"
    owner = environment["INTERLOCK_POSTGRES_OWNER_DSN"]
    password = secrets.token_hex(8)
    await migrate.migrate(owner, service, [SQL], password)
    there = urlsplit(owner)
    port = postgres_port or there.port
    dsn = f"postgresql://{migrate.role_of(service)}:{password}@{there.hostname}:{port}{there.path}"
    private, public = generate_keys()
    values: dict[str, Any] = {
        "push_wait_seconds": 20,
        "push_keepalive_seconds": 0.2,
        "push_quiet_seconds": 5,
        "timeline_poll_seconds": 0.5,
    }
    values |= {"git_folder": folder / "git", "blob_folder": folder / "blobs", "http_host": "127.0.0.1"} | changed
    settings = Settings(**values)
    opened = await pool.connect(dsn, connections_max=20)
    cache = Cache(environment["INTERLOCK_REDIS_URL"])
    host = Host(
        service="registry", settings=settings, clock=SystemClock(), pool=opened, blobs=Blobs(settings.blob_folder),
        verifier=Verifier(public, SystemClock()), cache=cache, stopping=asyncio.Event(),
    )  # fmt: skip
    try:
        made = await build(host)
        app = http.application(
            "registry", made.routers, host.verifier, made.ready, body_bytes_max=settings.http_body_bytes_max,
            streams=made.streams,
        )  # fmt: skip
        async with _serving(app) as url:
            loops = [asyncio.create_task(_awaited(step)) for step in made.loops]
            yield Room(url, settings, opened, host.blobs, cache, private)
            host.stopping.set()
            await asyncio.wait_for(asyncio.gather(*loops), 10)
    finally:
        await cache.close()
        opened.terminate()
        await _drop(owner, service)


async def _awaited(step: Callable[[], Awaitable[None]]) -> None:
    await step()


@asynccontextmanager
async def _serving(app: Any) -> AsyncIterator[str]:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1))
    server.capture_signals = _no_signals  # type: ignore[method-assign]  # the test's process keeps its own
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        async with asyncio.timeout(10):
            while not server.started:
                await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, 10)
        listener.close()


def _no_signals() -> Any:
    import contextlib

    return contextlib.nullcontext()


async def _drop(owner: str, service: str) -> None:
    connection = await asyncpg.connect(owner)
    try:
        role = migrate.role_of(service)
        await connection.execute(f"GRANT {role} TO CURRENT_USER")
        await connection.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'")
        await connection.execute(f"DROP SCHEMA IF EXISTS {service} CASCADE; DROP OWNED BY {role}; DROP ROLE {role}")
    finally:
        await connection.close()
