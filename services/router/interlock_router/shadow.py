"""Shadows: versions that a route names without a share. They are asked what the others were, and answer nobody.

A batch is copied to them when its answers have committed, so no answer waits for a shadow; and at most once, so what
becomes of a copy is nobody's trouble. Where the lane has a backlog, or its last copy is still at work, the copy is
shed: overload takes from the shadows first, and from those who answer nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

import structlog

from interlock import metrics
from interlock.clock import Clock, milliseconds, whole_milliseconds
from interlock.errors import InterlockError
from interlock.kafka.partition import TopicPartition
from interlock.kafka.prepared import Rows
from interlock.kafka.sends import Sends
from interlock.kafka.transaction import Outgoing
from interlock.schemas import endpoint_topic
from interlock.schemas.topics import ENDPOINT_SHADOW
from interlock_router.batch import Batch, Share
from interlock_router.model import Arm, RouteTable
from interlock_router.results import Answer, ResultEncoder
from interlock_router.score import Scorer
from interlock_router.settings import Settings

log = structlog.get_logger("interlock.router")


class Copies:
    """The copies of one lane's batches, one at work at a time."""

    def __init__(
        self, settings: Settings, scorer: Scorer, clock: Clock, sources: Sequence[TopicPartition], endpoint: str
    ) -> None:
        self._settings = settings
        self._scorer = scorer
        self._clock = clock
        self._sources = sources
        self._endpoint = endpoint
        self._topic = endpoint_topic(ENDPOINT_SHADOW, endpoint)
        self._at_work: tuple[Batch, RouteTable] | None = None
        self._offered = asyncio.Event()
        self._sends: Sends | None = None
        self._failing: set[str] = set()

    def offer(self, batch: Batch, table: RouteTable, *, spare: bool) -> None:
        """Have a batch that is answered copied to the route's shadows if there is time to `spare`; returns at once."""
        if not table.shadows:
            return
        if spare and self._at_work is None:
            self._at_work = batch, table
            self._offered.set()
            return
        for arm in table.shadows:
            self._count(arm, "shed", len(batch.records))

    async def run(self) -> None:
        """Copy what is offered until cancelled; the copy at work is then left."""
        try:
            while await self._offered.wait():
                self._offered.clear()
                if self._at_work is not None:
                    await self._copy(*self._at_work)
                self._at_work = None
        finally:
            self._at_work = None
            await self._disconnect()

    async def _copy(self, batch: Batch, table: RouteTable) -> None:
        """Ask each shadow; whatever happens to one of them is told, and counted, and no more."""
        for arm in table.shadows:
            answered = 0
            try:
                answer = await self._scorer.shadow(batch, table, arm)
                if answer is not None:
                    await self._write(batch, table, answer)
                    answered = answer.rows.size
            except InterlockError as error:
                if arm.application not in self._failing:
                    log.warning("shadow.failed", application=arm.application, detail=error.detail)
                self._failing.add(arm.application)
            else:
                self._failing.discard(arm.application)
            self._count(arm, "answered", answered)
            self._count(arm, "failed", len(batch.records) - answered)

    async def _write(self, batch: Batch, table: RouteTable, answer: Answer) -> None:
        """Write what a shadow answered, in the form of results."""
        at = whole_milliseconds(self._clock.now())
        parts = [(share, answer.part(share.begin, share.end)) for share in batch.shares]
        outgoing = [self._outgoing(batch, share, table, part, at) for share, part in parts if part.rows.size]
        try:
            if self._sends is None:
                settings = self._settings
                self._sends = Sends(settings, settings.transaction_seconds_max, settings.result_batch_bytes_max)
                await self._sends.start([self._topic], self._sources)
            await self._sends.send(outgoing, milliseconds(at))
        except InterlockError:
            await self._disconnect()
            raise

    def _outgoing(self, whole: Batch, share: Share, table: RouteTable, answer: Answer, at: datetime) -> Outgoing:
        batch, rows = whole.part(share), answer.rows
        values = ResultEncoder(table, share.source.topic, share.source.partition, at).encode(batch, [answer], [])
        if len(values) != rows.size:  # of several schemas: one for each request, empty where none is answered
            values = values.some(rows)
        keys = [batch.record_keys[row] for row in rows.tolist()]
        return Outgoing(self._topic, share.source.partition, Rows(keys, values, {}))

    def _count(self, arm: Arm, outcome: str, rows: int) -> None:
        if rows:
            metrics.SHADOW_ROWS.labels(self._endpoint, str(arm.version), outcome).inc(rows)

    async def _disconnect(self) -> None:
        sends, self._sends = self._sends, None
        if sends is not None:
            await sends.discard()
