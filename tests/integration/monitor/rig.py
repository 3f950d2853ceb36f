"""A monitor in a process of its own on real servers, what lanes would tell it, and what a batch would make of that."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import asyncpg
import httpx
import numpy as np

import interlock_monitor
from interlock.auth import generate_keys, issue
from interlock.codec import rows
from interlock.codec.observations import Answered, Refused, Seen, event_time, observe
from interlock.codec.ragged import Ragged
from interlock.ids import digest_of, uuid7
from interlock.kafka.admin import ensure_topics
from interlock.kafka.producer import make_producer
from interlock.postgres import migrate
from interlock.schemas import control_topics, endpoint_topics
from interlock.schemas.events import Arm, BuildSucceeded, LabelRecorded, Route
from interlock.settings import PlatformSettings

SQL = Path(interlock_monitor.__file__).parent / "sql"
WINDOW = 5_000
BASE = 1_790_000_000_000 - 1_790_000_000_000 % WINDOW
"""A moment in the past on which a window begins: nothing here depends on the time of day."""
START_SECONDS_MAX = 90
FEATURES = ("amount", "hour", "age")
DIGEST = digest_of(b"version")


@dataclass
class Room:
    """Where one test's monitors live: database role, group, blobs, the key for tokens."""

    settings: PlatformSettings
    environment: dict[str, str]
    dsn: str
    token: str

    async def fetch(self, statement: str, *arguments: Any) -> list[Any]:
        """Ask the monitor's tables."""
        connection = await asyncpg.connect(self.dsn)
        try:
            return list(await connection.fetch(statement, *arguments))
        finally:
            await connection.close()

    async def start(self, **changes: Any) -> Monitor:
        """Start a monitor and wait until it is alive."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        given = {f"INTERLOCK_{name.upper()}": str(value) for name, value in changes.items()}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "interlock_monitor",
            env=self.environment | given | {"INTERLOCK_HTTP_PORT": str(port)},
            stdout=None if "VERBOSE" in os.environ else asyncio.subprocess.DEVNULL,
        )
        monitor = Monitor(process, port, self.token)
        try:
            await until(monitor.is_up, START_SECONDS_MAX)
        except BaseException:
            await monitor.kill()
            raise
        return monitor


@contextlib.asynccontextmanager
async def opened(servers: dict[str, str], folder: Path, **changes: Any) -> AsyncIterator[Room]:
    """Make everything a monitor needs, with short bounds; the schema and the role go at the end."""
    name = f"t{uuid7().replace('-', '')[-20:]}"
    owner, password = servers["INTERLOCK_POSTGRES_OWNER_DSN"], secrets.token_hex(8)
    role = migrate.role_of(name)
    await migrate.migrate(owner, name, [SQL], password)
    private, public = generate_keys()
    (folder / "public.pem").write_bytes(public)
    given = {
        "kafka_bootstrap_servers": servers["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"],
        "postgres_dsn": f"postgresql://{role}:{password}@{owner.split('@', 1)[1]}",
        "blob_folder": folder / "blobs",
        "token_public_key_file": folder / "public.pem",
        "window_seconds": WINDOW / 1000,
        "window_revision_seconds": 0.5,
        "partition_idle_seconds": 1,
        "stream_group": f"interlock.monitor.{name}",
        "stream_flush_seconds": 0.2,
        "profile_wait_seconds": 0.3,
        "connect_retry_seconds_max": 0.5,
        "retry_seconds_max": 0.5,
    } | changes
    environment = {each: os.environ[each] for each in ("PATH", "HOME", "LANG") if each in os.environ}
    environment |= {"MALLOC_ARENA_MAX": "2"} | {
        f"INTERLOCK_{each.upper()}": str(value) for each, value in given.items()
    }
    settings = PlatformSettings(kafka_bootstrap_servers=given["kafka_bootstrap_servers"], blob_folder=folder / "blobs")
    await ensure_topics(settings, control_topics())
    dsn = environment["INTERLOCK_POSTGRES_DSN"]
    yield Room(settings, environment, dsn, issue(private, "t", ("viewer",), 3600, datetime.now(UTC)))
    connection = await asyncpg.connect(owner)
    await connection.execute(f"GRANT {role} TO CURRENT_USER")
    await connection.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'")
    await connection.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE; DROP OWNED BY {role}; DROP ROLE {role}")
    await connection.close()


@dataclass
class Monitor:
    """A running monitor."""

    process: asyncio.subprocess.Process
    port: int
    token: str

    async def ask(self, path: str, **headers: str) -> httpx.Response:
        """GET a path."""
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=10) as client:
            return await client.get(path, headers={"authorization": f"Bearer {self.token}"} | headers)

    async def answer(self, path: str) -> Any:
        """Return the JSON behind a path below /v1/endpoints; fails where it is no 200."""
        response = await self.ask(f"/v1/endpoints/{path}")
        assert response.status_code == 200, response.text
        return response.json()

    async def is_up(self) -> bool:
        """Say whether it is ready; fails where the process has ended."""
        assert self.process.returncode is None, f"the monitor ended with {self.process.returncode}"
        try:
            return (await self.ask("/readyz")).status_code == 200
        except httpx.HTTPError:
            return False

    async def kill(self) -> None:
        """End it as the kernel would."""
        self.process.kill()
        await self.process.wait()

    async def stop(self, seconds: float = 15) -> int:
        """Tell it to end, and return its exit status; fails if it takes too long."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), seconds)


@dataclass
class Batch:
    """What one arm answered in one batch, as it is to be counted."""

    version: int
    arm: str
    requested_at: Any
    scored_at: int
    taken_at: int
    features: Any
    scores: Any
    rejected: int = 0


@dataclass
class Feed:
    """Writes observations as lanes do, each in a transaction of its own, and remembers what was committed."""

    settings: PlatformSettings
    endpoint: str
    partitions: int = 2
    model: str = "m"
    feature_names: tuple[str, ...] = FEATURES
    batches: list[Batch] = field(default_factory=list)
    offsets: dict[int, int] = field(default_factory=dict)
    _producers: dict[int, Any] = field(default_factory=dict)

    async def __aenter__(self) -> Self:
        """Make the topics, tell the first route."""
        await ensure_topics(self.settings, [*control_topics(), *endpoint_topics(self.endpoint, self.partitions)])
        self._plain = make_producer(self.settings)
        await self._plain.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect."""
        for producer in (*self._producers.values(), self._plain):
            await producer.stop()

    async def say(self, event: Any, *, key: str | None = None, topic: str | None = None) -> None:
        """Write a control event or a label."""
        topic = topic or type(event).TOPIC.format(endpoint=getattr(event, "endpoint", ""))
        named = key or str(getattr(event, type(event).KEY))
        await self._plain.send_and_wait(topic, rows.encode(event), key=named.encode())

    async def route(self) -> None:
        """Tell that the endpoint's topics exist."""
        arm = Arm(
            arm="champion", model=self.model, version=1, digest=DIGEST, application="a", weight=10_000, signature="{}"
        )
        at = datetime.now(UTC)
        await self.say(
            Route(
                endpoint=self.endpoint, epoch=1, promotion=1, result_schema="{}", result_schema_id=1, arms=(arm,), at=at
            )
        )

    async def built(self, version: int, profile_digest: str) -> None:
        """Tell that a version was built with a reference profile."""
        await self.say(
            BuildSucceeded(
                model=self.model, version=version, digest=DIGEST, attempt=1, evidence_digest=DIGEST,
                profile_digest=profile_digest, vectors=1, gates=(), seconds=1.0, at=datetime.now(UTC),
            )
        )  # fmt: skip

    async def label(self, request_id: str, requested_at: int, label: float) -> None:
        """Write the truth about a request."""
        event = LabelRecorded(
            endpoint=self.endpoint, request_id=request_id, requested_at=_moment(requested_at), label=label, source="t",
            at=datetime.now(UTC),
        )  # fmt: skip
        await self.say(event)

    async def raw(self, kind: str, value: bytes | None, partition: int = 0) -> None:
        """Write any bytes to one of the endpoint's topics."""
        await self._plain.send_and_wait(f"{self.endpoint}.{kind}", value, key=b"k", partition=partition)

    async def batch(
        self,
        partition: int,
        requested_at: Any,
        features: Any,
        *,
        version: int = 1,
        arm: str = "champion",
        scored_at: int | None = None,
        rejected: int = 0,
        commit: bool = True,
        skip: int = 0,
    ) -> None:
        """Write one batch; `skip` leaves a gap of requests before it, and without `commit` it is aborted."""
        requested_at = np.asarray(requested_at, dtype=np.int64)
        count = len(requested_at)
        scored_at = scored_at if scored_at is not None else int(requested_at.max()) + 20
        taken_at = scored_at - 5
        begin = self.offsets.get(partition, 0) + skip
        scores = features[:, 0] / 1000
        seen = Seen(
            endpoint=self.endpoint, topic=f"{self.endpoint}.requests", partition=partition, from_offset=begin,
            next_offset=begin + count + rejected, epoch=1, taken_at=_moment(taken_at), at=_moment(scored_at),
            answered=(
                Answered(
                    arm=arm, model=self.model, version=version, digest=DIGEST, offsets=np.arange(begin, begin + count),
                    requested_at=requested_at,
                    request_ids=Ragged.of([f"{partition}/{begin + each}".encode() for each in range(count)]),
                    output_names=("score",), outputs=scores.reshape(-1, 1), feature_names=self.feature_names,
                    features=features,
                ),
            ),
            refused=(
                Refused(
                    arm=arm, model=self.model, version=version, digest=DIGEST, reason="MALFORMED",
                    offsets=np.arange(begin + count, begin + count + rejected),
                    requested_at=np.full(rejected, requested_at[0]),
                ),
            ) if rejected else (),
        )  # fmt: skip
        producer = await self._producer(partition)
        await producer.begin_transaction()
        await producer.send_and_wait(
            f"{self.endpoint}.observations", rows.encode(observe(seen, 2**23)), key=b"e", partition=partition
        )
        if not commit:
            await producer.abort_transaction()
            return
        await producer.commit_transaction()
        self.offsets[partition] = begin + count + rejected
        self.batches.append(Batch(version, arm, requested_at, scored_at, taken_at, features, scores, rejected))

    async def _producer(self, partition: int) -> Any:
        if partition not in self._producers:
            self._producers[partition] = make_producer(self.settings, f"t.{self.endpoint}.{partition}")
            await self._producers[partition].start()
        return self._producers[partition]

    def expected(self) -> dict[tuple[int, str, int], dict[str, Any]]:
        """Return each window by (version, arm, start), recomputed from all batches at once."""
        found: dict[tuple[int, str, int], dict[str, Any]] = {}
        for batch in self.batches:
            times = event_time(batch.requested_at, batch.scored_at)
            for start in np.unique(times // WINDOW * WINDOW).tolist():
                chosen = times // WINDOW * WINDOW == start
                window = found.setdefault(
                    (batch.version, batch.arm, start), {"rows": 0, "rejected": 0, "total": [], "features": []}
                )
                window["rows"] += int(chosen.sum())
                window["total"].extend(np.maximum(batch.scored_at - times[chosen], 0).tolist())
                window["features"].append(batch.features[chosen])
            if batch.rejected:
                first = int(event_time(batch.requested_at[:1], batch.scored_at)[0]) // WINDOW * WINDOW
                found[batch.version, batch.arm, first]["rejected"] += batch.rejected
        return found


def counts(windows: list[dict[str, Any]]) -> dict[tuple[int, str, int], tuple[int, int]]:
    """Return rows and rejected of each window that the monitor answers."""
    return {
        (each["version"], each["arm"], _milliseconds(each["window_start"])): (each["rows"], each["rejected"])
        for each in windows
    }


def rows_of(feed: Feed) -> int:
    """Return how many requests were told of, rejected ones included."""
    return sum(len(batch.requested_at) + batch.rejected for batch in feed.batches)


async def counted(monitor: Monitor, feed: Feed, seconds: float = 60) -> list[dict[str, Any]]:
    """Return the windows once as many requests are counted as were told of, and every revision of them is told.

    They must be exactly those that a batch makes of what was committed; fails showing both.
    """
    expected = {key: (each["rows"], each["rejected"]) for key, each in feed.expected().items()}
    windows: list[dict[str, Any]] = []

    async def all_there() -> bool:
        covered = (await monitor.ask(f"/v1/endpoints/{feed.endpoint}/coverage")).json()
        if sum(each["rows"] for each in covered.get("requests", ())) < rows_of(feed):
            return False
        windows[:] = (await monitor.answer(f"{feed.endpoint}/windows?limit=5000"))["windows"]
        return counts(windows) == expected

    with contextlib.suppress(TimeoutError):
        await until(all_there, seconds)
    coverage = await monitor.answer(f"{feed.endpoint}/coverage")
    assert counts(windows) == expected, coverage
    return windows


async def closed(monitor: Monitor, feed: Feed) -> list[dict[str, Any]]:
    """Return the windows once none is open any more."""
    found: list[dict[str, Any]] = []

    async def look() -> bool:
        found[:] = (await monitor.answer(f"{feed.endpoint}/windows?limit=5000"))["windows"]
        return bool(found) and not any(each["open"] for each in found)

    await until(look)
    return found


async def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    """Return when the condition (plain or awaitable) holds; fails after so many seconds."""
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if await found if inspect.isawaitable(found) else found:
                return
            await asyncio.sleep(0.05)


def endpoint_name() -> str:
    """Return the name of an endpoint that no other test has."""
    return "m" + uuid7().replace("-", "")[-12:]


def profile(matrix: Any, names: tuple[str, ...] = FEATURES) -> bytes:
    """Return the reference profile of a matrix (rows, features) and its scores, as the builder makes it."""
    from interlock.signature import Input, Output, Signature
    from interlock_builder.profile import profile as make

    inputs = tuple(Input(name, "double") for name in names)
    signature = Signature(inputs=inputs, outputs=(Output("score", "double", None, None),))
    return json.dumps(make(signature, matrix, matrix[:, :1] / 1000, "test")).encode()


def sample(seed: int, count: int, shift: float = 0.0) -> Any:
    """Return features (rows, 3) of a known spread, the first shifted by so many standard deviations."""
    matrix = np.random.default_rng(seed).normal(size=(count, len(FEATURES)))
    return matrix * [100, 3, 10] + [500 + 100 * shift, 12, 40]


def _moment(instant: int) -> datetime:
    return datetime.fromtimestamp(instant / 1000, UTC)


def _milliseconds(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)
