"""Kafka and Postgres are killed under a service that writes and hears: it recovers by itself and loses nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from interlock import embedded
from interlock.cause import Cause
from interlock.clock import SystemClock
from interlock.dispatch import Dispatch
from interlock.embedded.home import Home
from interlock.errors import Transient
from interlock.kafka import admin
from interlock.kafka.consumer import ControlConsumer
from interlock.kafka.producer import TransactionalPublisher
from interlock.postgres import journal, migrate, pool
from interlock.postgres.outbox import Relay
from interlock.schemas.events import ModelCreated
from interlock.settings import PlatformSettings
from tests.integration.control.conftest import topic_of, until

pytestmark = [pytest.mark.fault, pytest.mark.timeout(300)]
EVENTS = 300


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[tuple[Home, dict[str, str]]]:
    """Start servers of this test's own, since it kills them."""
    async with embedded.running(tmp_path / "home", ("kafka", "postgres")) as environment:
        yield Home(tmp_path / "home"), environment


async def _write(database: Any, written: list[str]) -> None:
    """Carry out commands steadily, each retried under its key until it is known to be done."""
    for number in range(EVENTS):
        cause = Cause.start("ada")

        async def decide(unit: journal.Unit, name: str = f"m{number}") -> str:
            event = ModelCreated(model=name, owner="x", created_by="ada", at=datetime.now(UTC))
            return await unit.append(f"model/{name}", event)

        while True:
            try:
                written.append(await journal.command(database, f"key-{number}", cause, decide, request=number))
                break
            except Transient:
                await asyncio.sleep(0.1)
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("victim", ["kafka", "postgres"])
async def test_a_killed_server_costs_a_pause_and_no_event(
    victim: str, home: tuple[Home, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command's event is in the journal once and was heard once, whatever was killed in between."""
    folder, environment = home
    owner = environment["INTERLOCK_POSTGRES_OWNER_DSN"]
    await migrate.migrate(owner, "toy", [], "secret")
    address = f"postgresql://interlock_toy:secret@{owner.split('@', 1)[1]}"
    settings = PlatformSettings.model_validate(
        {
            "kafka_bootstrap_servers": environment["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"],
            "postgres_dsn": address,
            "retry_seconds_max": 0.5,
        }
    )
    await admin.ensure_topics(settings, [topic_of("toy.events")])
    monkeypatch.setattr(ModelCreated, "TOPIC", "toy.events")
    database = await pool.connect(address)
    stopping = asyncio.Event()
    heard: list[str] = []
    written: list[str] = []

    async def on_model_created(event: ModelCreated, unit: journal.Unit) -> None:
        await unit.connection.execute("SELECT 1")
        heard.append(event.model)

    dispatch = Dispatch("toy", {"toy.events": {ModelCreated: on_model_created}}, {}, database, SystemClock())
    consumer = ControlConsumer(settings, "toy", ["toy.events"], dispatch.decode, dispatch.handle, stopping=stopping)
    publisher = TransactionalPublisher(settings, "toy.outbox")
    tasks = [
        asyncio.create_task(consumer.run()),
        asyncio.create_task(Relay(address, publisher, "toy", stopping=stopping, retry_seconds_max=0.5).run()),
    ]
    writer = asyncio.create_task(_write(database, written))
    await until(lambda: len(written) > 50 and heard)
    record = folder.record()
    assert record is not None
    os.kill(record["processes"][victim]["pid"], signal.SIGKILL)
    await asyncio.wait_for(writer, 120)
    await until(lambda: database.fetchval("SELECT count(*) = $1 FROM inbox", EVENTS), 120)
    stopping.set()
    await asyncio.gather(*tasks)
    assert await database.fetchval("SELECT count(*) FROM journal") == EVENTS
    assert len(set(written)) == EVENTS
    assert set(Counter(heard)) == {f"m{number}" for number in range(EVENTS)}
    database.terminate()
