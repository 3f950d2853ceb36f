"""Feeding the store from `{endpoint}.features`: a marker in the store says how far, so that a flush is noticed."""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import Sequence
from typing import Any

import structlog

from interlock import metrics
from interlock.backoff import Backoff, pause
from interlock.clock import Clock, milliseconds
from interlock.codec import rows
from interlock.errors import Poison, Reason, Transient
from interlock.kafka.partition import Taken, TopicPartition
from interlock.kafka.positions import PositionedConsumer
from interlock.schemas import endpoint_topic
from interlock.schemas.events import FeatureUpdated
from interlock.schemas.topics import ENDPOINT_FEATURES
from interlock_router.features import packed
from interlock_router.features_store import ENTITY_BYTES_MAX, ENTRIES_MAX, FeatureStore, Update
from interlock_router.model import Routes
from interlock_router.settings import Settings

ASK_SECONDS_MAX = 5.0
_SUFFIX = ENDPOINT_FEATURES.removeprefix("{endpoint}")

log = structlog.get_logger("interlock.router")


class Feeder:
    """One of the group that feeds: takes records, merges them into the store, and moves the store's marker with them.

    The marker is the position: where the store was flushed it is gone, where an older copy of the store came back it
    is older, and where another member fed meanwhile it is elsewhere. In each case the feeder goes to where it stands.
    """

    def __init__(
        self, settings: Settings, store: FeatureStore, routes: Routes, clock: Clock, stopping: asyncio.Event
    ) -> None:
        self._settings = settings
        self._store = store
        self._routes = routes
        self._clock = clock
        self._stopping = stopping
        self._markers: dict[TopicPartition, str] = {}
        self._reached: dict[TopicPartition, int] = {}
        self._backoff = Backoff(settings.features_pause_seconds_max, settings.features_pause_seconds)
        self._away = False

    async def run(self) -> None:
        """Feed until told to stop; raises Transient when Kafka goes away, and may then be run again."""
        while not self._routes.endpoints:
            if await self._stopped(self._settings.poll_seconds):
                return
        consumer = PositionedConsumer(self._settings, self._settings.features_group)
        await consumer.start()
        try:
            await self._feed(consumer)
        finally:
            self._markers.clear()
            await consumer.close()

    async def _feed(self, consumer: PositionedConsumer) -> None:
        subscribed: frozenset[str] = frozenset()
        looked_at = float("-inf")
        while not self._stopping.is_set():
            if self._routes.endpoints != subscribed:
                subscribed = self._routes.endpoints
                consumer.subscribe(endpoint_topic(ENDPOINT_FEATURES, each) for each in subscribed)
            try:
                await self._place(consumer)
                if self._clock.monotonic() - looked_at >= self._settings.features_check_seconds:
                    looked_at = self._clock.monotonic()
                    await self._check(consumer)
                taken = await consumer.take(self._settings.poll_seconds, self._settings.features_feed_rows_max)
                for partition, each in taken.items():
                    await self._take(consumer, partition, each)
            except _StoreAway as away:
                await self._wait(consumer, away)
            else:
                self._back()

    async def _place(self, consumer: PositionedConsumer) -> None:
        """Read each new partition from where the store's marker is; from the beginning where there is none."""
        partitions = consumer.unplaced
        if not partitions:
            return
        markers = await self._asking(self._store.markers(partitions))
        ends = await consumer.ends(partitions, ASK_SECONDS_MAX)
        for partition, marker in zip(partitions, markers, strict=True):
            # A marker behind the end tells of another topic of this name.
            offset = int(marker) if marker.isdecimal() and int(marker) <= ends[partition] else 0
            before = self._reached.get(partition, 0)
            if offset < before:
                metrics.FEATURES_REFILLS.labels(endpoint_of(partition)).inc()
                log.warning("features.refill", topic=partition.topic, partition=partition.partition, offset=offset)
            self._markers[partition], self._reached[partition] = marker, offset
            self._show(partition, ends[partition] - offset)
            consumer.place(partition, offset)

    async def _check(self, consumer: PositionedConsumer) -> None:
        """See that the store's markers are where this feeder left them; a flushed store has none."""
        placed = sorted(consumer.placed)
        if not placed:
            return
        markers = await self._asking(self._store.markers(placed))
        for partition, marker in zip(placed, markers, strict=True):
            if marker != self._markers.get(partition):
                consumer.displace(partition)
        await consumer.show({each: self._reached[each] for each in consumer.placed}, ASK_SECONDS_MAX)

    async def _take(self, consumer: PositionedConsumer, partition: TopicPartition, taken: Taken) -> None:
        endpoint = endpoint_of(partition)
        updates = self._updates(endpoint, partition, taken.records)
        moved = str(taken.next_offset)
        marker = self._markers[partition]
        try:
            found = await self._asking(self._store.write(partition, marker, moved, endpoint, updates))
        except _StoreAway:
            consumer.displace(partition)
            raise
        if found is not None:
            consumer.displace(partition)
            return
        self._markers[partition], self._reached[partition] = moved, taken.next_offset
        metrics.FEATURES_FED.labels(endpoint, "stored").inc(len(updates))
        self._show(partition, taken.lag)

    def _updates(self, endpoint: str, partition: TopicPartition, records: Sequence[Any]) -> list[Update]:
        """Return what the records say; one that says nothing sensible is left out, counted and told."""
        ahead_max = milliseconds(self._clock.now()) + int(self._settings.features_ahead_seconds_max * 1000)
        updates = []
        for record in records:
            try:
                updates.append(update(endpoint, record, ahead_max))
            except Poison as poison:
                metrics.FEATURES_FED.labels(endpoint, "refused").inc()
                log.warning(
                    "features.refused",
                    reason=str(poison.reason),
                    detail=poison.detail,
                    topic=partition.topic,
                    partition=partition.partition,
                    offset=record.offset,
                )
        return updates

    async def _asking(self, call: Any) -> Any:
        """Await the store; what is the matter with it is told apart from what is the matter with Kafka."""
        try:
            return await call
        except Transient as error:
            raise _StoreAway(error.detail) from error

    async def _wait(self, consumer: PositionedConsumer, away: _StoreAway) -> None:
        if not self._away:
            log.warning("features.feed.waits", detail=away.detail)
        self._away = True
        for partition in consumer.placed:
            consumer.displace(partition)
        await self._stopped(self._backoff.next_seconds())
        await consumer.take(0.0, 1)  # a member that asks for nothing would be put out of its group

    def _back(self) -> None:
        if self._away:
            log.info("features.feed.goes_on")
        self._away = False
        self._backoff.reset()

    def _show(self, partition: TopicPartition, lag: int) -> None:
        metrics.FEATURES_LAG.labels(endpoint_of(partition), str(partition.partition)).set(max(0, lag))

    async def _stopped(self, seconds: float) -> bool:
        await pause(self._stopping, seconds)
        return self._stopping.is_set()


class _StoreAway(Transient):
    """The store does not answer; Kafka does."""


def update(endpoint: str, record: Any, at_max: int) -> Update:
    """Return what one record says; raises Poison where it says nothing sensible.

    A tombstone takes away whatever of its entity is not newer than the tombstone.
    """
    if record.value is None:
        return Update(_entity(record.key or b""), struct.pack("<d", record.timestamp))
    event = rows.decode(record.value)
    if not isinstance(event, FeatureUpdated):
        raise Poison(Reason.UNKNOWN_SCHEMA, f"{type(event).__name__} is not FeatureUpdated.")
    if event.endpoint != endpoint:
        raise Poison(Reason.MALFORMED, f"It is meant for the endpoint {event.endpoint[:80]}.")
    if not 0 < len(event.values) <= ENTRIES_MAX:
        raise Poison(Reason.MALFORMED, f"{len(event.values)} values; from 1 to {ENTRIES_MAX} are taken.")
    infinite = [name for name, value in event.values.items() if value is not None and not math.isfinite(value)]
    if infinite:
        raise Poison(Reason.MALFORMED, f"{infinite[0][:80]} is no finite number; null takes a value away.")
    at = milliseconds(event.at)
    if at > at_max:
        raise Poison(Reason.MALFORMED, f"{event.at.isoformat()} is further ahead than features_ahead_seconds_max.")
    return Update(_entity(event.entity.encode()), packed(event.values, at))


def _entity(entity: bytes) -> bytes:
    if not 0 < len(entity) <= ENTITY_BYTES_MAX:
        raise Poison(Reason.MALFORMED, f"An entity of {len(entity)} bytes; from 1 to {ENTITY_BYTES_MAX} are taken.")
    return entity


def endpoint_of(partition: TopicPartition) -> str:
    """Return the endpoint whose features a partition holds."""
    topic: str = partition.topic
    return topic.removesuffix(_SUFFIX)
