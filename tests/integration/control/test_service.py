"""The process runner as a process: waits for servers, serves, drains on SIGTERM, ends on a bug with its offset kept."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from interlock import auth
from interlock.codec import rows
from interlock.ids import uuid7
from interlock.kafka.consumer import make_consumer
from interlock.kafka.headers import cloudevents, parse
from interlock.kafka.message import Message
from interlock.kafka.producer import TransactionalPublisher
from interlock.schemas.events import BuildStarted
from interlock.service import EXIT_BUG, EXIT_OK, EXIT_USAGE
from interlock.settings import PlatformSettings
from tests.integration.control.conftest import until

ROOT = Path(__file__).parents[3]
PROGRAM = """
import sys
from importlib.metadata import EntryPoint
from interlock.schemas.events import ModelCreated
from interlock.service import run_entry
ModelCreated.TOPIC = sys.argv[1]
sys.exit(run_entry(EntryPoint("toy", "tests.integration.control.toy:build", "interlock.services")))
"""


class _Process:
    """The toy as a child process, with its log."""

    def __init__(self, environment: dict[str, str], topic: str, log: Path) -> None:
        self.environment = environment
        self.topic = topic
        self.log = log
        self.url = f"http://127.0.0.1:{environment['INTERLOCK_HTTP_PORT']}"
        self.child: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self.log.open("ab") as file:
            self.child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", PROGRAM, self.topic, env=self.environment, cwd=ROOT, stderr=file
            )

    async def ended(self) -> int:
        assert self.child is not None
        return await asyncio.wait_for(self.child.wait(), 30)

    async def ready(self) -> bool:
        assert self.child is not None
        assert self.child.returncode is None, self.log.read_text()
        async with httpx.AsyncClient(trust_env=False) as client:
            try:
                return (await client.get(f"{self.url}/readyz")).status_code == 200
            except httpx.TransportError:
                return False

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture
async def process(
    servers: dict[str, str], service: str, service_dsn: str, topic: str, tmp_path: Path
) -> AsyncIterator[_Process]:
    """Return the toy, not yet started; it is killed at the end."""
    private, public = auth.generate_keys()
    (tmp_path / "public.pem").write_bytes(public)
    (tmp_path / "private.pem").write_bytes(private)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")},
        **servers,
        "INTERLOCK_POSTGRES_DSN": service_dsn,
        "INTERLOCK_TOKEN_PUBLIC_KEY_FILE": str(tmp_path / "public.pem"),
        "INTERLOCK_HTTP_PORT": str(_free_port()),
        "INTERLOCK_TOY_TOPIC": topic,
        "INTERLOCK_TOY_SERVICE": service,
        "INTERLOCK_CONNECT_RETRY_SECONDS_MAX": "0.3",
    }
    toy = _Process(environment, topic, tmp_path / "toy.log")
    yield toy
    if toy.child is not None and toy.child.returncode is None:
        toy.child.kill()
        await toy.child.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _token(tmp_path: Path, *roles: str) -> dict[str, str]:
    token = auth.issue((tmp_path / "private.pem").read_bytes(), "ada", roles, 60, datetime.now(UTC))
    return {"Authorization": f"Bearer {token}"}


def _build(topic: str, model: str) -> Message:
    event = BuildStarted(model=model, version=1, digest="sha256:" + "0" * 64, attempt=1, at=datetime.now(UTC))
    return Message(
        topic, b"k", rows.encode(event), cloudevents(event.TYPE, event_id=uuid7(), source="/t", at=event.at), event.at
    )


async def _publish(settings: PlatformSettings, *messages: Message) -> None:
    publisher = TransactionalPublisher(settings, f"test.{uuid7()}")
    await publisher.open()
    await publisher.publish(messages)
    await publisher.close()


async def _read(settings: PlatformSettings, topic: str, models: int) -> list[tuple[str, Any]]:
    from aiokafka import TopicPartition

    reader = make_consumer(settings)
    await reader.start()
    reader.assign([TopicPartition(topic, 0)])
    found: list[tuple[str, Any]] = []
    try:
        while len(found) < models:
            record = await asyncio.wait_for(reader.getone(), 20)
            event = rows.decode(record.value)
            if type(event).__name__ == "ModelCreated":
                found.append((event.model, parse(record.headers)))
    finally:
        await reader.stop()
    return found


async def test_a_command_becomes_an_event_and_sigterm_drains(
    process: _Process, settings: PlatformSettings, topic: str, tmp_path: Path
) -> None:
    """Over HTTP: 202, the same answer to the same key, the event in the caller's trace; then a drained exit."""
    await process.start()
    await until(process.ready, 60)
    trace = "00-" + "c" * 32 + "-" + "d" * 16 + "-01"
    async with httpx.AsyncClient(base_url=process.url, trust_env=False) as client:
        assert (await client.post("/models/a")).status_code == 401
        assert (await client.post("/models/a", headers=_token(tmp_path, "viewer"))).status_code == 403
        sent = _token(tmp_path, "operator") | {"Idempotency-Key": "k1", "traceparent": trace}
        first, second = [await client.post("/models/a", headers=sent) for _ in range(2)]
        assert first.status_code == second.status_code == 202
        assert first.json() == second.json()
        reused = await client.post("/models/b", headers=sent)
        assert (reused.status_code, reused.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    ((model, envelope),) = await _read(settings, topic, 1)
    assert (model, envelope.actor, envelope.id) == ("a", "ada", first.json()["id"])
    assert envelope.traceparent.split("-")[1] == "c" * 32
    assert process.child is not None
    process.child.send_signal(signal.SIGTERM)
    assert await process.ended() == EXIT_OK
    assert process.lines()[-1]["event"] == "process.ended"


async def test_a_bug_ends_the_process_and_the_record_comes_again(
    process: _Process, settings: PlatformSettings, topic: str
) -> None:
    """Exit 70, even with a thread that hangs; the log names the bug; the next process meets the same record."""
    await _publish(settings, _build(topic, "a"), _build(topic, "bug-with-a-hanging-thread"))
    for _ in range(2):
        await process.start()
        assert await process.ended() == EXIT_BUG
    bugs = [line for line in process.lines() if line["event"] == "process.bug"]
    assert len(bugs) == 2
    assert "ZeroDivisionError: planted" in bugs[0]["detail"]


async def test_servers_away_at_the_start_are_waited_for_with_one_line(process: _Process, tmp_path: Path) -> None:
    """No Postgres: one warning that says what to do, no end; SIGTERM still ends it with 0."""
    process.environment["INTERLOCK_POSTGRES_DSN"] = "postgresql://nobody@127.0.0.1:1/x"
    await process.start()
    await until(lambda: "postgres.away" in process.log.read_text())
    await asyncio.sleep(1.0)  # several attempts pass; still only one line
    assert [line["event"] for line in process.lines()] == ["postgres.away"], process.log.read_text()
    assert process.child is not None
    process.child.send_signal(signal.SIGTERM)
    assert await process.ended() == EXIT_OK


async def test_kafka_away_does_not_keep_http_from_serving(process: _Process) -> None:
    """Alive and serving, but not ready, and saying for what it waits."""
    process.environment["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"] = "127.0.0.1:1"
    await process.start()

    async def alive() -> bool:
        async with httpx.AsyncClient(base_url=process.url, trust_env=False) as client:
            try:
                return (await client.get("/livez")).status_code == 200
            except httpx.TransportError:
                return False

    await until(alive)
    async with httpx.AsyncClient(base_url=process.url, trust_env=False) as client:
        answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert "no partitions" in answer.json()["waiting_for"][0]
    assert process.child is not None
    process.child.send_signal(signal.SIGTERM)
    assert await process.ended() == EXIT_OK


async def test_a_port_in_use_is_said_in_one_line(process: _Process, tmp_path: Path) -> None:
    """Exit 2 and the name of the setting to change; no traceback."""
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", int(process.environment["INTERLOCK_HTTP_PORT"]))
    async with server:
        await process.start()
        assert await process.ended() == EXIT_USAGE
    (line,) = (line for line in process.lines() if line["event"] == "process.refused")
    assert "INTERLOCK_HTTP_PORT" in line["detail"]
    assert "Traceback" not in process.log.read_text()


async def test_a_setting_that_cannot_be_is_said_in_one_line(process: _Process) -> None:
    """Exit 2, naming the setting."""
    process.environment["INTERLOCK_HTTP_PORT"] = "99999999"
    await process.start()
    assert await process.ended() == EXIT_USAGE
    (line,) = process.lines()
    assert "http_port" in line["detail"]
