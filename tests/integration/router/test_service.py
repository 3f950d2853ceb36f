"""The router as a process: it finds its routes on Kafka, says when it is ready, and ends in order with servers away."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import httpx
from confluent_kafka import Producer

from interlock.codec.rows import encode
from interlock.kafka.admin import ensure_topics
from interlock.schemas import control_topics
from interlock.schemas.topics import ROUTES
from tests.integration.router.rig import Rig


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


async def test_sigterm_ends_a_router_whose_version_is_away_and_its_batch_stays_unanswered(
    rig: Rig, tmp_path: Path
) -> None:
    """It reads its route from the topic, takes a batch, waits for Ray; SIGTERM ends it with 0, offset where it was."""
    await ensure_topics(rig.settings, control_topics())
    producer = Producer({"bootstrap.servers": rig.settings.kafka_bootstrap_servers})
    producer.produce(ROUTES, key=rig.endpoint, value=encode(rig.route((1, 10_000))))
    producer.flush(10)
    rig.produce([rig.value(number) for number in range(100)])
    port = _free_port()
    environment = os.environ | {
        "INTERLOCK_KAFKA_BOOTSTRAP_SERVERS": rig.settings.kafka_bootstrap_servers,
        "INTERLOCK_SCHEMA_REGISTRY_URL": rig.settings.schema_registry_url.get_secret_value(),
        "INTERLOCK_GROUP": rig.settings.group,
        "INTERLOCK_RAY_ADDRESS": f"127.0.0.1:{_free_port()}",
        "INTERLOCK_REDIS_URL": f"redis://127.0.0.1:{_free_port()}/0",
        "INTERLOCK_BLOB_FOLDER": str(tmp_path),
        "INTERLOCK_HTTP_PORT": str(port),
        "INTERLOCK_DRAIN_SECONDS": "6",
    }
    with (tmp_path / "log").open("wb") as log:
        router = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "interlock_router", env=environment, stderr=log
        )
    try:
        await _until_said(tmp_path / "log", "version away", 60)
        async with httpx.AsyncClient(trust_env=False) as http:
            assert (await http.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
            assert "interlock_lane_lag" in (await http.get(f"http://127.0.0.1:{port}/metrics")).text
        router.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(router.wait(), 20) == 0
    finally:
        if router.returncode is None:
            router.kill()
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert rig.read("results", 0, 0.1) == []


async def _until_said(path: Path, words: str, seconds_max: float) -> None:
    async with asyncio.timeout(seconds_max):
        while words not in path.read_text():
            await asyncio.sleep(0.1)
