"""A deployer on real servers: events go in on the real topic as the registry would write them, and come out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import psutil
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from interlock.blobs import Blobs
from interlock.codec import rows
from interlock.ids import uuid7, version_digest
from interlock.kafka import headers
from interlock.kafka.consumer import make_consumer
from interlock.kafka.producer import make_producer
from interlock.manifest import Manifest
from interlock.schemas import Event
from interlock.schemas.events import (
    EndpointCreated,
    RollbackOrdered,
    Route,
    VersionApproved,
    VersionPromoted,
    VersionRegistered,
)
from interlock.schemas.topics import DEPLOY_EVENTS, MODEL_EVENTS, ROUTES
from interlock.settings import PlatformSettings
from tests.integration.serving import graphs

E = TypeVar("E", bound=Event)
EVENT_SECONDS_MAX = 120.0
RAY_SECONDS_MAX = 60.0
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Heard:
    """An event read from Kafka, with its envelope and the instant (monotonic seconds) it was received."""

    def __init__(self, event: Any, envelope: headers.Envelope) -> None:
        self.event = event
        self.envelope = envelope
        self.at = time.monotonic()


class RegistryVoice:
    """Says what the registry says, and hears what the deployer says."""

    def __init__(self, settings: PlatformSettings, blobs: Blobs, model: str) -> None:
        self.model = self.endpoint = model
        self.heard: list[Heard] = []
        self._blobs = blobs
        self._producer: AIOKafkaProducer = make_producer(settings)
        self._consumer: AIOKafkaConsumer = make_consumer(settings, None, fetch_max_wait_ms=20)
        self._digests: dict[int, str] = {}
        self._promotion = 0
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to read everything on the deployer's topics."""
        await self._producer.start()
        self._consumer.subscribe([DEPLOY_EVENTS, ROUTES])
        await self._consumer.start()
        self._reading = asyncio.create_task(self._read())

    async def stop(self) -> None:
        """Let go."""
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading
        await self._consumer.stop()
        await self._producer.stop()

    async def _read(self) -> None:
        async for record in self._consumer:
            event = rows.decode(record.value)
            if getattr(event, "endpoint", None) == self.endpoint:
                self.heard.append(Heard(event, headers.parse(record.headers)))

    async def say(self, event: Event, event_id: str | None = None) -> str:
        """Write one event as the registry does; return its id."""
        name = event_id or uuid7()
        envelope = headers.cloudevents(
            type(event).TYPE,
            event_id=name,
            source="/interlock/registry",
            at=datetime.now(UTC),
            traceparent=TRACEPARENT,
            correlation_id=f"story-{self.model}",
            actor="olga",
        )
        await self._producer.send_and_wait(MODEL_EVENTS, rows.encode(event), key=self.model.encode(), headers=envelope)
        return name

    async def wait_for(self, kind: type[E], matches: Callable[[E], bool] = lambda _: True) -> Heard:
        """Return the first event of a kind that matches, waiting for it within bounds."""
        deadline = time.monotonic() + EVENT_SECONDS_MAX
        while time.monotonic() < deadline:
            for heard in self.heard:
                if isinstance(heard.event, kind) and matches(heard.event):
                    return heard
            await asyncio.sleep(0.002)
        said = [type(heard.event).__name__ for heard in self.heard]
        raise AssertionError(f"no {kind.__name__} within {EVENT_SECONDS_MAX} s; heard {said}")

    def all_of(self, kind: type[E]) -> list[E]:
        """Return what was heard of a kind, in order."""
        return [heard.event for heard in self.heard if isinstance(heard.event, kind)]

    async def create_endpoint(self, partitions: int = 2) -> None:
        """The endpoint is created."""
        await self.say(
            EndpointCreated(
                endpoint=self.endpoint, model=self.model, partitions=partitions, created_by="olga", at=_now()
            )
        )

    async def register(self, version: int, **variation: Any) -> str:
        """A version is pushed; return its digest. `variation` as for `pushed`."""
        event = self.pushed(version, **variation)
        await self.say(event)
        return event.digest

    def pushed(
        self, version: int, *, bias: float | None = None, expected: float | None = None, artifact: bytes | None = None
    ) -> VersionRegistered:
        """Return what a push gives: score = amount + bias; the vectors expect `expected` (or the truth) for 2.0."""
        bias = version / 1000 if bias is None else bias
        model_bytes = graphs.linear([1.0], bias)
        manifest = graphs.manifest_text(self.model, version, ["amount"])
        answer = 2.0 + bias if expected is None else expected
        vectors = json.dumps({"inputs": [[2.0]], "outputs": [[answer]]}).encode()
        self._digests[version] = version_digest(manifest.encode(), model_bytes)
        artifact_digest = self._blobs.put(model_bytes if artifact is None else artifact)
        parsed = Manifest.parse(manifest)
        return VersionRegistered(
            model=self.model,
            version=version,
            digest=self._digests[version],
            manifest=manifest,
            manifest_digest=self._blobs.put(manifest.encode()),
            artifact_digest=artifact_digest,
            artifact_format="onnx",
            artifact_bytes=len(model_bytes),
            files={parsed.artifact.path: artifact_digest, parsed.vectors.path: self._blobs.put(vectors)},
            commit="0" * 40,
            author="dana",
            at=_now(),
        )

    async def approve(self, version: int) -> None:
        """A version is approved for the endpoint."""
        await self.say(
            VersionApproved(
                model=self.model,
                version=version,
                digest=self._digests[version],
                endpoint=self.endpoint,
                evidence_digest="sha256:" + "ee" * 32,
                approver="rita",
                note="",
                at=_now(),
            )
        )

    async def promote(self, version: int, previous: int | None = None) -> float:
        """A version is promoted; return the instant (monotonic seconds) before it was said."""
        self._promotion += 1
        event = VersionPromoted(
            endpoint=self.endpoint,
            model=self.model,
            version=version,
            digest=self._digests[version],
            promotion=self._promotion,
            actor="olga",
            previous_version=previous,
            at=_now(),
        )
        began = time.monotonic()
        await self.say(event)
        return began

    async def roll_back(self, from_version: int, to_version: int) -> float:
        """A rollback is ordered; return the instant (monotonic seconds) before it was said."""
        self._promotion += 1
        event = RollbackOrdered(
            endpoint=self.endpoint,
            model=self.model,
            promotion=self._promotion,
            from_version=from_version,
            to_version=to_version,
            to_digest=self._digests[to_version],
            actor="olga",
            reason="test",
            at=_now(),
        )
        began = time.monotonic()
        await self.say(event)
        return began


class RayHead:
    """A Ray cluster of one node, in processes of its own, that can be killed and started at the same address."""

    def __init__(self) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        #: Every process of a cluster, drivers included, must have the same token.
        self.environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and return when it accepts connections."""
        folder = tempfile.mkdtemp(prefix="ilray-")  # short: Ray's socket paths may have 107 characters
        self._process = subprocess.Popen(
            [
                str(Path(sys.executable).with_name("ray")),
                "start", "--head", "--block", f"--port={self.port}", "--node-ip-address=127.0.0.1", "--num-cpus=2",
                f"--object-store-memory={80 * 1024 * 1024}", "--include-dashboard=false", "--disable-usage-stats",
                f"--temp-dir={folder}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | self.environment,
        )  # fmt: skip
        deadline = time.monotonic() + RAY_SECONDS_MAX
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0):
                return
            time.sleep(0.1)
        raise AssertionError(f"Ray is not up after {RAY_SECONDS_MAX} s")

    def kill(self) -> None:
        """Kill every process of the cluster, at once and without a word."""
        if self._process is not None:
            kill_tree(self._process.pid)
            self._process.wait()
            self._process = None


class DeployerProcess:
    """The deployer's process under a supervisor of one line: whoever kills it may start it again."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._environment = environment
        self._log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; what it says goes into the log file."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.integration.deployer.process"],
                stdout=log,
                stderr=log,
                env=os.environ | self._environment,
            )

    def kill(self) -> None:
        """Kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> int:
        """SIGTERM; return the exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)

    def restart_if_ended(self) -> bool:
        """Do what a supervisor does."""
        if self.process is None or self.process.poll() is None:
            return False
        self.start()
        return True


def names(version: int) -> Callable[[Route], bool]:
    """Return whether a route names this version."""
    return lambda route: route.arms[0].version == version


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def kill_tree(pid: int) -> None:
    """Kill a process and everything below it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(pid)
        for member in [*family.children(recursive=True), family]:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()


@contextlib.contextmanager
def ray_head() -> Iterator[RayHead]:
    """Run a Ray head for the length of a block."""
    head = RayHead()
    head.start()
    try:
        yield head
    finally:
        head.kill()


def _now() -> datetime:
    return datetime.now(UTC)
