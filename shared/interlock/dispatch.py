"""Dispatch: one record to one handler, inside one unit, as one span of the story it belongs to."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from interlock import semconv, telemetry
from interlock.cause import Cause
from interlock.clock import Clock
from interlock.codec import rows
from interlock.ids import request_name
from interlock.kafka import headers
from interlock.kafka.consumer import Skipped
from interlock.postgres import journal
from interlock.postgres.pool import Pool

Handler = Callable[..., Awaitable[None]]
Consumes = Mapping[str, Mapping[Any, Handler]]


class Record(Protocol):
    """What dispatch reads of a Kafka record."""

    topic: str
    partition: int
    offset: int
    value: bytes | None
    headers: Any


class Dispatch:
    """The table of what a service listens to, bound to what its handlers need.

    A handler is `async def on_x(event, unit, *, store, ...)`; each keyword is looked up in `needs` by its name, at
    once, so that a missing one is found at the start and not with the first event.
    """

    def __init__(
        self, service: str, consumes: Consumes, needs: Mapping[str, Any], pool: Pool | None, clock: Clock
    ) -> None:
        self._service = service
        self._pool = pool
        self._clock = clock
        self._bound = {
            topic: {kind: (handler, _needed(handler, needs)) for kind, handler in handlers.items()}
            for topic, handlers in consumes.items()
        }

    def decode(self, record: Record) -> Any:
        """Return the record's event, or None for a tombstone or an event without a handler here; raises Poison."""
        if record.value is None:
            return None
        event = rows.decode(record.value)
        return event if type(event) in self._bound[record.topic] else None

    async def handle(self, record: Record, event: Any) -> None:
        """Run the handler inside a unit whose inbox row is the event's id; raises Skipped where it was heard before."""
        handler, needed = self._bound[record.topic][type(event)]
        envelope = headers.parse(record.headers)
        name = envelope.id or request_name(record.topic, record.partition, record.offset)
        title, attributes = semconv.messaging(
            "process",
            "process",
            record.topic,
            partition=record.partition,
            offset=record.offset,
            group=f"interlock.{self._service}",
            message_id=name,
        )
        attributes[semconv.EVENT] = type(event).__name__
        with telemetry.span(title, "consumer", envelope.traceparent, **attributes):
            cause = Cause(
                event_id=name,
                correlation_id=envelope.correlation_id or name,
                traceparent=telemetry.current_traceparent() or envelope.traceparent,
                actor=envelope.actor or "unknown",
            )
            if self._pool is None:
                await handler(event, None, **needed)
                return
            try:
                async with journal.unit(self._pool, cause, consumer=self._service, clock=self._clock) as unit:
                    await handler(event, unit, **needed)
            except journal.Duplicate as duplicate:
                raise Skipped(duplicate.detail) from duplicate


def _needed(handler: Handler, needs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a handler asks for by name; raises TypeError naming what nobody provides."""
    asked = [
        name
        for name, parameter in inspect.signature(handler).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]
    missing = sorted(set(asked) - set(needs))
    if missing:
        raise TypeError(
            f"{handler.__module__}.{handler.__qualname__} needs {', '.join(missing)}, which app.py does not provide"
        )
    return {name: needs[name] for name in asked}
