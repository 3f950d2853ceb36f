"""A rig whose version has online inputs, a router with its feeder, and the arithmetic that checks the scores."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import numpy as np
import redis
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from interlock.cache import Cache
from interlock.clock import SystemClock
from interlock.codec.contract import request_schema
from interlock.codec.rows import encode
from interlock.ids import uuid7
from interlock.schemas.events import FeatureUpdated
from interlock.signature import Input, Matrix, Online, Output, Signature
from interlock_router.features_feed import Feeder
from interlock_router.features_store import Features, FeatureStore
from interlock_router.settings import Settings
from tests.integration.router.rig import REQUEST_SCHEMA_ID, Rig, RunningRouter, schema_registry

DEFAULTS = {"spent": 5.0, "visits": 2.0, "home": 1.0, "mood": None}
SIGNATURE = Signature(
    inputs=(
        Input("spent", "double", online=Online(3600.0, 5.0)),
        Input("f0", "double"),
        Input("visits", "long", online=Online(600.0, 2.0)),
        Input("home", "boolean", online=Online(3600.0, 1.0)),
        Input("mood", "double", nullable=True, online=Online(3600.0)),
    ),
    outputs=(Output("score"),),
)
_WEIGHTS = {"spent": 3.0, "visits": 1e3, "home": 1e6, "mood": 1e9}


def score_of(f0: float, online: dict[str, float | None]) -> float:
    """Return what the version answers, from the request's own feature and the values that a result names."""
    return f0 + sum(
        _WEIGHTS[name] * (-1.0 if value is None or math.isnan(value) else value) for name, value in online.items()
    )


async def answer(matrix: Matrix) -> Matrix:
    """Answer as `score_of` says."""
    names = [each.name for each in SIGNATURE.inputs]
    rows = [dict(zip(names, row, strict=True)) for row in matrix.tolist()]
    return np.array([[score_of(row.pop("f0"), row)] for row in rows])


def online_of(row: dict[str, Any]) -> dict[str, float | None]:
    """Return the values used that a result names."""
    return {name: row[f"online_{name}"] for name in DEFAULTS}


def missing_of(row: dict[str, Any]) -> set[str]:
    """Return the names that a result's mask marks."""
    return {name for bit, name in enumerate(DEFAULTS) if row["features_missing"] >> bit & 1}


def check(row: dict[str, Any]) -> None:
    """Check that a result is consistent with itself: the score, the defaults where the mask is set, the age."""
    online, missing = online_of(row), missing_of(row)
    assert row["score"] == score_of(float(row["request_id"][1:]), online)
    assert all(online[name] == DEFAULTS[name] for name in missing)
    assert (row["features_age_milliseconds"] is None) == (missing == set(DEFAULTS))


@contextmanager
def feature_rig(kafka: str, valkey: str, partitions: int = 2) -> Iterator[FeatureRig]:
    """Make a rig with a schema registry of its own."""
    with schema_registry({REQUEST_SCHEMA_ID: request_schema("any", SIGNATURE)}) as url:
        name = uuid7()[-12:]
        settings = Settings(
            kafka_bootstrap_servers=kafka,
            schema_registry_url=url,
            redis_url=valkey,
            group="router-" + name,
            features_group="features-" + name,
            features_check_seconds=0.2,
        )
        yield FeatureRig(settings, partitions)


class FeatureRig(Rig):
    """The rig, with features to feed."""

    def __init__(self, settings: Settings, partitions: int) -> None:
        super().__init__(settings, partitions, SIGNATURE)
        self.valkey = redis.Redis.from_url(settings.redis_url.get_secret_value())
        self._features = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers, "linger.ms": 2})
        self.serving.add("m", 1, answer)
        self.route((1, 10_000))
        self.asked = 0

    def value(self, number: int, **features: float | None) -> bytes:
        """Return a framed request; its only own feature is its number."""
        row = {"f0": float(number), "request_id": f"r{number}", "requested_at": 1_700_000_000_000 + number}
        return self.write(row | features)

    def feed(self, entity: str, ago_seconds: float = 0.0, **values: float | None) -> datetime:
        """Write an update that was true so long ago; `flush_features` waits until Kafka has it."""
        at = datetime.now(UTC) - timedelta(seconds=ago_seconds)
        event = FeatureUpdated(endpoint=self.endpoint, entity=entity, values=values, at=at)
        self.feed_bytes(entity, encode(event))
        return at

    def feed_bytes(self, entity: str, value: bytes | None) -> None:
        """Write whatever to the topic of features."""
        self._features.produce(self.topic("features"), key=entity, value=value)
        self._features.poll(0)

    def flush_features(self) -> None:
        """Wait until Kafka has all updates."""
        assert self._features.flush(30) == 0

    async def fed(self, seconds_max: float = 20.0) -> None:
        """Wait until all that Kafka has is in the store, as the markers say."""
        self.flush_features()
        async with asyncio.timeout(seconds_max):
            while (ends := self._ends()) is None:
                await asyncio.sleep(0.02)
            while not all(self._marker(partition) >= end for partition, end in ends.items()):
                await asyncio.sleep(0.02)

    def _ends(self) -> dict[int, int] | None:
        """Return where each partition of features ends; None where a new one, without records, has no leader yet."""
        consumer = Consumer({"bootstrap.servers": self.settings.kafka_bootstrap_servers, "group.id": uuid7()})
        places = [TopicPartition(self.topic("features"), partition) for partition in range(self.partitions)]
        try:
            return {place.partition: consumer.get_watermark_offsets(place, 10)[1] for place in places}
        except KafkaException as error:
            if error.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION:
                raise
            return None
        finally:
            consumer.close()

    def _marker(self, partition: int) -> int:
        found: Any = self.valkey.get(f"features-fed:{self.topic('features')}:{partition}")
        return int(found or 0)


class FeatureRouter:
    """Lanes and feeder in this process, put together as `app.py` does."""

    def __init__(self, rig: FeatureRig, **changes: Any) -> None:
        settings, clock = rig.settings.model_copy(update=changes), SystemClock()
        url = settings.redis_url.get_secret_value()
        self._caches = [Cache(url, settings.features_seconds_max, settings.features_connections_max), Cache(url)]
        quick, patient = (FeatureStore(each, settings.features_ttl_seconds) for each in self._caches)
        self.features = Features(settings, quick, clock)
        self.router = RunningRouter(rig, self.features, **changes)
        self._feeder = Feeder(settings, patient, rig.routes, clock, self.router.stopping)
        self._settings = settings
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Start."""
        self._feeding = asyncio.create_task(self._feeder.run())
        await self._exits.enter_async_context(self.router)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Drain, and raise what lanes and feeder raised."""
        await self._exits.aclose()
        await asyncio.wait_for(self._feeding, 20)
        for each in self._caches:
            await each.close()
