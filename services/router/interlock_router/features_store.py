"""Online features in Valkey: one string per entity, written and read by scripts, and a marker per fed partition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import structlog

from interlock import metrics
from interlock.backoff import Backoff
from interlock.cache import Cache
from interlock.clock import Clock, milliseconds
from interlock.errors import Transient
from interlock.kafka.partition import TopicPartition
from interlock_router.batch import Batch
from interlock_router.features import ENTRY, NOBODY, Joined, joined, nothing_known
from interlock_router.model import Rows
from interlock_router.settings import Settings

ENTITY_BYTES_MAX = 1024
ENTRIES_MAX = 256
"""Values kept of one entity; further names are not taken."""

FAILURES_MAX = 2
"""Look-ups that must fail one after the other before the store is left alone for a while."""

READ_SCRIPT = f"""
local sizes, parts = {{}}, {{}}
for first = 1, #KEYS, 4000 do
  local found = redis.call('MGET', unpack(KEYS, first, math.min(first + 3999, #KEYS)))
  for i = 1, #found do
    local value = found[i]
    if not value or #value % {ENTRY.itemsize} ~= 0 then value = '' end
    sizes[first + i - 1] = struct.pack('<I4', #value)
    parts[first + i - 1] = value
  end
end
return table.concat(sizes) .. table.concat(parts)
"""
"""All entities in one string: a reply of many parts costs the driver five times as much to read."""

WRITE_SCRIPT = f"""
local size, most = {ENTRY.itemsize}, {ENTRIES_MAX}
local found = redis.call('GET', KEYS[1]) or ''
if found ~= ARGV[1] then return {{0, found}} end

local function merged(old, new)
  local fresh, kept = {{}}, {{}}
  for p = 1, #new, size do fresh[new:sub(p, p + 7)] = p end
  for p = 1, #old, size do
    local name = old:sub(p, p + 7)
    local q = fresh[name]
    if q and struct.unpack('<d', new, q + 16) >= struct.unpack('<d', old, p + 16) then
      kept[#kept + 1] = new:sub(q, q + size - 1)
    else
      kept[#kept + 1] = old:sub(p, p + size - 1)
    end
    fresh[name] = nil
  end
  for p = 1, #new, size do
    if fresh[new:sub(p, p + 7)] == p and #kept < most then kept[#kept + 1] = new:sub(p, p + size - 1) end
  end
  return table.concat(kept)
end

local function older_removed(old, at)
  local kept = {{}}
  for p = 1, #old, size do
    if struct.unpack('<d', old, p + 16) > at then kept[#kept + 1] = old:sub(p, p + size - 1) end
  end
  return table.concat(kept)
end

for i = 2, #KEYS do
  local old, new = redis.call('GET', KEYS[i]) or '', ARGV[i + 2]
  if #old % size ~= 0 then old = '' end
  local result = #new == 8 and older_removed(old, struct.unpack('<d', new)) or merged(old, new)
  if result == '' then redis.call('DEL', KEYS[i]) else redis.call('SET', KEYS[i], result, 'PX', ARGV[3]) end
end
redis.call('SET', KEYS[1], ARGV[2])
return {{1, ARGV[2]}}
"""
"""Older never replaces newer, and the marker moves with the values: both or neither, and only from where it stood."""

log = structlog.get_logger("interlock.router")


class Lookup(Protocol):
    """What a batch's online inputs are joined with (`Features`)."""

    async def join(self, endpoint: str, batch: Batch, rows: Rows) -> Joined:
        """Return what is known of the entities of these rows; never raises for a store that is away."""
        ...


@dataclass(frozen=True)
class Update:
    """Entries to be merged into an entity's, or, with `content` of eight bytes, the time up to which all are gone."""

    entity: bytes
    content: bytes


class FeatureStore:
    """The two scripts and the markers. Away or slow: Transient within the bound of the cache it was given."""

    def __init__(self, cache: Cache, ttl_seconds: float) -> None:
        self._cache = cache
        self._ttl_milliseconds = str(max(1, int(ttl_seconds * 1000)))
        self._read = cache.script(READ_SCRIPT)
        self._write = cache.script(WRITE_SCRIPT)

    async def read(self, endpoint: str, entities: Sequence[bytes]) -> bytes:
        """Return the entries of all entities, as `features.joined` reads them."""
        prefix = b"features:%b:" % endpoint.encode()
        answer: Any = await self._read([prefix + entity for entity in entities])
        if not isinstance(answer, bytes):
            raise Transient(f"The cache answers with {type(answer).__name__}.")
        return answer

    async def write(
        self, partition: TopicPartition, marker: str, next_marker: str, endpoint: str, updates: Sequence[Update]
    ) -> str | None:
        """Merge updates and move the partition's marker; return None, or what the marker is where it is another.

        After Transient both may have happened or neither: the marker tells.
        """
        prefix = b"features:%b:" % endpoint.encode()
        keys = [_marker(partition).encode(), *(prefix + each.entity for each in updates)]
        arguments: list[str | bytes] = [marker, next_marker, self._ttl_milliseconds]
        arguments.extend(each.content for each in updates)
        done, found = await self._write(keys, arguments)
        return None if done else str(found.decode())

    async def markers(self, partitions: Sequence[TopicPartition]) -> list[str]:
        """Return the offset behind what is fed of each partition, as text; empty where the store knows nothing."""
        found = await self._cache.get_many([_marker(each) for each in partitions])
        return ["" if each is None else each.decode() for each in found]


def _marker(partition: TopicPartition) -> str:
    return f"features-fed:{partition.topic}:{partition.partition}"


class Features:
    """Joins batches with the store: one look-up each, within a bound, and none for a while after it failed twice."""

    def __init__(self, settings: Settings, store: FeatureStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._bound_seconds = settings.features_seconds_max
        self._failures = 0
        self._rest_until = float("-inf")
        self._backoff = Backoff(settings.features_pause_seconds_max, settings.features_pause_seconds)

    async def join(self, endpoint: str, batch: Batch, rows: Rows) -> Joined:
        """Return what is known of the entities of these rows: nothing while the store is away.

        A request's entity is its key; one without a key, or with one longer than ENTITY_BYTES_MAX, has none.
        """
        places, entities = _entities(batch, rows)
        if not entities:
            return nothing_known(len(batch.records), milliseconds(self._clock.now()))
        answer = await self._answer(endpoint, entities)
        read_at = milliseconds(self._clock.now())
        if answer is not None:
            try:
                return joined(places, len(entities), answer, read_at)
            except ValueError as error:
                log.error("features.confused", endpoint=endpoint, detail=str(error), todo="defaults are used")
        return nothing_known(len(batch.records), read_at)

    async def _answer(self, endpoint: str, entities: Sequence[bytes]) -> bytes | None:
        now = self._clock.monotonic()
        if now < self._rest_until:
            metrics.FEATURES_BATCHES.labels(endpoint, "rested").inc()
            return None
        if self._failures >= FAILURES_MAX:
            self._rest_until = now + self._bound_seconds  # one lane tries; the others need not wait beside it
        try:
            answer = await self._store.read(endpoint, entities)
        except Transient as away:
            self._failed(away)
            metrics.FEATURES_BATCHES.labels(endpoint, "away").inc()
            return None
        if self._failures >= FAILURES_MAX:
            log.info("features.back")
        self._failures, self._rest_until = 0, float("-inf")
        self._backoff.reset()
        metrics.FEATURES_BATCHES.labels(endpoint, "read").inc()
        return answer

    def _failed(self, away: Transient) -> None:
        self._failures += 1
        if self._failures >= FAILURES_MAX:
            self._rest_until = self._clock.monotonic() + self._backoff.next_seconds()
        if self._failures == FAILURES_MAX:
            log.warning("features.away", detail=away.detail, todo="defaults are used, and results say so")


def _entities(batch: Batch, rows: Rows) -> tuple[Rows, list[bytes]]:
    """Return each entity once, and for every request of the batch the place of its own, or NOBODY."""
    places = np.full(len(batch.records), NOBODY, dtype=np.intp)
    place_of: dict[bytes, int] = {}
    found = [NOBODY] * rows.size
    for index, row in enumerate(rows.tolist()):
        key = batch.records[row].key
        if key is not None and len(key) <= ENTITY_BYTES_MAX:
            found[index] = place_of.setdefault(key, len(place_of))
    places[rows] = found
    return places, list(place_of)
