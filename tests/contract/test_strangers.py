"""Clients that know nothing of Interlock but what `interlock env` prints: they ask, and they read the answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from interlock.ids import uuid7
from tests.integration.client.journey import small, small_score

__all__ = ["small"]

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]

REQUESTS = 25
READ_SECONDS_MAX = 40.0


@pytest.fixture(scope="session")
def env(stack: dict[str, str]) -> dict[str, str]:
    """What `interlock env --json` prints, and nothing else."""
    printed = subprocess.run(
        [sys.executable, "-m", "interlock.cli", "env", "--json"],
        env=os.environ | {"INTERLOCK_HOME": stack["INTERLOCK_HOME"]},
        check=True,
        capture_output=True,
    )
    found: dict[str, str] = json.loads(printed.stdout)
    return found


@pytest.fixture(scope="session")
def topics(env: dict[str, str], small: dict[str, Any]) -> dict[str, str]:
    """The topics of the endpoint `small`, asked of the API with a plain HTTP client and the printed token."""
    request = urllib.request.Request(  # noqa: S310 - the address is the one that was printed
        f"{env['INTERLOCK_URL']}/v1/endpoints/small", headers={"Authorization": f"Bearer {env['INTERLOCK_TOKEN']}"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10) as response:
        found: dict[str, str] = json.load(response)["topics"]
    return found


def produce(env: dict[str, str], topic: str, mark: str) -> dict[str, dict[str, Any]]:
    """Send requests as any application does: stock serializer, the schema fetched from the registry by its topic."""
    registry = SchemaRegistryClient({"url": env["INTERLOCK_SCHEMA_REGISTRY_URL"]})
    serialize = AvroSerializer(registry, conf={"auto.register.schemas": False, "use.latest.version": True})
    producer = Producer({"bootstrap.servers": env["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"], "enable.idempotence": True})
    sent: dict[str, dict[str, Any]] = {}
    for number in range(REQUESTS):
        name = f"{mark}-{number}"
        record = {
            "request_id": name,
            "requested_at": datetime.now(UTC),
            "amount": float(number),
            "night": number % 2 == 0,
        }
        value = serialize(record, SerializationContext(topic, MessageField.VALUE))
        producer.produce(topic, value=value, key=name)
        sent[name] = record
    assert producer.flush(20) == 0
    return sent


def test_stock_avro_clients_ask_and_read(env: dict[str, str], topics: dict[str, str]) -> None:
    """confluent-kafka's own serializer and deserializer: every request has one result, rightly scored."""
    mark = uuid7()
    sent = produce(env, topics["requests"], mark)
    registry = SchemaRegistryClient({"url": env["INTERLOCK_SCHEMA_REGISTRY_URL"]})
    deserialize = AvroDeserializer(registry)
    consumer = Consumer(
        {
            "bootstrap.servers": env["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"],
            "group.id": mark,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }
    )
    consumer.subscribe([topics["results"]])
    seen: dict[str, list[dict[str, Any]]] = {}
    deadline = time.monotonic() + READ_SECONDS_MAX
    try:
        while len(seen) < REQUESTS and time.monotonic() < deadline:
            message = consumer.poll(0.5)
            if message is None or message.error() is not None or not (message.key() or b"").startswith(mark.encode()):
                continue
            record = deserialize(message.value(), SerializationContext(topics["results"], MessageField.VALUE))
            assert isinstance(record, dict)
            seen.setdefault(record["request_id"], []).append(record)
    finally:
        consumer.close()
    assert set(seen) == set(sent)
    for name, (result, *more) in seen.items():
        assert not more, "one request, one result"
        wanted = small_score(sent[name]["amount"], night=sent[name]["night"])
        assert result["score"] == pytest.approx(wanted)
        assert (result["model"], result["version"], result["rejection"]) == ("small", 1, None)


def test_kafkas_own_console_consumer_reads_committed_results(env: dict[str, str], topics: dict[str, str]) -> None:
    """The Java client that comes with Kafka, from the jars whose folder is printed, sees each result once."""
    from interlock.embedded import java

    mark = uuid7()
    sent = produce(env, topics["requests"], mark)
    command = [
        *(str(java.find().program), "-cp", f"{env['INTERLOCK_KAFKA_HOME']}/libs/*"),
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
        *("--bootstrap-server", env["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"], "--topic", topics["results"]),
        *("--from-beginning", "--isolation-level", "read_committed", "--timeout-ms", "8000"),
        *("--formatter-property", "print.key=true", "--formatter-property", "print.value=false"),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=90)
    keys = [line for line in done.stdout.split() if line.startswith(mark)]
    assert sorted(keys) == sorted(sent)


@pytest.mark.skipif(shutil.which("kcat") is None, reason="kcat is not installed here")
def test_kcat_reads_keys_and_avro(env: dict[str, str], topics: dict[str, str]) -> None:
    """Kcat reads keys and counts; with its Avro support it also decodes by the printed schema registry."""
    mark = uuid7()
    sent = produce(env, topics["requests"], mark)
    parts = urlsplit(env["INTERLOCK_SCHEMA_REGISTRY_URL"])
    avro = ["-s", "value=avro", "-r", parts.geturl()] if _kcat_knows_avro() else []
    place = ("-b", env["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"], "-t", topics["results"])
    command = ["kcat", "-C", *place, "-X", "isolation.level=read_committed", "-e", "-q", "-f", "%k\\n", *avro]
    deadline = time.monotonic() + READ_SECONDS_MAX
    keys: list[str] = []
    while len(keys) < REQUESTS and time.monotonic() < deadline:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        keys = [line for line in done.stdout.split() if line.startswith(mark)]
    assert sorted(keys) == sorted(sent)


def _kcat_knows_avro() -> bool:
    return "Avro" in subprocess.run(["kcat", "-V"], check=False, capture_output=True, text=True).stdout
