"""The intake: observations and labels are folded in memory, and brought to Postgres a chunk at a time, each once.

Kafka's own offsets decide nothing. What is read begins where Postgres says; a chunk commits only if Postgres still
says so; what the stream gives twice is known by its offset, what it leaves out by the requests that are not covered.
After any failure everything in hand is forgotten, and the stream begins again from what Postgres holds.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection
from typing import Any, Final, Protocol

import structlog

from interlock import metrics
from interlock.cause import Cause
from interlock.clock import Clock, milliseconds
from interlock.codec import rows
from interlock.errors import Poison, Reason
from interlock.postgres import journal
from interlock.postgres.pool import Pool
from interlock.schemas.events import LabelRecorded, Observation
from interlock_monitor import model, quality
from interlock_monitor.errors import Reread
from interlock_monitor.model import Fit, Place
from interlock_monitor.quality import Arrived, QualityRules
from interlock_monitor.quality_scores import blocks
from interlock_monitor.references import References
from interlock_monitor.settings import Settings
from interlock_monitor.store import Chunk, Covered, Gap, Step, Store
from interlock_monitor.windows import WindowKey, fold, misfits
from interlock_monitor.windows_reading import Reading, read

log = structlog.get_logger("interlock.monitor")

ACTOR: Final = "monitor"


class Message(Protocol):
    """What is read of a record that the stream gives."""

    topic: str
    partition: int
    offset: int
    timestamp: float
    value: bytes | None
    generation_id: int


class Intake:
    """What the stream has brought and Postgres has not got yet. One loop uses it; a flush may run beside a take."""

    def __init__(self, pool: Pool, store: Store, references: References, settings: Settings, clock: Clock) -> None:
        self._pool = pool
        self._store = store
        self._references = references
        self._settings = settings
        self._clock = clock
        self._rules = QualityRules.of(settings)
        self._flushing = asyncio.Lock()
        self._chunk = Chunk()
        self._generation: int | None = None
        self._reached: dict[Place, int] = {}
        self._covered: dict[Place, int] = {}
        self._durable: dict[Place, int] = {}
        self._doubted: set[tuple[Place, int, int]] = set()
        self.moved = 0
        """Rises with each record taken in and each chunk brought, or the stream stands still."""

    async def begin(self, places: Collection[Place], generation: int) -> dict[Place, int]:
        """Forget what is in hand and return where to read on, for each place. Raises Transient."""
        async with self._flushing:
            self.stop()
            reached, covered = await self._store.begin(places, milliseconds(self._clock.now()))
            self._reached, self._covered, self._durable = reached, covered, dict(reached)
            self._generation = generation
        return dict(reached)

    def stop(self) -> None:
        """Forget what is in hand, and take nothing in until the next `begin`."""
        self._generation, self._chunk = None, Chunk()
        self._reached, self._durable = {}, {}

    def durable(self, place: Place) -> int | None:
        """Return up to where Postgres holds what was read of a place."""
        return self._durable.get(place)

    @property
    def places(self) -> Collection[Place]:
        """The places that are read at present."""
        return self._durable.keys()

    async def take_observation(self, message: Message) -> None:
        """Fold one observation; what is no observation is counted and left out. Raises Transient, Reread among them."""
        place = self._next(message)
        if place is None:
            return
        try:
            observation = _decode(message.value, Observation)
            reading = self._read(observation, place)
        except (Poison, ValueError) as error:
            self._skip(place, message, error)
            return
        await self._references.learn({(group.model, group.version) for group in observation.groups}, wait=True)
        if message.generation_id != self._generation:
            return  # while the profile was waited for, the partition went to somebody else
        self._fold(place, message.offset, reading)
        await self._flush_if_full()

    async def take_label(self, message: Message) -> None:
        """Take one label in; what is no label is counted and left out. Raises Transient."""
        place = self._next(message)
        if place is None:
            return
        try:
            label = _decode(message.value, LabelRecorded)
            if label.endpoint != model.endpoint_of(place.topic):
                raise ValueError(f"it is of {label.endpoint}")
        except (Poison, ValueError) as error:
            self._skip(place, message, error)
            return
        received = round(message.timestamp * 1000)
        self._chunk.labels.append(Arrived(label, *place, message.offset, received))
        self._chunk.rows += 1
        self._move(place, message.offset)
        await self._flush_if_full()

    def _read(self, observation: Observation, place: Place) -> Reading:
        """Raise ValueError for an observation that cannot be counted: its columns must be those of its windows."""
        model.check(observation, *place)
        reading = read(observation, self._settings.window_milliseconds)
        misfit = misfits(reading, self._chunk.states)
        if misfit is not None:
            raise ValueError(f"its columns are not those of {misfit.model} {misfit.version} ({misfit.digest})")
        return reading

    def _next(self, message: Message) -> Place | None:
        """Return where a message lies, or None if it is not to be taken in (again)."""
        place = Place(message.topic, message.partition)
        reached = self._reached.get(place)
        if message.generation_id != self._generation or reached is None:
            return None
        self.moved += 1
        if message.offset < reached:
            metrics.MONITOR_RECORDS.labels(place.topic, "replayed").inc()
            return None
        return place

    def _skip(self, place: Place, message: Message, error: Exception) -> None:
        """Leave bytes out that no retry will mend."""
        reason = error.reason if isinstance(error, Poison) else Reason.MALFORMED
        log.error(
            "record.poisoned", reason=str(reason), detail=str(error), topic=place.topic, partition=place.partition,
            offset=message.offset, todo="the record was skipped; find who wrote it",
        )  # fmt: skip
        metrics.MONITOR_RECORDS.labels(place.topic, "poisoned").inc()
        self._move(place, message.offset)

    def _move(self, place: Place, offset: int, event_time: int | None = None) -> None:
        step = self._chunk.steps.setdefault(place, Step(self._reached[place], 0))
        self._reached[place] = step.next_offset = offset + 1
        if event_time is not None:
            step.event_time = max(event_time, step.event_time or event_time)

    def _fold(self, place: Place, offset: int, reading: Reading) -> None:
        """Count an observation if it joins on, and say so where it does not."""
        observation = reading.observation
        chunk, source = self._chunk, Place(observation.topic, observation.partition)
        before = self._covered.get(source)
        fit = model.fit(before, observation.from_offset, observation.next_offset)
        if fit is Fit.REPLAY:
            log.warning("observation.again", **_where(observation), covered=before)
            metrics.MONITOR_RECORDS.labels(place.topic, "replayed").inc()
            self._move(place, offset)
            return
        if fit is not Fit.NEXT:
            assert before is not None
            self._doubt(source, before, observation, fit)
        covered = chunk.covered.setdefault(
            source, Covered(observation.endpoint, observation.from_offset, observation.from_offset)
        )
        self._covered[source] = covered.next_offset = observation.next_offset
        if fit is not Fit.OVERLAP:
            fold(reading, chunk.states, self._references.known, _open)
            chunk.scored.extend(blocks(reading))
            chunk.rows += observation.rows
            covered.rows += observation.rows
            metrics.MONITOR_ROWS.labels(observation.endpoint).inc(observation.rows)
        metrics.MONITOR_RECORDS.labels(place.topic, "overlapping" if fit is Fit.OVERLAP else "counted").inc()
        self._move(place, offset, reading.event_time_max)

    def _doubt(self, source: Place, covered: int, observation: Observation, fit: Fit) -> None:
        """Go back once, to see whether the stream skipped something; if it is the same then, note the gap and go on."""
        doubt = (source, covered, observation.from_offset)
        if fit is Fit.MISSING and doubt not in self._doubted:
            self._doubted.add(doubt)
            raise Reread(f"{source.topic}/{source.partition}: {covered} to {observation.from_offset} was not seen yet.")
        self._doubted.discard(doubt)
        low, high = sorted((covered, observation.from_offset))
        if fit is Fit.OVERLAP:
            high = observation.next_offset
        log.error(
            "coverage.gap", kind=str(fit), gap_from=low, gap_to=high, **_where(observation),
            todo="these requests are in no window (missing), or not for certain only once (overlap)",
        )  # fmt: skip
        metrics.MONITOR_GAPS.labels(observation.endpoint, str(fit)).inc()
        self._chunk.gaps.append(Gap(source, low, high, fit))

    async def _flush_if_full(self) -> None:
        settings, chunk = self._settings, self._chunk
        if chunk.rows >= settings.stream_rows_max or len(chunk.states) >= settings.stream_windows_max:
            await self.flush()

    async def flush(self) -> None:
        """Bring what is in hand to Postgres in one transaction. Raises Transient: nobody knows then what it holds."""
        async with self._flushing:
            chunk, self._chunk = self._chunk, Chunk()
            if not chunk.steps:
                return
            brought = False
            try:
                with metrics.MONITOR_FLUSH_SECONDS.time():
                    await self._bring(chunk)
                brought = True
            finally:
                if not brought:
                    self.stop()
            self.moved += 1
            self._durable.update({place: step.next_offset for place, step in chunk.steps.items()})

    async def _bring(self, chunk: Chunk) -> None:
        async with journal.unit(self._pool, Cause.start(ACTOR), clock=self._clock) as unit:
            await self._store.apply(unit, chunk, milliseconds(self._clock.now()))
            if chunk.scored:
                await quality.keep_scores(unit.connection, chunk.scored)
            if chunk.labels:
                taken = await quality.take_labels(unit, chunk.labels, self._rules)
                if taken.refused:
                    reasons = Counter(str(reason) for _, reason in taken.refused)
                    first = taken.refused[0][0]
                    log.warning("labels.refused", reasons=dict(reasons), topic=first.topic, first_offset=first.offset)


def _decode(value: bytes | None, kind: type[Any]) -> Any:
    """Return the event in a record's value; raises Poison where it is none of that kind."""
    if value is None:
        raise Poison(Reason.EMPTY, "The record has no value.")
    event = rows.decode(value)
    if not isinstance(event, kind):
        raise Poison(Reason.UNKNOWN_SCHEMA, f"It is a {type(event).__name__}.")
    return event


def _where(observation: Observation) -> dict[str, Any]:
    return {
        "topic": observation.topic,
        "partition": observation.partition,
        "from_offset": observation.from_offset,
        "next_offset": observation.next_offset,
    }


def _open(_key: WindowKey) -> bool:
    """Take every window for open: what is late is decided under the window's lock, when the chunk is brought."""
    return False
