"""Producers: idempotent, acknowledged by all, and the publisher that brings a whole batch or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from interlock.clock import milliseconds
from interlock.errors import Transient
from interlock.kafka import (
    REQUEST_TIMEOUT_MILLISECONDS,
    TRANSACTION_RETRY_BACKOFF_MILLISECONDS,
    TRANSACTION_TIMEOUT_MILLISECONDS,
    connection,
)
from interlock.kafka.closing import closed
from interlock.kafka.message import Message
from interlock.kafka.transaction_state import settled
from interlock.settings import PlatformSettings

BATCH_BYTES_MAX = 262_144
REQUEST_BYTES_MAX = 16 * 1024 * 1024
OPEN_SECONDS_MAX = 20.0
CLOSE_SECONDS_MAX = 3.0


def make_producer(
    settings: PlatformSettings, transactional_id: str | None = None, **overrides: Any
) -> AIOKafkaProducer:
    """Return an idempotent producer (not started); with a `transactional_id`, a transactional one."""
    arguments: dict[str, Any] = connection(settings) | {
        "acks": "all",
        "enable_idempotence": True,
        "max_batch_size": BATCH_BYTES_MAX,
        "max_request_size": REQUEST_BYTES_MAX,
        "linger_ms": 0,
    }
    if transactional_id is not None:
        arguments |= {
            "transactional_id": transactional_id,
            "transaction_timeout_ms": TRANSACTION_TIMEOUT_MILLISECONDS,
            "retry_backoff_ms": TRANSACTION_RETRY_BACKOFF_MILLISECONDS,
        }
    return AIOKafkaProducer(**(arguments | overrides))


class TransactionalPublisher:
    """Publishes batches of control events, each batch one Kafka transaction, under one transactional id.

    Opening it fences whoever published under the id before, so a process that lost its lock cannot publish late.
    After any doubt the producer is thrown away and never used again.
    """

    def __init__(self, settings: PlatformSettings, transactional_id: str) -> None:
        self._settings = settings
        self._transactional_id = transactional_id
        self._producer: AIOKafkaProducer | None = None

    async def open(self) -> None:
        """Fence the one before and become ready; raises Transient where Kafka is away."""
        await self.close()
        producer = make_producer(self._settings, self._transactional_id)
        try:
            async with asyncio.timeout(OPEN_SECONDS_MAX):
                await producer.start()
        except (KafkaError, OSError, TimeoutError) as error:
            await closed(producer, CLOSE_SECONDS_MAX)
            raise Transient(f"Kafka: {type(error).__name__}: {error}") from error
        except asyncio.CancelledError:
            await closed(producer, CLOSE_SECONDS_MAX)
            raise
        self._producer = producer

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish all of `messages` or none, in order per key; raises Transient after any doubt."""
        producer = self._producer
        if producer is None:
            raise Transient("Kafka: the publisher is not open.")
        try:
            # aiokafka waits without a bound for a coordinator that is away.
            async with asyncio.timeout((REQUEST_TIMEOUT_MILLISECONDS + TRANSACTION_TIMEOUT_MILLISECONDS) / 1000):
                await producer.begin_transaction()
                sent = [
                    await producer.send(
                        message.topic,
                        message.value,
                        message.key,
                        headers=message.headers,
                        timestamp_ms=milliseconds(message.at),
                    )
                    for message in messages
                ]
                await asyncio.gather(*sent)
                await producer.commit_transaction()
                # Nobody may publish again for hours, so nobody would find out that this one cannot be read.
                await settled(producer)
        except (KafkaError, OSError, TimeoutError) as error:
            await self.close()
            raise Transient(f"Kafka: {type(error).__name__}: {error}") from error
        except asyncio.CancelledError:
            await self.close()
            raise

    async def close(self) -> None:
        """Throw the producer away; never raises, never waits longer than CLOSE_SECONDS_MAX."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await closed(producer, CLOSE_SECONDS_MAX)
