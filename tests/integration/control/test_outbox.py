"""The outbox relay on a real Postgres: nothing lost, nothing reordered; and what simpler relays would lose."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from interlock.cause import Cause
from interlock.codec import rows
from interlock.kafka import headers
from interlock.postgres import journal
from interlock.postgres.outbox import Relay
from interlock.schemas.events import ModelCreated
from interlock.testing.publisher import RecordingPublisher

WRITERS = 16
EVENTS_EACH = 60
KEYS = 6
AT = datetime(2026, 1, 2, tzinfo=UTC)


def _event(model: str, serial: int) -> ModelCreated:
    return ModelCreated(model=model, owner=str(serial), created_by="writer", at=AT)


def _cause(name: str = "e-1") -> Cause:
    return Cause(
        event_id=name, correlation_id="c-1", actor="ada", traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    )


async def _write(database: Any, seed: int) -> None:
    """Write events in transactions that overlap, some taking their transaction id long before they append."""
    chance = random.Random(seed)
    for _ in range(EVENTS_EACH):
        key = f"key-{chance.randrange(KEYS)}"
        async with journal.unit(database, _cause(f"{seed}-{_}"), consumer="writer") as unit:
            await asyncio.sleep(chance.random() * 0.004)
            await unit.connection.execute("SELECT pg_advisory_xact_lock(hashtext($1))", f"serial/{key}")
            serial = await unit.connection.fetchval(
                "UPDATE serials SET next = next + 1 WHERE key = $1 RETURNING next", key
            )
            await unit.append(f"model/{key}", _event(key, serial))
            await asyncio.sleep(chance.random() * 0.004)


@asynccontextmanager
async def _serials(owner_dsn: str, service: str) -> AsyncIterator[None]:
    """Give the writers a table that hands out serial numbers per key inside their own transactions."""
    import asyncpg

    connection = await asyncpg.connect(owner_dsn)
    await connection.execute(f"CREATE TABLE {service}.serials (key text PRIMARY KEY, next bigint NOT NULL DEFAULT 0)")
    await connection.executemany(f"INSERT INTO {service}.serials VALUES ($1)", [(f"key-{n}",) for n in range(KEYS)])
    await connection.close()
    yield


async def _until(condition: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)


def _drained(database: Any) -> Callable[[], Awaitable[bool]]:
    async def drained() -> bool:
        return bool(await database.fetchval("SELECT count(*) = 0 FROM outbox WHERE published_at IS NULL"))

    return drained


def _per_key(publisher: RecordingPublisher) -> dict[str, list[int]]:
    """Return the serial numbers of each key in the order in which they were first published."""
    seen: dict[str, list[int]] = defaultdict(list)
    for message in publisher.messages:
        event = rows.decode(message.value)
        if int(event.owner) not in seen[event.model]:
            seen[event.model].append(int(event.owner))
    return seen


async def test_sixteen_writers_lose_nothing_and_keep_each_keys_order(
    database: Any, service_dsn: str, owner_dsn: str, service: str
) -> None:
    """All events of overlapping transactions arrive, each key's in the order of its serial numbers."""
    async with _serials(owner_dsn, service):
        publisher, stopping = RecordingPublisher(), asyncio.Event()
        relay = asyncio.create_task(Relay(service_dsn, publisher, service, stopping=stopping).run())
        await asyncio.gather(*(_write(database, seed) for seed in range(WRITERS)))
        await _until(_drained(database))
        stopping.set()
        await relay
    assert len(publisher.messages) == WRITERS * EVENTS_EACH
    for serials in _per_key(publisher).values():
        assert serials == sorted(serials)


async def test_a_naive_poller_would_lose_events(database: Any, owner_dsn: str, service: str) -> None:
    """The planted bug: reading `position > last` without the gate skips rows of slower transactions."""
    async with _serials(owner_dsn, service):
        taken: list[int] = []
        done = asyncio.Event()

        async def naive() -> None:
            last = 0
            while True:
                ended = done.is_set()
                found = await database.fetch("SELECT position FROM outbox WHERE position > $1 ORDER BY position", last)
                taken.extend(row["position"] for row in found)
                last = taken[-1] if taken else 0
                if ended:
                    return

        polling = asyncio.create_task(naive())
        await asyncio.gather(*(_write(database, seed) for seed in range(WRITERS)))
        done.set()
        await polling
    assert len(taken) < WRITERS * EVENTS_EACH


async def test_ordering_by_transaction_id_would_reorder_a_key(database: Any, service_dsn: str) -> None:
    """Why the order is the journal's: a transaction that took its id early and appended late would overtake."""
    async with journal.unit(database, _cause("early"), consumer="me") as early:  # the inbox row takes the id
        async with journal.unit(database, _cause("late"), consumer="me") as late:
            await late.append("model/fraud", _event("fraud", 1))
        await early.append("model/fraud", _event("fraud", 2))
    by_transaction = await database.fetch(
        "SELECT event->>'owner' AS o FROM outbox JOIN journal USING (position) ORDER BY xid, position"
    )
    assert [row["o"] for row in by_transaction] == ["2", "1"]
    publisher = RecordingPublisher()
    async with database.acquire() as connection:
        await Relay(service_dsn, publisher, "x").relay_once(connection)
    assert [rows.decode(message.value).owner for message in publisher.messages] == ["1", "2"]


async def test_a_gate_row_by_row_would_let_an_event_overtake_its_key(database: Any, service_dsn: str) -> None:
    """Why the gate cuts a prefix: a middle transaction holds back the first event of a key, so the second waits too."""
    relay = Relay(service_dsn, publisher := RecordingPublisher(), "x")
    async with database.acquire() as middle, database.acquire() as taking:
        transaction = middle.transaction()
        async with journal.unit(database, _cause("early"), consumer="me") as early:  # the lowest transaction id
            await transaction.start()
            await middle.fetchval("SELECT pg_current_xact_id()")
            async with journal.unit(database, _cause("late"), consumer="me") as late:  # the highest
                await late.append("model/fraud", _event("fraud", 1))
            await early.append("model/fraud", _event("fraud", 2))
        past_a_gate_by_row = await taking.fetchval(
            "SELECT event->>'owner' FROM outbox JOIN journal USING (position)"
            " WHERE xid < pg_snapshot_xmin(pg_current_snapshot())"
        )
        assert past_a_gate_by_row == "2"
        assert await relay.relay_once(taking) == 0
        await transaction.commit()
        await relay.relay_once(taking)
    assert [rows.decode(message.value).owner for message in publisher.messages] == ["1", "2"]


async def test_rows_of_a_transaction_wait_for_every_older_one(database: Any, service_dsn: str) -> None:
    """While an older transaction runs, a younger one's committed row stays behind the gate."""
    relay = Relay(service_dsn, RecordingPublisher(), "x")
    async with database.acquire() as older, database.acquire() as taking:
        transaction = older.transaction()
        await transaction.start()
        await older.fetchval("SELECT pg_current_xact_id()")
        async with journal.unit(database, _cause()) as unit:
            await unit.append("model/fraud", _event("fraud", 1))
        assert await relay.relay_once(taking) == 0
        await transaction.commit()
        assert await relay.relay_once(taking) == 1


async def test_a_batch_lost_or_denied_by_kafka_is_published_again(database: Any, service_dsn: str) -> None:
    """A failure before loses nothing; one after gives a repetition with the same id and bytes."""
    publisher, stopping = RecordingPublisher(), asyncio.Event()
    publisher.fail_before, publisher.fail_after = 1, 1
    async with journal.unit(database, _cause()) as unit:
        event_id = await unit.append("model/fraud", _event("fraud", 1))
    relay = asyncio.create_task(
        Relay(service_dsn, publisher, "registry", stopping=stopping, retry_seconds_max=0.05).run()
    )
    await _until(_drained(database))
    stopping.set()
    await relay
    first, second = publisher.messages
    assert first == second
    assert headers.parse(first.headers).id == event_id


async def test_only_one_of_two_relays_publishes_and_the_other_takes_over(database: Any, service_dsn: str) -> None:
    """With two relays every event goes out once; when the first ends, the second goes on."""
    publishers = [RecordingPublisher(), RecordingPublisher()]
    events = [asyncio.Event(), asyncio.Event()]
    relays = []
    for publisher, stopping in zip(publishers, events, strict=True):
        relays.append(
            asyncio.create_task(Relay(service_dsn, publisher, "x", stopping=stopping, poll_seconds=0.05).run())
        )
        async with journal.unit(database, _cause()) as unit:
            await unit.append("model/fraud", _event("fraud", 1))
        await _until(_drained(database))
    assert [len(publisher.messages) for publisher in publishers] == [2, 0]
    events[0].set()
    await relays[0]
    async with journal.unit(database, _cause()) as unit:
        await unit.append("model/fraud", _event("fraud", 2))
    await _until(_drained(database))
    assert [len(publisher.messages) for publisher in publishers] == [2, 1]
    events[1].set()
    await relays[1]


async def test_a_commit_wakes_the_relay_long_before_its_poll(database: Any, service_dsn: str) -> None:
    """With a poll of a minute, an event is still out within seconds."""
    publisher, stopping = RecordingPublisher(), asyncio.Event()
    relay = asyncio.create_task(Relay(service_dsn, publisher, "x", stopping=stopping, poll_seconds=60).run())
    for serial in range(3):
        async with journal.unit(database, _cause()) as unit:
            await unit.append("model/fraud", _event("fraud", serial))
        await _until(_drained(database), seconds=5)
    stopping.set()
    await relay


async def test_a_relay_whose_connection_is_killed_goes_on(database: Any, service_dsn: str) -> None:
    """Ending every backend of the role costs a pause and nothing else."""
    publisher, stopping = RecordingPublisher(), asyncio.Event()
    relay = asyncio.create_task(Relay(service_dsn, publisher, "x", stopping=stopping, retry_seconds_max=0.05).run())
    for serial in range(3):
        async with journal.unit(database, _cause()) as unit:
            await unit.append("model/fraud", _event("fraud", serial))
        await _until(_drained(database))
        await database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE usename = current_user AND pid <> pg_backend_pid()"
        )
    stopping.set()
    await relay
    assert _per_key(publisher) == {"fraud": [0, 1, 2]}
