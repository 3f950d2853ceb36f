"""Control events on a real Kafka as Confluent's client sees them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import Consumer

from interlock.cause import Cause
from interlock.codec import rows
from interlock.ids import uuid7
from interlock.kafka.headers import parse
from interlock.kafka.producer import TransactionalPublisher
from interlock.postgres import journal
from interlock.postgres.outbox import Relay
from interlock.schemas.events import ModelCreated
from interlock.settings import PlatformSettings
from tests.integration.control.conftest import until


def _read_one(bootstrap_servers: str, topic: str) -> Any:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": uuid7(),
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([topic])
    try:
        for _ in range(60):
            message = consumer.poll(0.5)
            if message is not None and message.error() is None:
                return message
    finally:
        consumer.close()
    raise AssertionError("no message came")


async def test_a_stock_client_reads_a_relayed_event_with_its_headers(
    settings: PlatformSettings,
    service: str,
    service_dsn: str,
    topic: str,
    database: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Appended to the journal, relayed in a transaction, read by librdkafka: key, time, headers, value."""
    monkeypatch.setattr(ModelCreated, "TOPIC", topic)
    event = ModelCreated(model="fraud", owner="risk", created_by="ada", at=datetime(2026, 1, 2, tzinfo=UTC))
    async with journal.unit(database, Cause.start("ada")) as unit:
        event_id = await unit.append("model/fraud", event)
    stopping = asyncio.Event()
    relay = asyncio.create_task(
        Relay(service_dsn, TransactionalPublisher(settings, f"test.{service}"), service, stopping=stopping).run()
    )
    await until(lambda: database.fetchval("SELECT count(*) = 0 FROM outbox WHERE published_at IS NULL"))
    stopping.set()
    await relay
    message = await asyncio.to_thread(_read_one, settings.kafka_bootstrap_servers, topic)
    envelope = parse(message.headers())
    assert message.key() == b"fraud"
    assert (envelope.id, envelope.actor, envelope.source) == (event_id, "ada", f"/interlock/{service}")
    assert rows.decode(message.value()) == event
