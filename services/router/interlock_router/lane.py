"""Some input partitions, exactly once: take a batch, score it, commit answers and offsets together, go on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

import structlog

from interlock import metrics
from interlock.backoff import Backoff, pause
from interlock.clock import Clock, milliseconds, whole_milliseconds
from interlock.errors import Transient
from interlock.kafka.partition import PartitionReader, Taken, TopicPartition, named
from interlock.kafka.prepared import Rows
from interlock.kafka.replay import REPLAY_OF
from interlock.kafka.sends import PartitionSends
from interlock.kafka.transaction import Fenced, Offsets, Outgoing, PartitionTransactions
from interlock.schemas import endpoint_topic
from interlock.schemas.topics import (
    ENDPOINT_BATCHES,
    ENDPOINT_DEAD_LETTERS,
    ENDPOINT_OBSERVATIONS,
    ENDPOINT_RESULTS,
)
from interlock_router.batch import Batch, read
from interlock_router.dead_letters import dead_letters
from interlock_router.errors import RouteMoved
from interlock_router.live import Live
from interlock_router.model import Routes
from interlock_router.observe import Stretch, batches_answered, begin, observations
from interlock_router.pace import Pace
from interlock_router.results import ResultEncoder
from interlock_router.score import Scored, Scorer
from interlock_router.settings import Settings
from interlock_router.shadow import Copies
from interlock_router.trace import BatchTrace, LaneTraces
from interlock_router.turns import Turns
from interlock_router.writer_schemas import WriterSchemas

CLOSE_SECONDS_MAX = 2.0
_PASSED_ON = ("traceparent", REPLAY_OF)

log = structlog.get_logger("interlock.router")

Transactions = PartitionTransactions | PartitionSends


@dataclass(frozen=True)
class Parts:
    """What all lanes of a process share."""

    settings: Settings
    clock: Clock
    routes: Routes
    scorer: Scorer
    schemas: WriterSchemas
    live: Live
    turns: Turns
    known: Callable[[], Awaitable[None]]
    """Raises Transient where the group goes on without this process."""
    newest_routes: Callable[[], Awaitable[None]]
    """Returns once `routes` are at least as new as those of whoever answered until now; raises Transient."""
    committed: Callable[[TopicPartition], Awaitable[int | None]]
    """Reads the group's committed offset: the witness of what the last transaction did."""
    commit: Callable[[Offsets], Awaitable[None]]
    """Moves the group's committed offsets; a lane that answers at least once does so itself."""


@dataclass(frozen=True)
class _Portion:
    """One partition's part of a batch, of which results and all else are written."""

    stretch: Stretch
    batch: Batch
    scored: Scored


@dataclass(frozen=True)
class _Work:
    """A scored batch on its way to its transaction."""

    stretches: Sequence[Stretch]
    """Of each partition that it has requests of, in the order of its shares."""
    batch: Batch
    scored: Scored
    scored_at: datetime
    trace: BatchTrace
    behind: bool
    """It was taken from a backlog."""

    @property
    def offsets(self) -> dict[TopicPartition, int]:
        """The next offset of each partition."""
        return {each.source: each.next_offset for each in self.stretches}

    @property
    def portions(self) -> Iterator[_Portion]:
        """The batch, partition by partition."""
        for share, stretch in zip(self.batch.shares, self.stretches, strict=True):
            yield _Portion(stretch, self.batch.part(share), self.scored.part(share))


class Lane:
    """The loop of some neighbouring partitions, which are answered in common transactions.

    It lives through any number of producers; after any doubt it begins a new life.
    """

    def __init__(self, sources: Sequence[TopicPartition], endpoint: str, parts: Parts) -> None:
        self.sources = tuple(sources)
        self._endpoint = endpoint
        self._parts = parts
        self._settings = parts.settings
        self._results = endpoint_topic(ENDPOINT_RESULTS, endpoint)
        self._dead_letters = endpoint_topic(ENDPOINT_DEAD_LETTERS, endpoint)
        self._observations = endpoint_topic(ENDPOINT_OBSERVATIONS, endpoint)
        self._batches = endpoint_topic(ENDPOINT_BATCHES, endpoint)
        self._traces = LaneTraces(endpoint, parts.settings.group, parts.settings.trace_links_max)
        self._pace = Pace(
            parts.settings.batch_rows_max,
            parts.settings.batch_seconds_aim,
            parts.settings.batch_interval_seconds,
            parts.settings.batch_interval_seconds_max,
        )
        self._copies = Copies(parts.settings, parts.scorer, parts.clock, self.sources, endpoint)
        self._behind = False
        self._stopping = asyncio.Event()
        self._log = log.bind(lane=named(self.sources))

    def stop(self) -> None:
        """Take no more; what is taken is still answered."""
        self._stopping.set()

    async def run(self) -> None:
        """Work until stopped. Kafka, Ray or the registry away: wait and go on where the commits stand."""
        backoff = Backoff(self._settings.lane_retry_seconds_max, self._settings.lane_retry_seconds)
        while not self._stopping.is_set():
            born = self._parts.clock.monotonic()
            try:
                await self._life()
            except Fenced as fenced:
                # Either the partitions are taken away within a session, or whoever took it over is gone by then.
                self._log.warning("lane.fenced", detail=fenced.detail)
                metrics.LANE_RESTARTS.labels(self._endpoint, "fenced").inc()
                await self._rest(self._settings.kafka_session_seconds)
            except Transient as error:
                self._log.warning("lane.restarts", detail=f"{type(error).__name__}: {error}")
                metrics.LANE_RESTARTS.labels(self._endpoint, type(error).__name__).inc()
                if self._parts.clock.monotonic() - born > self._settings.lane_retry_seconds_max:
                    backoff.reset()
                await self._rest(backoff.next_seconds())

    async def _life(self) -> None:
        """One producer's life: fence, catch up with the routes, read the witnesses, work until something is in doubt.

        Whoever the group has given up, and wakes, must not fence the one that took over. Whoever took over must not
        answer by an older route than the one that was fenced did.
        """
        await self._parts.known()
        transactions = self._transactions()
        reader = PartitionReader(self._settings, self.sources, self._settings.fetch_bytes_max)
        try:
            await transactions.start((self._results, self._dead_letters, self._observations, self._batches))
            await self._parts.newest_routes()
            offsets = {source: await self._parts.committed(source) for source in self.sources}
            await reader.start(offsets, self._settings.transaction_seconds_max)
            self._log.info("lane.started", offsets=list(offsets.values()))
            await self._work(transactions, reader, offsets)
        finally:
            await transactions.discard(CLOSE_SECONDS_MAX)
            await reader.close()

    def _transactions(self) -> Transactions:
        """Return what commits answers and offsets: all or none, or, where that is asked for, one after the other."""
        settings, seconds_max = self._settings, self._settings.transaction_seconds_max
        if settings.guarantee == "at_least_once":
            return PartitionSends(
                settings, self.sources, seconds_max, settings.result_batch_bytes_max, self._parts.commit
            )
        return PartitionTransactions(
            settings, settings.group, self.sources, seconds_max, settings.result_batch_bytes_max
        )

    async def _work(
        self, transactions: Transactions, reader: PartitionReader, offsets: dict[TopicPartition, int | None]
    ) -> None:
        """Take and score in one task, commit in another; the slots bound how far the first may run ahead.

        A third copies to shadows what is committed, for as long as there is something to commit.
        """
        slots = asyncio.Semaphore(self._settings.batches_in_flight_max)
        scored: asyncio.Queue[_Work | None] = asyncio.Queue(self._settings.batches_in_flight_max + 1)
        idle = asyncio.Event()
        idle.set()
        taking = asyncio.create_task(self._take_all(reader, offsets, slots, idle, scored))
        committing = asyncio.create_task(self._commit_all(transactions, slots, idle, scored))
        copying = asyncio.create_task(self._copies.run())
        committing.add_done_callback(lambda _: copying.cancel())
        tasks = [taking, committing, copying]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, asyncio.CancelledError):
                raise outcome

    async def _take_all(
        self,
        reader: PartitionReader,
        behind_last: dict[TopicPartition, int | None],
        slots: asyncio.Semaphore,
        idle: asyncio.Event,
        scored: asyncio.Queue[_Work | None],
    ) -> None:
        """Take what there is and score it.

        Under backlog one batch is scored while another commits. Without, the next is taken when the last is committed:
        taken earlier it would only be smaller, and whatever came after it would wait for two commits. Every batch
        begins behind the last one, the first where the commits stand: so its observation leaves no gap.
        """
        taken_at, self._behind = float("-inf"), False
        while not self._stopping.is_set():
            await slots.acquire()
            if not self._behind:
                await idle.wait()
                await self._turn(taken_at)
            versions = len(self._parts.routes.of(self._endpoint).arms)
            taken = await reader.take(self._settings.poll_seconds, self._pace.rows(versions))
            if not taken:
                slots.release()
                continue
            taken_at, taken_moment = self._parts.clock.monotonic(), self._parts.clock.now()
            self._behind = sum(each.lag for each in taken) > sum(len(each.records) for each in taken)
            self._note_lags(taken)
            for index, piece in enumerate(_pieces(taken, self._settings.batch_bytes_max)):
                if index:
                    await slots.acquire()
                stretches = [_stretch(each, behind_last[each.source], taken_moment) for each in piece]
                began = self._parts.clock.monotonic()
                work = await self._score(piece, stretches)
                rows = sum(len(each.records) for each in piece)
                self._pace.scored(rows, self._parts.clock.monotonic() - began)
                behind_last.update((each.source, each.next_offset) for each in piece)
                if work is None:
                    break  # stopped while a server was away: this batch was never begun
                idle.clear()
                await scored.put(work)
        await scored.put(None)

    async def _turn(self, taken_at: float) -> None:
        """Wait until it is time to take again, `taken_at` being when the lane took last."""
        clock, interval_seconds = self._parts.clock, self._pace.interval_seconds
        await self._rest(taken_at + interval_seconds - clock.monotonic())
        await self._rest(self._parts.turns.next_seconds(self.sources, clock.monotonic(), interval_seconds))

    async def _score(self, taken: Sequence[Taken], stretches: Sequence[Stretch]) -> _Work | None:
        """Read and score a batch by the route as it stands; None when stopped while waiting for a server."""
        trace = self._traces.begin(taken, stretches[0].taken_at)
        with trace.stage("read"):
            batch = await self._read(taken)
        while batch is not None:
            table = self._parts.routes.of(self._endpoint)
            try:
                with trace.stage("score"):
                    scored = await self._parts.scorer.score(batch, table, partial(self._has_moved, table))
            except RouteMoved:
                if self._stopping.is_set():
                    return None
                continue
            scored_at = whole_milliseconds(self._parts.clock.now())
            return _Work(stretches, batch, scored, scored_at, trace, self._behind)
        return None

    async def _read(self, taken: Sequence[Taken]) -> Batch | None:
        """Read a batch, waiting as long as the schema registry is away."""
        backoff = Backoff(self._settings.lane_retry_seconds_max, self._settings.lane_retry_seconds)
        while not self._stopping.is_set():
            try:
                return await read(taken, self._parts.schemas.plan, self._settings.request_bytes_max)
            except Transient as away:
                self._log.warning("lane.waits", detail=away.detail)
                await self._rest(backoff.next_seconds())
        return None

    async def _commit_all(
        self,
        transactions: Transactions,
        slots: asyncio.Semaphore,
        idle: asyncio.Event,
        scored: asyncio.Queue[_Work | None],
    ) -> None:
        while (work := await self._next(transactions, scored)) is not None:
            with work.trace.committing(work.scored):
                await transactions.commit(partial(self._encoded, work), work.offsets, milliseconds(work.scored_at))
            slots.release()
            if scored.empty():
                idle.set()
                self._pace.answered((self._parts.clock.now() - work.stretches[0].taken_at).total_seconds())
            self._note(work)
            self._copies.offer(work.batch, work.scored.table, spare=not (work.behind or self._behind))

    async def _next(self, transactions: Transactions, scored: asyncio.Queue[_Work | None]) -> _Work | None:
        """Return the next batch to commit; where none comes soon, see first that the last one is there to be read."""
        try:
            return await asyncio.wait_for(scored.get(), self._settings.poll_seconds)
        except TimeoutError:
            await transactions.confirm()
        return await scored.get()

    def _encoded(self, work: _Work) -> list[Outgoing]:
        """Encode a batch, partition by partition."""
        at, trace = work.scored_at, work.trace.traceparent
        return [each for portion in work.portions for each in self._outgoing(portion, at, trace)]

    def _outgoing(self, portion: _Portion, at: datetime, trace: str | None) -> list[Outgoing]:
        """Encode its results, what is told of it to those who watch, and its dead letters if it has any."""
        stretch, batch, scored = portion.stretch, portion.batch, portion.scored
        topic, partition = stretch.source
        encoder = ResultEncoder(scored.table, topic, partition, at)
        values = encoder.encode(batch, scored.answers, scored.rejected)
        headers = {row: _traces(record) for row, record in enumerate(batch.records) if record.headers}
        columns_bytes_max = self._settings.observation_columns_bytes_max
        seen = observations(stretch, batch, scored, at, columns_bytes_max, trace)
        outgoing = [
            Outgoing(self._results, partition, Rows(batch.record_keys, values, headers)),
            Outgoing(self._observations, partition, seen),
            Outgoing(self._batches, partition, batches_answered(stretch, batch, scored, values, at, trace)),
        ]
        if scored.rejected:
            letters = dead_letters(batch, scored.table, topic, partition, scored.rejected, at)
            outgoing.append(Outgoing(self._dead_letters, partition, letters))
        return outgoing

    def _note(self, work: _Work) -> None:
        """Count a committed batch."""
        versions: dict[int, int] = {}
        for answer in work.scored.answers:
            versions[answer.arm.version] = versions.get(answer.arm.version, 0) + int(answer.rows.size)
        for version, count in versions.items():
            metrics.LANE_ROWS.labels(self._endpoint, str(version), "answered").inc(count)
        for each in work.scored.rejected:
            metrics.LANE_ROWS.labels(self._endpoint, str(each.arm.version if each.arm else 0), "rejected").inc()
            metrics.DEAD_LETTERS.labels(self._endpoint, each.rejection.reason.value).inc()
        metrics.LANE_BATCH_ROWS.labels(self._endpoint).observe(len(work.batch.records))
        taken = milliseconds(self._parts.clock.now()) - work.batch.timestamps
        self._parts.live.note(self._endpoint, versions, len(work.scored.rejected), taken)

    def _note_lags(self, taken: Sequence[Taken]) -> None:
        for each in taken:
            metrics.LANE_LAG.labels(self._endpoint, str(each.source.partition)).set(each.lag)
            self._parts.live.note_lag(self._endpoint, each.source.partition, each.lag)

    def _has_moved(self, table: Any) -> bool:
        return self._stopping.is_set() or self._parts.routes.of(self._endpoint) is not table

    async def _rest(self, seconds: float) -> None:
        """Pause, but no longer than until the lane is stopped."""
        if seconds > 0:
            await pause(self._stopping, seconds)


def _pieces(taken: Sequence[Taken], bytes_max: int) -> Iterator[Sequence[Taken]]:
    """Cut what one poll brought into pieces of at most `bytes_max`; a larger record is a piece by itself."""
    piece: list[Taken] = []
    size = 0
    for each in taken:
        records, start = each.records, 0
        for index, record in enumerate(records):
            length = len(record.value) if record.value is not None else 0
            if size + length > bytes_max and (piece or index > start):
                if index > start:
                    behind = records[index - 1].offset + 1
                    piece.append(replace(each, records=records[start:index], next_offset=behind))
                yield piece
                piece, start, size = [], index, 0
            size += length
        if records:
            piece.append(replace(each, records=records[start:]))
    yield piece


def _stretch(taken: Taken, behind_last: int | None, taken_at: datetime) -> Stretch:
    """Return where records lie: from behind those before them."""
    return Stretch(taken.source, begin(behind_last, taken.records[0].offset), taken.next_offset, taken_at)


def _traces(record: Any) -> list[tuple[str, bytes]]:
    """Return the headers that a result takes over from its request: the caller's trace, and what it is a replay of."""
    return [(name, value) for name, value in record.headers if name in _PASSED_ON and value]
