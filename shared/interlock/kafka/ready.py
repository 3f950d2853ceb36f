"""Proves that a Kafka works: one transactional produce, read back by a read_committed consumer."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError

from interlock.errors import Transient

TOPIC = "interlock.ready"
REQUEST_MILLISECONDS_MAX = 5_000
WHOLE_SECONDS_MAX = 20.0


async def produce_and_consume(bootstrap_servers: str) -> None:
    """Commit one record and read it back; raises Transient while the broker cannot do that."""
    quiet = logging.getLogger("aiokafka")
    before = quiet.level
    quiet.setLevel(logging.CRITICAL)  # connection refused is what one waits for here
    try:
        await asyncio.wait_for(_round_trip(bootstrap_servers), WHOLE_SECONDS_MAX)
    except (KafkaError, OSError, TimeoutError) as error:
        raise Transient(f"Kafka at {bootstrap_servers} is not ready: {type(error).__name__}.", 0.1) from error
    finally:
        quiet.setLevel(before)


async def _round_trip(bootstrap_servers: str) -> None:
    await _create_topic(bootstrap_servers)
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers,
        transactional_id="interlock.ready",
        transaction_timeout_ms=15_000,
        request_timeout_ms=REQUEST_MILLISECONDS_MAX,
        retry_backoff_ms=20,
    )
    await producer.start()
    try:
        async with producer.transaction():
            sent = await producer.send_and_wait(TOPIC, b"ready", partition=0)
    finally:
        await producer.stop()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        isolation_level="read_committed",
        enable_auto_commit=False,
        group_id="interlock.ready",
        fetch_max_wait_ms=50,
        request_timeout_ms=REQUEST_MILLISECONDS_MAX,
    )
    await consumer.start()
    try:
        place = TopicPartition(TOPIC, 0)
        consumer.assign([place])
        consumer.seek(place, sent.offset)
        record = await consumer.getone(place)
        await consumer.commit({place: record.offset + 1})
    finally:
        await consumer.stop()


async def _create_topic(bootstrap_servers: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, request_timeout_ms=REQUEST_MILLISECONDS_MAX)
    await admin.start()
    try:
        if TOPIC not in await admin.list_topics():
            topic = NewTopic(TOPIC, 1, 1, topic_configs={"retention.ms": "3600000"})
            with contextlib.suppress(TopicAlreadyExistsError):
                await admin.create_topics([topic])
    finally:
        await admin.close()
