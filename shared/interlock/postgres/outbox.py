"""The relay: takes what was decided from the outbox to Kafka, losing nothing and keeping each key's order.

Identity columns are handed out before transactions commit, so a reader of "position > last" skips the rows of slower
transactions. Here a row stays until it is marked, and rows go in the journal's order up to the first whose transaction
is not older than every running one (`pg_snapshot_xmin`). Neither the order of transaction ids nor that gate row by row
would do: a transaction may take its id early and append late, and would overtake another of the same key; the tests
show both. A crash between publishing and marking repeats a row, and the reader's inbox drops the repetition.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import structlog

from interlock import metrics, semconv, telemetry
from interlock.backoff import Backoff
from interlock.errors import Transient
from interlock.kafka import headers
from interlock.kafka.message import Message
from interlock.postgres.pool import Connection, dedicated

POLL_SECONDS = 0.5
GATED_POLL_SECONDS = 0.02
BATCH_ROWS_MAX = 500

_LEAD = "SELECT pg_try_advisory_lock(hashtextextended(current_schema() || '/outbox', 0))"
_CHANNEL = "SELECT 'interlock_outbox_' || current_schema()"
# Visible rows from xmax on can only come from another cluster (a restored dump): they are committed, so they may go.
_TAKE = """
WITH gate AS (
    SELECT min(position) AS position FROM outbox
    WHERE published_at IS NULL
      AND xid >= pg_snapshot_xmin(pg_current_snapshot()) AND xid < pg_snapshot_xmax(pg_current_snapshot()))
SELECT position, topic, key, event_id::text, type, value, correlation_id, causation_id, actor, traceparent, appended_at
FROM outbox JOIN journal USING (position)
WHERE published_at IS NULL AND position < coalesce((SELECT position FROM gate), 9223372036854775807)
ORDER BY position LIMIT $1
"""
_MARK = "UPDATE outbox SET published_at = clock_timestamp() WHERE position = ANY($1::bigint[])"
_WAITING = """
SELECT count(*) AS rows, coalesce(extract(epoch FROM clock_timestamp() - min(appended_at)), 0)::float8 AS oldest_seconds
FROM outbox JOIN journal USING (position) WHERE published_at IS NULL
"""

log = structlog.get_logger("interlock.outbox")


class Publisher(Protocol):
    """Brings messages to Kafka, all of a batch or none; opening it shuts out whoever had it open before."""

    async def open(self) -> None:
        """Become the only publisher under this name; raises Transient."""

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish all, in order per key, or raise Transient."""

    async def close(self) -> None:
        """Let go, never raising."""


class Relay:
    """The outbox relay of one service; several may run, one publishes."""

    def __init__(
        self,
        dsn: str,
        publisher: Publisher,
        service: str,
        *,
        stopping: asyncio.Event | None = None,
        poll_seconds: float = POLL_SECONDS,
        batch_rows_max: int = BATCH_ROWS_MAX,
        retry_seconds_max: float = 5.0,
    ) -> None:
        self._dsn = dsn
        self._publisher = publisher
        self._source = f"/interlock/{service}"
        self._stopping = stopping or asyncio.Event()
        self._poll_seconds = poll_seconds
        self._batch_rows_max = batch_rows_max
        self._retry_seconds_max = retry_seconds_max
        self._wake = asyncio.Event()
        self._away = False

    async def run(self) -> None:
        """Relay until `stopping` is set, then once more for what is ready; servers that are away are waited for."""
        backoff = Backoff(self._retry_seconds_max)
        while not self._stopping.is_set():
            try:
                await self._lead()
                backoff.reset()
            except Transient as error:
                if not self._away:
                    log.warning("outbox.waiting", detail=error.detail)
                self._away = True
                await _either(self._stopping, None, backoff.next_seconds())

    async def _lead(self) -> None:
        """Hold the advisory lock on a connection of our own, and publish; to lose the one is to lose the other."""
        async with dedicated(self._dsn) as connection:
            if not await connection.fetchval(_LEAD):
                await _either(self._stopping, None, self._poll_seconds)
                return
            await connection.add_listener(await connection.fetchval(_CHANNEL), self._on_notice)
            try:
                await self._publish_until_stopped(connection)
            finally:
                await self._publisher.close()

    async def _publish_until_stopped(self, connection: Connection) -> None:
        """Publish as the one publisher; told to stop, empty what is ready."""
        await self._publisher.open()
        if self._away:
            log.info("outbox.back")
        self._away = False
        while not self._stopping.is_set():
            await self._relay_or_wait(connection)
        while await self.relay_once(connection):
            pass

    def _on_notice(self, *_: object) -> None:
        self._wake.set()

    async def _relay_or_wait(self, connection: Connection) -> None:
        """Publish one batch, or wait: for a wake-up, or briefly while rows stand behind the gate."""
        self._wake.clear()
        if await self.relay_once(connection):
            return
        waiting = await connection.fetchrow(_WAITING)
        metrics.OUTBOX_WAITING.set(waiting["rows"])
        metrics.OUTBOX_OLDEST_SECONDS.set(waiting["oldest_seconds"])
        await _either(self._stopping, self._wake, GATED_POLL_SECONDS if waiting["rows"] else self._poll_seconds)

    async def relay_once(self, connection: Connection) -> int:
        """Publish and mark one batch; return how many rows it had."""
        found = await connection.fetch(_TAKE, self._batch_rows_max)
        if found:
            with _sending(found):
                await self._publisher.publish([self._message(row) for row in found])
            await connection.execute(_MARK, [row["position"] for row in found])
            for row in found:
                metrics.EVENTS_PUBLISHED.labels(row["topic"]).inc()
        return len(found)

    def _message(self, row: Any) -> Message:
        """Return the record of one row; every header follows from the journal, so a repetition is the same bytes."""
        named = headers.cloudevents(
            row["type"],
            event_id=row["event_id"],
            source=self._source,
            at=row["appended_at"],
            subject=row["key"],
            traceparent=row["traceparent"],
            correlation_id=row["correlation_id"],
            causation_id=row["causation_id"],
            actor=row["actor"],
        )
        return Message(row["topic"], row["key"].encode("utf-8"), row["value"], named, row["appended_at"])


@contextlib.contextmanager
def _sending(rows: Sequence[Any]) -> Iterator[None]:
    """Tell in the trace of each event, where it has one that is recorded, when it was brought to Kafka."""
    spans = []
    for row in rows:
        if telemetry.is_sampled(row["traceparent"]):
            title, attributes = semconv.messaging(
                "send", "send", row["topic"], rows=len(rows), message_id=row["event_id"]
            )
            spans.append(telemetry.begin(title, "client", row["traceparent"], (), attributes))
    try:
        yield
    except Transient as error:
        for span in spans:
            telemetry.failed(span, error)
        raise
    finally:
        for span in spans:
            span.end()


async def _either(first: asyncio.Event, second: asyncio.Event | None, seconds: float) -> None:
    """Return when an event is set or the time is over."""
    tasks = [asyncio.ensure_future(event.wait()) for event in (first, second) if event is not None]
    try:
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks)
