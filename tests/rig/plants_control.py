"""Bugs of the control plane: journal, outbox, relay, inbox and lease."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec

from interlock.ids import uuid7
from interlock.kafka.message import Message
from interlock.postgres import journal, outbox
from interlock.postgres.pool import borrowed
from tests.rig.patching import spoil

_PUBLISHER: Final = "interlock.kafka.producer:TransactionalPublisher"
_RELAY: Final = "interlock.postgres.outbox:Relay"

Inner = Callable[..., Awaitable[Any]]


def naive_outbox() -> None:
    """The relay reads what stands behind the last position that it has seen."""
    last = 0
    query = """
        SELECT position, topic, key, event_id::text, type, value, correlation_id, causation_id, actor, traceparent,
            appended_at
        FROM outbox JOIN journal USING (position) WHERE position > $1 ORDER BY position LIMIT 500"""

    def planted(inner: Inner) -> Any:
        async def relay_once(self: Any, connection: Any) -> int:
            nonlocal last
            found = await connection.fetch(query, last)
            if found:
                await self._publisher.publish([self._message(row) for row in found])
                last = found[-1]["position"]
            return len(found)

        return relay_once

    spoil(f"{_RELAY}.relay_once", planted)


def outbox_in_the_order_of_transactions() -> None:
    """The relay reads the outbox in the order of its transactions, not of the journal."""
    spoil("interlock.postgres.outbox:_TAKE", _replaced("ORDER BY position", "ORDER BY xid, position"))


def marked_before_published() -> None:
    """A row counts as published before it is."""

    def planted(inner: Inner) -> Any:
        async def relay_once(self: Any, connection: Any) -> int:
            found = await connection.fetch(outbox._TAKE, 500)
            if found:
                await connection.execute(outbox._MARK, [row["position"] for row in found])
                await self._publisher.publish([self._message(row) for row in found])
            return len(found)

        return relay_once

    spoil(f"{_RELAY}.relay_once", planted)


def published_again_under_another_id() -> None:
    """Every attempt to publish makes new event ids."""

    def planted(inner: Inner) -> Any:
        async def publish(self: Any, messages: Sequence[Message]) -> None:
            await inner(self, [_renamed(each) for each in messages])

        return publish

    spoil(f"{_PUBLISHER}.publish", planted)


def published_before_the_commit() -> None:
    """An event is published when it is decided, whether or not that is committed."""
    relays: list[Any] = []

    def noted(inner: Any) -> Any:
        def begin(self: Any, *arguments: Any, **more: Any) -> None:
            relays.append(self)
            inner(self, *arguments, **more)

        return begin

    def planted(inner: Inner) -> Any:
        async def append(self: Any, stream: str, event: Any) -> str:
            event_id: str = await inner(self, stream, event)
            row = await self.connection.fetchrow(
                "SELECT topic, key, event_id::text, type, value, correlation_id, causation_id, actor, traceparent, "
                "appended_at FROM outbox JOIN journal USING (position) WHERE event_id = $1::text::uuid",
                event_id,
            )
            if relays[-1]._publisher._producer is not None:
                await relays[-1]._publisher.publish([relays[-1]._message(row)])
            return event_id

        return append

    async def nothing(self: Any, connection: Any) -> int:
        return 0

    spoil(f"{_RELAY}.__init__", noted)
    spoil(f"{_RELAY}.relay_once", lambda _: nothing)
    spoil("interlock.postgres.journal:Unit.append", planted)


def no_inbox() -> None:
    """Nobody looks whether an event was heard before."""
    spoil(
        "interlock.postgres.journal:_HEAR",
        _replaced("VALUES ($1, $2) ON CONFLICT DO NOTHING", "VALUES ($1, $2::text || gen_random_uuid()::text)"),
    )


def inbox_in_a_transaction_of_its_own() -> None:
    """That an event was heard is written down before its effect, and stays without it."""

    def planted(inner: Any) -> Any:
        async def handle(self: Any, record: Any, event: Any) -> None:
            handler, needed = self._bound[record.topic][type(event)]
            name = dict(record.headers)["ce_id"].decode()
            cause = journal.Cause(event_id=name, correlation_id=name, traceparent=None, actor="unknown")
            async with borrowed(self._pool) as connection:
                if not await connection.fetchval(journal._HEAR, self._service, name):
                    return
            async with journal.unit(self._pool, cause) as unit:
                await handler(event, unit, **needed)

        return handle

    spoil("interlock.dispatch:Dispatch.handle", planted)


def offset_before_the_effect() -> None:
    """The consumer commits its offset, then carries the event out."""

    def planted(inner: Inner) -> Any:
        async def take(self: Any, consumer: Any, partition: Any, records: Sequence[Any]) -> None:
            await self._commit(consumer, partition, records[-1].offset + 1)
            await inner(self, consumer, partition, records)

        return take

    spoil("interlock.kafka.consumer:ControlConsumer._take", planted)


def lease_ignored() -> None:
    """Who led once leads for ever: nobody asks the database again."""

    async def renew(self: Any) -> bool:
        return self.epoch is not None

    async def fence(self: Any, connection: Any) -> int:
        return int(self.epoch)

    spoil("interlock.postgres.lease:Lease.renew", lambda _: renew)
    spoil("interlock.postgres.lease:Lease.fence", lambda _: fence)


def _renamed(message: Message) -> Message:
    headers = [(name, uuid7().encode() if name == "ce_id" else value) for name, value in message.headers]
    return msgspec.structs.replace(message, headers=headers)


def _replaced(old: str, new: str) -> Callable[[str], str]:
    """Return a change of a query; raises AttributeError where it no longer says `old`."""

    def planted(query: str) -> str:
        if old not in query:
            raise AttributeError(f"the query no longer says {old!r}")
        return query.replace(old, new)

    return planted
