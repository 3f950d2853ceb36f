"""An auditor and its witness as processes on real servers, and hands that say events, kill, and forge rows."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from interlock import auth
from interlock.codec import rows
from interlock.ids import uuid7
from interlock.kafka import admin, headers
from interlock.kafka.consumer import make_consumer
from interlock.kafka.message import Message
from interlock.kafka.producer import TransactionalPublisher
from interlock.postgres import migrate
from interlock.schemas import control_topics, endpoint_topics
from interlock.schemas.events import AnsweredBy, BatchAnswered, EndpointCreated, ModelCreated
from interlock.settings import PlatformSettings
from interlock_auditor import store
from interlock_auditor.verify_run import Asked, Report, run
from tests.integration.control.conftest import until

SQL = Path("services/auditor/interlock_auditor/sql")
PASSWORD = "for-one-test"
DIGEST = "sha256:" + "ab" * 32
SHORT = {
    "INTERLOCK_WITNESS_LOST_SECONDS": "1.5",
    "INTERLOCK_UNSURE_SECONDS": "0.5",
    "INTERLOCK_PATROL_SECONDS": "0.3",
    "INTERLOCK_CHECKPOINT_SECONDS": "0.3",
    "INTERLOCK_RETRY_SECONDS_MAX": "0.5",
    "INTERLOCK_TOPICS_SECONDS": "0.2",
}


class Process:
    """One of the two as a child process."""

    def __init__(self, name: str, environment: dict[str, str], log: Path) -> None:
        self.name = name
        self.environment = environment
        self.log = log
        self.url = f"http://127.0.0.1:{environment['INTERLOCK_HTTP_PORT']}"
        self.child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        with self.log.open("ab") as file:
            command = [sys.executable, "-m", "interlock.cli", "run", self.name]
            self.child = subprocess.Popen(command, env=self.environment, stdout=file, stderr=file)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal and return its exit status."""
        assert self.child is not None
        self.child.send_signal(number)
        status = self.child.wait(20)
        self.child = None
        return status

    def kill(self) -> None:
        """Let it die at once."""
        assert self.stop(signal.SIGKILL) == -signal.SIGKILL

    def end(self) -> None:
        """Stop it if it runs."""
        if self.child is not None:
            self.stop()


class Room:
    """Servers' addresses, both processes, and what a test does to them."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.owner_dsn = environment["INTERLOCK_POSTGRES_OWNER_DSN"]
        self.tokens, public = auth.generate_keys()
        (folder / "tokens.pem").write_bytes(public)
        for name in ("audit", "witness"):
            private, public = auth.generate_keys()
            (folder / f"{name}-private.pem").write_bytes(private)
            (folder / f"{name}-public.pem").write_bytes(public)
        self.token = self.issue("auditor", "service")
        scheme, _, rest = self.owner_dsn.partition("://")
        self.dsn = f"{scheme}://{migrate.role_of('auditor')}:{PASSWORD}@{rest.rpartition('@')[2]}"
        witness_port = _free_port()
        self.environment = (
            environment
            | SHORT
            | {
                "INTERLOCK_POSTGRES_DSN": self.dsn,
                "INTERLOCK_TOKEN": self.token,
                "INTERLOCK_TOKEN_PUBLIC_KEY_FILE": str(folder / "tokens.pem"),
                "INTERLOCK_AUDIT_KEY_FILE": str(folder / "audit-private.pem"),
                "INTERLOCK_AUDIT_PUBLIC_KEY_FILE": str(folder / "audit-public.pem"),
                "INTERLOCK_WITNESS_KEY_FILE": str(folder / "witness-private.pem"),
                "INTERLOCK_WITNESS_PUBLIC_KEY_FILE": str(folder / "witness-public.pem"),
                "INTERLOCK_WITNESS_FOLDER": str(folder / "witness"),
                "INTERLOCK_WITNESS_URL": f"http://127.0.0.1:{witness_port}",
                "INTERLOCK_HTTP_PORT": str(_free_port()),
            }
        )
        kept = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
        self.auditor = self.another("auditor")
        witness = kept | self.environment | {"INTERLOCK_HTTP_PORT": str(witness_port)}
        self.witness = Process("witness", witness, folder / "witness.log")
        self.settings = PlatformSettings.model_validate(
            {name.removeprefix("INTERLOCK_").lower(): value for name, value in environment.items()}
        )
        self._publisher = TransactionalPublisher(self.settings, f"test.{uuid7()}")

    def another(self, name: str) -> Process:
        """Return one more auditor, not yet started."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
        environment = kept | self.environment | {"INTERLOCK_HTTP_PORT": str(_free_port())}
        return Process("auditor", environment, self.folder / f"{name}.log")

    def issue(self, subject: str, *roles: str) -> str:
        """Return a token."""
        return auth.issue(self.tokens, subject, roles, 3600, datetime.now(UTC))

    async def prepare(self) -> None:
        """Make tables and topics."""
        await migrate.migrate(self.owner_dsn, "auditor", [SQL], PASSWORD)
        await admin.ensure_topics(self.settings, control_topics())
        await self._publisher.open()

    async def close(self) -> None:
        """Let go of Kafka."""
        await self._publisher.close()

    def end(self) -> None:
        """End what runs."""
        for process in (self.auditor, self.witness):
            process.end()

    async def get(self, path: str, process: Process | None = None, **parameters: Any) -> Any:
        """Ask the auditor (or another process)."""
        return (await self.ask("GET", path, process, params=parameters)).json()

    async def ask(self, method: str, path: str, process: Process | None = None, **more: Any) -> httpx.Response:
        """Send one request with the service's token."""
        async with httpx.AsyncClient(trust_env=False, headers={"Authorization": f"Bearer {self.token}"}) as client:
            return await client.request(method, (process or self.auditor).url + path, **more)

    async def head(self) -> dict[str, Any]:
        """Return the auditor's head, or nothing while it does not answer."""
        try:
            return dict(await self.get("/v1/head"))
        except httpx.TransportError:
            return {}

    async def until_state(self, *states: str, size: int | None = None, seconds: float = 90) -> dict[str, Any]:
        """Wait until the log is in one of the states (and of a size); return its head."""
        found: dict[str, Any] = {}

        async def there() -> bool:
            now = await self.head()
            found.clear()
            found.update(now)
            return found.get("state") in states and (size is None or found.get("size") == size)

        try:
            await until(there, seconds)
        except TimeoutError:
            raise AssertionError(f"not {states} {size}: {found}\n{self.auditor.log.read_text()[-3000:]}") from None
        return found

    async def say(self, events: Sequence[Any]) -> None:
        """Write events in one transaction, as a service's relay or a lane does."""
        now = datetime.now(UTC)
        messages = []
        for event in events:
            kind = type(event)
            topic = kind.TOPIC.format(endpoint=getattr(event, "endpoint", ""))
            named = headers.cloudevents(
                kind.TYPE, event_id=uuid7(), source="/interlock/test", at=now, actor="olga", subject="x"
            )
            messages.append(Message(topic, b"key", rows.encode(event), named, now))
        await self._publisher.publish(messages)

    async def endpoint(self, name: str, partitions: int = 2) -> None:
        """Make an endpoint's topics and say so."""
        await admin.ensure_topics(self.settings, endpoint_topics(name, partitions))
        await self.say([endpoint_created(name, partitions)])

    async def owner(self, *statements: str) -> None:
        """Run SQL as the owner of the table, who can take the triggers away and put them back."""
        connection = await asyncpg.connect(self.owner_dsn)
        try:
            await connection.execute("SET search_path = auditor; ALTER TABLE entries DISABLE TRIGGER USER")
            for statement in statements:
                await connection.execute(statement)
            await connection.execute("ALTER TABLE entries ENABLE TRIGGER USER")
        finally:
            await connection.close()

    async def coordinates(self) -> list[tuple[str, int, int]]:
        """Return topic, partition, offset of every entry, in the log's order."""
        connection = await asyncpg.connect(self.owner_dsn)
        try:
            await connection.execute("SET search_path = auditor")
            return [each for tile in [await store.page(connection, 0, 1_000_000)] for each in _places(tile)]
        finally:
            await connection.close()

    async def records(self, topics: Sequence[str]) -> set[tuple[str, int, int]]:
        """Return the coordinates of every committed record of topics, as any consumer sees them."""
        consumer = make_consumer(self.settings)
        consumer.subscribe(list(topics))
        await consumer.start()
        found: set[tuple[str, int, int]] = set()
        try:
            await until(lambda: {each.topic for each in consumer.assignment()} == set(topics))
            ends = await consumer.end_offsets(list(consumer.assignment()))
            while any([await consumer.position(place) < end for place, end in ends.items()]):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found |= {(each.topic, each.partition, each.offset) for each in records}
        finally:
            await consumer.stop()
        return found

    async def verify(self, *, replay: bool = False, witness: str | None = None, workers: int | None = None) -> Report:
        """Verify as anyone may who can read the table and the witness."""
        return await run(
            Asked(
                dsn=self.owner_dsn,
                witness=witness or self.environment["INTERLOCK_WITNESS_URL"],
                token=self.token,
                log_key=self.folder / "audit-public.pem",
                witness_key=self.folder / "witness-public.pem",
                kafka=self.environment["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"] if replay else None,
                workers=workers,
            )
        )


def model_created(number: int) -> ModelCreated:
    """Return a small control event."""
    return ModelCreated(model=f"m{number}", owner="o", created_by="olga", at=datetime.now(UTC))


def endpoint_created(name: str, partitions: int) -> EndpointCreated:
    """Return the event by which the auditor hears of an endpoint."""
    return EndpointCreated(endpoint=name, model="m0", partitions=partitions, created_by="olga", at=datetime.now(UTC))


def batch(endpoint: str, partition: int, first: int, behind: int) -> BatchAnswered:
    """Return what a lane says of one batch."""
    arm = AnsweredBy(arm="champion", model="m0", version=1, digest=DIGEST, rows=behind - first)
    return BatchAnswered(
        endpoint=endpoint,
        topic=f"{endpoint}.requests",
        partition=partition,
        from_offset=first,
        next_offset=behind,
        first_offset=first,
        rows=behind - first,
        rejected=0,
        epoch=1,
        results_digest=DIGEST,
        requests_digest=DIGEST,
        versions=(arm,),
        at=datetime.now(UTC),
    )


def _places(entries: Sequence[Any]) -> list[tuple[str, int, int]]:
    return [(each.topic, each.partition, each.offset) for each in entries]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
