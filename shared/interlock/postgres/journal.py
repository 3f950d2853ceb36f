"""The journal: one transaction holds what was heard, what was decided, the state, and what will be said.

Order: two units that append to one stream (or one topic and key) run one after the other from their first such
append to their commit, so positions of a stream rise in the order of commits.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from interlock import metrics, semconv, telemetry
from interlock.cause import Cause
from interlock.clock import Clock, SystemClock
from interlock.codec import rows
from interlock.errors import Code, InterlockError, Refusal
from interlock.ids import digest_of, uuid7
from interlock.postgres.pool import Connection, Pool, borrowed

__all__ = ["Cause", "Duplicate", "Recorded", "Unit", "command", "history", "unit"]

IDEMPOTENCY_KEY_REUSED = Code(
    "IDEMPOTENCY_KEY_REUSED",
    422,
    "The idempotency key belongs to another command",
    "Use a new Idempotency-Key for a new command.",
)

_LOCK = (
    "SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || '/' || name, 0)) FROM unnest($1::text[]) AS name"
)
_APPEND = """
WITH entry AS (
    INSERT INTO journal
        (stream, event_id, type, value, event, correlation_id, causation_id, actor, traceparent, appended_at)
    VALUES ($1, $2::text::uuid, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING position)
INSERT INTO outbox (position, topic, key) SELECT position, $11, $12 FROM entry
"""
_HEAR = "INSERT INTO inbox (consumer, event_id) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING true"
_ANSWER = "SELECT request_digest, answer FROM commands WHERE actor = $1 AND key = $2"
_REMEMBER = "INSERT INTO commands (actor, key, request_digest, answer) VALUES ($1, $2, $3, $4)"
_HISTORY = """
SELECT position, stream, event_id::text, value, actor, correlation_id, causation_id, appended_at
FROM journal WHERE ($1::text IS NULL OR stream = $1) AND position > $2 ORDER BY position LIMIT $3
"""


class Duplicate(InterlockError):
    """The event was heard before: its effect is already in the tables."""


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the journal, read back."""

    position: int
    stream: str
    event_id: str
    event: Any
    actor: str
    correlation_id: str
    causation_id: str
    appended_at: Any


class Unit:
    """One transaction in progress. Its connection is for the service's store; it ends with the `async with`."""

    def __init__(self, connection: Connection, cause: Cause, clock: Clock) -> None:
        self.connection = connection
        self.cause = cause
        self.clock = clock

    async def append(self, stream: str, event: Any) -> str:
        """Record `event` on `stream` and have it published on its topic under its key; return the event's id.

        Nothing is published unless the transaction commits. Raises ValueError for an event its schema cannot hold.
        """
        kind = type(event)
        key = str(getattr(event, kind.KEY))
        topic = kind.TOPIC.format(endpoint=getattr(event, "endpoint", ""))
        value = rows.encode(event)
        await self.connection.execute(_LOCK, sorted({f"stream/{stream}", f"key/{topic}/{key}"}))
        event_id = uuid7()
        traceparent = _created(self.cause.traceparent, kind.__name__, topic, key, event_id)
        await self.connection.execute(
            _APPEND, stream, event_id, kind.TYPE, value, msgspec.json.encode(event).decode(), self.cause.correlation_id,
            self.cause.event_id, self.cause.actor, traceparent, self.clock.now(), topic, key,
        )  # fmt: skip
        return event_id


@asynccontextmanager
async def unit(
    pool: Pool, cause: Cause, *, consumer: str | None = None, clock: Clock | None = None
) -> AsyncIterator[Unit]:
    """Open one transaction; commit at the end of the body, roll everything back if it raises.

    With `consumer`, the cause's event is written into the inbox first; raises Duplicate if it is there already.
    Raises Transient where the server is away. After a Transient it is unknown whether the commit happened: an
    event's inbox row, or a command's key, tells the next attempt.
    """
    title, attributes = semconv.database("TRANSACTION")
    with telemetry.inner(title, "client", **attributes):
        async with borrowed(pool) as connection, connection.transaction():
            if consumer is not None and not await connection.fetchval(_HEAR, consumer, cause.event_id):
                raise Duplicate(f"{consumer} has heard {cause.event_id} before.")
            yield Unit(connection, cause, clock or SystemClock())


def _created(traceparent: str | None, event: str, topic: str, key: str, event_id: str) -> str | None:
    """Return the trace context that the event carries: the span of its creation, a child of what brought it about.

    What is written here is what every repetition of the record says, whoever publishes it and when.
    """
    if not telemetry.is_sampled(traceparent):
        return traceparent
    title, attributes = semconv.messaging("create", "create", topic, key=key, message_id=event_id)
    with telemetry.span(title, "producer", traceparent, **attributes, **{semconv.EVENT: event}):
        return telemetry.current_traceparent()


async def command(
    pool: Pool,
    key: str | None,
    cause: Cause,
    decide: Callable[[Unit], Awaitable[Any]],
    *,
    request: Any = None,
    clock: Clock | None = None,
) -> Any:
    """Carry out `decide(unit)` once for each (actor, key) and return its answer as JSON-able builtins.

    The same key again returns the stored answer and does nothing; with another `request` it raises
    Refusal(IDEMPOTENCY_KEY_REUSED). A refused command leaves no trace, so it may be tried again. Without a key
    the command is carried out each time.
    """
    digest = digest_of(msgspec.json.encode(request, order="sorted"))
    async with unit(pool, cause, clock=clock) as opened:
        if key is None:
            return msgspec.to_builtins(await decide(opened))
        await opened.connection.execute(_LOCK, [f"command/{cause.actor}/{key}"])
        known = await opened.connection.fetchrow(_ANSWER, cause.actor, key)
        if known is not None:
            if known["request_digest"] != digest:
                raise Refusal(IDEMPOTENCY_KEY_REUSED, f"The key {key!r} was used for another command before.")
            metrics.COMMANDS_REPLAYED.inc()
            return msgspec.json.decode(known["answer"])
        answer = msgspec.json.encode(await decide(opened))
        await opened.connection.execute(_REMEMBER, cause.actor, key, digest, answer.decode())
        return msgspec.json.decode(answer)


async def history(pool: Pool, stream: str | None = None, after: int = 0, rows_max: int = 1000) -> list[Recorded]:
    """Return the journal behind position `after`, oldest first, of one stream or of all; at most `rows_max` lines."""
    async with borrowed(pool) as connection:
        found = await connection.fetch(_HISTORY, stream, after, rows_max)
    return [
        Recorded(event=rows.decode(row["value"]), **{name: row[name] for name in row.keys() if name != "value"})  # noqa: SIM118 - a Record is no dict
        for row in found
    ]
