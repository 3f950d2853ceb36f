"""Servers, a Ray and a deployer of these tests' own, so that nobody else's events reach it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from interlock import auth, embedded
from interlock.blobs import Blobs
from interlock.kafka import admin
from interlock.postgres import migrate
from interlock.schemas import control_topics
from interlock.settings import PlatformSettings
from tests.integration.deployer.rig import DeployerProcess, RayHead, RegistryVoice, free_port, ray_head

SERVICE_SQL = Path("services/deployer/interlock_deployer/sql")
PASSWORD = "for-one-test"


@pytest.fixture(scope="module")
def own_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Kafka, PostgreSQL and Valkey of this module's own."""
    with embedded.running(tmp_path_factory.mktemp("deployer"), embedded.SERVERS) as environment:
        yield environment


@pytest.fixture(scope="module")
def ray() -> Iterator[RayHead]:
    """A Ray head of this module's own."""
    with ray_head() as head:
        yield head


class Setting:
    """Where the deployer under test lives, and who may ask it."""

    def __init__(self, environment: dict[str, str], process: DeployerProcess, token: str, blobs: Blobs) -> None:
        self.environment = environment
        self.process = process
        self.token = token
        self.blobs = blobs
        self.settings = PlatformSettings.model_validate(
            {name.removeprefix("INTERLOCK_").lower(): value for name, value in environment.items()}
        )
        self.url = f"http://127.0.0.1:{environment['INTERLOCK_HTTP_PORT']}"

    async def get(self, path: str, token: str | None = None) -> httpx.Response:
        """Ask the deployer."""
        async with httpx.AsyncClient() as client:
            authorization = {"Authorization": f"Bearer {token or self.token}"}
            return await client.get(self.url + path, headers=authorization)

    async def readiness(self) -> dict[str, object] | None:
        """Return what /readyz says, or None if nobody answers."""
        try:
            async with httpx.AsyncClient() as client:
                answer: dict[str, object] = (await client.get(self.url + "/readyz")).json()
                return answer
        except httpx.TransportError:
            return None


@pytest.fixture(scope="module")
def setting(own_servers: dict[str, str], ray: RayHead, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    """A running deployer with its tables and topics."""
    folder = tmp_path_factory.mktemp("setting")
    private, public = auth.generate_keys()
    (folder / "key.pem").write_bytes(public)
    owner = own_servers["INTERLOCK_POSTGRES_OWNER_DSN"]
    asyncio.run(migrate.migrate(owner, "deployer", [SERVICE_SQL], PASSWORD))
    environment = (
        own_servers
        | ray.environment
        | {
            "INTERLOCK_POSTGRES_DSN": as_role(owner),
            "INTERLOCK_RAY_ADDRESS": ray.address,
            "INTERLOCK_BLOB_FOLDER": str(folder / "blobs"),
            "INTERLOCK_TOKEN_PUBLIC_KEY_FILE": str(folder / "key.pem"),
            "INTERLOCK_HTTP_PORT": str(free_port()),
            "INTERLOCK_ROUTE_DRAIN_SECONDS": "1",
            "INTERLOCK_LEASE_SECONDS": "3",
            "INTERLOCK_DEPLOY_RETRY_SECONDS": "0.5",
        }
    )
    token = auth.issue(private, "olga", ("viewer",), 3600, datetime.now(UTC))
    process = DeployerProcess(environment, folder / "deployer.log")
    ready = Setting(environment, process, token, Blobs(folder / "blobs"))
    asyncio.run(admin.ensure_topics(ready.settings, control_topics()))
    process.start()
    yield ready
    assert process.stop() == 0, "SIGTERM ends it cleanly"


@pytest.fixture
async def registry(setting: Setting) -> AsyncIterator[RegistryVoice]:
    """A registry's voice for a model and endpoint of this test's own."""
    voice = RegistryVoice(setting.settings, setting.blobs, f"m{uuid4().hex[:8]}")
    await voice.start()
    yield voice
    await voice.stop()


def as_role(owner_dsn: str) -> str:
    """Return the owner's address with the deployer's role in its place."""
    scheme, _, rest = owner_dsn.partition("://")
    place = rest.rpartition("@")[2]
    return f"{scheme}://{migrate.role_of('deployer')}:{PASSWORD}@{place}"
