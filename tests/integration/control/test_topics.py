"""Topics on a real Kafka: created where missing, compared where they exist."""

from __future__ import annotations

import asyncio
import time

import pytest

from interlock.errors import Refusal, Transient
from interlock.ids import uuid7
from interlock.kafka import admin
from interlock.settings import PlatformSettings
from tests.integration.control.conftest import topic_of


async def test_topics_are_created_once(settings: PlatformSettings) -> None:
    """The first call creates, the second finds; four at once do no harm."""
    wanted = [topic_of(f"t.{uuid7()}", 2), topic_of(f"t.{uuid7()}", 1)]
    created = await asyncio.gather(*(admin.ensure_topics(settings, wanted) for _ in range(4)))
    assert sorted(name for names in created for name in names) == sorted(topic.name for topic in wanted)
    assert await admin.ensure_topics(settings, wanted) == []


async def test_another_number_of_partitions_is_refused(settings: PlatformSettings) -> None:
    """Partitions decide which lane owns a key: they are never changed in silence."""
    name = f"t.{uuid7()}"
    await admin.ensure_topics(settings, [topic_of(name, 2)])
    with pytest.raises(Refusal, match="has 2 partitions, not 4") as caught:
        await admin.ensure_topics(settings, [topic_of(name, 4)])
    assert caught.value.code is admin.TOPIC_DIFFERS


async def test_a_topic_kafka_will_not_have_is_refused_with_its_reason(settings: PlatformSettings) -> None:
    """A name or setting that Kafka refuses comes back as a refusal, not as a wait."""
    with pytest.raises(Refusal) as caught:
        await admin.ensure_topics(settings, [topic_of("no/slash")])
    assert caught.value.code is admin.TOPIC_REFUSED


async def test_kafka_away_is_transient_within_the_bound(settings: PlatformSettings) -> None:
    """Nobody listens there: the wait ends with one plain sentence."""
    away = settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})
    start = time.monotonic()
    with pytest.raises(Transient, match="Kafka"):
        await admin.wait_for_kafka(away, seconds_max=0.5)
    assert time.monotonic() - start < 10
