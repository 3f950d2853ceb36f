"""Topics: created where they are missing, compared where they exist; and the wait for a broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, for_code

from interlock.backoff import Backoff
from interlock.errors import Code, Refusal, Transient
from interlock.kafka import connection
from interlock.schemas.topic import Topic
from interlock.settings import PlatformSettings

ADMIN_SECONDS_MAX = 20.0
_EXISTS = 36

TOPIC_DIFFERS = Code(
    "TOPIC_DIFFERS",
    409,
    "A topic exists with another number of partitions",
    "Partitions decide which lane owns a key: delete the topic, or ask for the number it has.",
)
TOPIC_REFUSED = Code(
    "TOPIC_REFUSED",
    409,
    "Kafka refuses to create the topic",
    "Look at the broker's reason and at the topic's settings.",
)

log = structlog.get_logger("interlock.kafka")


async def ensure_topics(settings: PlatformSettings, topics: Sequence[Topic]) -> list[str]:
    """Create what is missing and return the names created.

    Raises Refusal(TOPIC_DIFFERS) where one exists with another number of partitions, Refusal(TOPIC_REFUSED) where
    Kafka says no, Transient where it is away.
    """
    async with _admin(settings) as admin:
        existing = await _partitions(admin)
        for topic in topics:
            _compare(topic, existing)
        missing = [topic for topic in topics if topic.name not in existing]
        created = await _create(admin, missing, settings.kafka_replication_factor) if missing else []
        await _wait_for_leaders(admin, [topic.name for topic in missing])
    return created


async def wait_for_kafka(settings: PlatformSettings, seconds_max: float | None = None) -> None:
    """Return once a broker answers, saying once that it is waited for; raises Transient after `seconds_max`."""
    deadline = None if seconds_max is None else asyncio.get_running_loop().time() + seconds_max
    backoff, said = Backoff(settings.connect_retry_seconds_max), False
    while True:
        try:
            async with _admin(settings):
                break
        except Transient as error:
            if deadline is not None and asyncio.get_running_loop().time() >= deadline:
                raise
            if not said:
                log.warning(
                    "kafka.away", detail=error.detail, todo="waiting; start it or set INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"
                )
                said = True
        await asyncio.sleep(backoff.next_seconds())
    if said:
        log.info("kafka.back")


@asynccontextmanager
async def _admin(settings: PlatformSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """Lend an admin client for the length of a body, at most ADMIN_SECONDS_MAX; its failures are Transient."""
    client = AIOKafkaAdminClient(**connection(settings))
    try:
        async with asyncio.timeout(ADMIN_SECONDS_MAX):
            await client.start()
            yield client
    except (KafkaError, OSError) as error:
        raise Transient(f"Kafka: {type(error).__name__}: {error}") from error
    finally:
        await client.close()


async def _partitions(admin: AIOKafkaAdminClient) -> dict[str, int]:
    """Return every topic's number of partitions."""
    described = await admin.describe_topics()
    return {topic["topic"]: len(topic["partitions"]) for topic in described if not topic["error_code"]}


def _compare(topic: Topic, existing: dict[str, int]) -> None:
    """Raise Refusal(TOPIC_DIFFERS) where the topic exists with another number of partitions."""
    found = existing.get(topic.name, topic.partitions)
    if found != topic.partitions:
        raise Refusal(
            TOPIC_DIFFERS,
            f"{topic.name} has {found} partitions, not {topic.partitions}.",
            topic=topic.name,
            found=found,
            asked=topic.partitions,
        )


async def _create(admin: AIOKafkaAdminClient, topics: Sequence[Topic], replication_factor: int) -> list[str]:
    """Create the topics; one that somebody else made a moment ago is as good as ours."""
    asked = [
        NewTopic(topic.name, topic.partitions, replication_factor, topic_configs=dict(topic.config)) for topic in topics
    ]
    response = await admin.create_topics(asked, timeout_ms=int(ADMIN_SECONDS_MAX * 1000))
    created = []
    for name, code, reason in response.topic_errors:
        if code == 0:
            created.append(name)
        elif code != _EXISTS:
            kind = for_code(code)
            detail = f"{name}: {kind.__name__}: {reason or kind.description}"
            raise Transient(f"Kafka: {detail}") if kind.retriable else Refusal(TOPIC_REFUSED, detail, topic=name)
    return created


async def _wait_for_leaders(admin: AIOKafkaAdminClient, names: Sequence[str]) -> None:
    """Return when every new partition has a leader: a client that asks earlier waits for long."""
    while names:
        described = await admin.describe_topics(list(names))
        if all(
            not topic["error_code"] and all(part["leader"] >= 0 for part in topic["partitions"]) for topic in described
        ):
            return
        await asyncio.sleep(0.05)
