"""The builder's own process between real servers: a registration on Kafka goes in, verdicts on Kafka come out."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import interlock_builder
from interlock.blobs import Blobs
from interlock.codec import rows
from interlock.ids import uuid7
from interlock.kafka import admin, headers
from interlock.kafka.consumer import make_consumer
from interlock.kafka.producer import make_producer
from interlock.postgres import migrate
from interlock.schemas import control_topics
from interlock.schemas.events import BuildStarted, BuildSucceeded, GateEvaluated, Verdict
from interlock.schemas.topics import BUILD_EVENTS, MODEL_EVENTS
from interlock.settings import PlatformSettings
from tests.integration.builder.forge import Forge, Version, gate, holdout

SECONDS_MAX = 60.0


async def _said(settings: PlatformSettings, model: str, count: int) -> list[tuple[Any, headers.Envelope]]:
    """Return the first events of the builder on a model, read as anybody would, with their envelopes."""
    consumer = make_consumer(settings, None, isolation_level="read_committed")
    consumer.subscribe([BUILD_EVENTS])
    await consumer.start()
    found = []
    try:
        async with asyncio.timeout(SECONDS_MAX):
            async for record in consumer:
                event = rows.decode(record.value)
                if event.model == model:
                    found.append((event, headers.parse(record.headers)))
                if len(found) == count:
                    return found
    finally:
        await consumer.stop()
    raise AssertionError("unreachable")


def _started(environment: dict[str, str], path: Path) -> subprocess.Popen[bytes]:
    with path.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "interlock_builder"], env=os.environ | environment, stdout=log, stderr=log
        )


@pytest.mark.timeout(180)
async def test_registration_in_verdicts_out_and_a_clean_end(servers: dict[str, str], tmp_path: Path) -> None:
    """The same registration twice is one build; correlation and trace are carried on; SIGTERM ends with 0."""
    password = secrets.token_hex(8)
    sql = Path(interlock_builder.__file__).parent / "sql"
    owner_dsn = servers["INTERLOCK_POSTGRES_OWNER_DSN"]
    await migrate.migrate(owner_dsn, "builder", [sql], password)
    environment = servers | {
        "INTERLOCK_POSTGRES_DSN": f"postgresql://interlock_builder:{password}@{owner_dsn.split('@', 1)[1]}",
        "INTERLOCK_BLOB_FOLDER": str(tmp_path / "blobs"),
    }
    values: dict[str, Any] = {name.removeprefix("INTERLOCK_").lower(): value for name, value in environment.items()}
    settings = PlatformSettings(**values)
    await admin.ensure_topics(settings, control_topics())
    name = f"m{uuid7().replace('-', '')[-12:]}"
    csv, _, _ = holdout()
    version = Version(name=name, gates=gate() + gate("worse", bounds="minimum = 0.999"), files={"holdout.csv": csv})
    event = Forge(None, Blobs(tmp_path / "blobs")).event(version)
    traceparent = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
    producer = make_producer(settings)
    await producer.start()
    envelope = headers.cloudevents(
        event.TYPE,
        event_id=uuid7(),
        source="interlock/registry",
        at=datetime.now(UTC),
        traceparent=traceparent,
        correlation_id="story-1",
        actor="ada",
    )
    for _ in range(2):
        await producer.send_and_wait(MODEL_EVENTS, rows.encode(event), key=name.encode(), headers=envelope)
    await producer.stop()

    process = _started(environment, tmp_path / "builder.log")
    try:
        said = await _said(settings, name, 4)
        assert [type(one) for one, _ in said] == [BuildStarted, BuildSucceeded, GateEvaluated, GateEvaluated]
        assert [one.verdict for one, _ in said[2:]] == [Verdict.PASS, Verdict.FAIL]
        assert {one.correlation_id for _, one in said} == {"story-1"}
        assert {(one.traceparent or "").split("-")[1] for _, one in said} == {traceparent.split("-")[1]}
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, (tmp_path / "builder.log").read_text()[-2000:]
    finally:
        process.kill()
        process.wait()
