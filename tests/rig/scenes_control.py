"""Scenes that the control plane plays with and without a bug: slow writers, deaths, and two who claim to lead."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import secrets
import signal
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import asyncpg

from interlock.cause import Cause
from interlock.kafka import admin
from interlock.postgres import journal, migrate, pool
from interlock.schemas.events import ModelCreated
from tests.integration.control.conftest import drop, service_name, topic_of
from tests.rig import control
from tests.rig.history import Effect, Journalled, Violation
from tests.rig.history_check import check_events
from tests.rig.history_reading import published
from tests.rig.line import bury, until
from tests.rig.nursery import Hurt
from tests.rig.scenes import Scene, World, freezes

COMMANDS: Final = 24
MORE: Final = 8
DEATH_SECONDS_MAX: Final = 30.0
DONE_SECONDS_MAX: Final = 30.0
SPOILED_SECONDS_MAX: Final = 4.0
END_SECONDS_MAX: Final = 20.0
LATE_SECONDS_MAX: Final = 3.0
GATE_SECONDS: Final = 1.0
"""How long a relay without a gate is given to run past a transaction that is still open."""

AT: Final = datetime(2026, 1, 2, tzinfo=UTC)

_JOURNAL = """
SELECT position, event_id::text, topic, key, value, (event->>'created_by') AS epoch
FROM journal JOIN outbox USING (position) ORDER BY position"""
_LAST_HEARD = """
SELECT EXISTS (SELECT FROM heard WHERE serial =
    (SELECT (event->>'owner')::bigint FROM journal ORDER BY position DESC LIMIT 1))
"""
_MARK = """
UPDATE outbox SET published_at = clock_timestamp() FROM journal
WHERE journal.position = outbox.position AND published_at IS NULL AND event_id::text IN ({ids})"""
_HEARD = "SELECT key, event_id::text FROM heard ORDER BY at"


class Room:
    """A service with a schema and a topic of its own, and the processes that are it."""

    def __init__(self, world: World, plant: str) -> None:
        self.name = service_name()
        self.topic = f"t.{self.name}"
        self.is_spoiled = bool(plant)
        self._plant = plant
        self._world = world
        self._processes: list[Hurt] = []

    async def create(self) -> None:
        """Make schema, role, table and topic."""
        password = secrets.token_hex(8)
        owner_dsn = self._world.owner_dsn
        await migrate.migrate(owner_dsn, self.name, [], password)
        owner = await asyncpg.connect(owner_dsn)
        await owner.execute(control.HEARD.format(service=self.name))
        await owner.close()
        self.dsn = f"postgresql://{migrate.role_of(self.name)}:{password}@{owner_dsn.split('@', 1)[1]}"
        await admin.ensure_topics(self._world.settings, [topic_of(self.topic)])

    async def start(self, crash: str = "", commands: float = math.inf) -> Hurt:
        """Start the service, for so many commands in all its lives."""
        settings = {
            "kafka_bootstrap_servers": self._world.settings.kafka_bootstrap_servers,
            "postgres_dsn": self.dsn,
            "retry_seconds_max": 0.2,
        }
        process = await self._world.nursery.start(
            "control", json.dumps(settings), self.name, self.topic, str(commands), crash=crash, plant=self._plant
        )
        self._processes.append(process)
        return process

    async def bury(self) -> None:
        """Take dead consumers out of the group."""
        await bury(self._world.settings.kafka_bootstrap_servers, f"interlock.{self.name}")

    async def ask(self, query: str) -> list[Any]:
        """Return rows of the service's own tables."""
        connection = await asyncpg.connect(self.dsn)
        try:
            return list(await connection.fetch(query))
        finally:
            await connection.close()

    async def count(self, table: str) -> int:
        """Return how many rows a table has."""
        return int((await self.ask(f"SELECT count(*) FROM {table}"))[0][0])

    async def last_heard(self, wanted: int) -> None:
        """Wait until so many events were decided and the last one took effect; what has not a moment later is lost.

        An event whose transaction committed late is published behind the last one.
        """

        async def heard() -> bool:
            return bool((await self.ask(_LAST_HEARD))[0][0]) and await self.count("journal") >= wanted

        await until(heard, DONE_SECONDS_MAX, f"the last of {wanted} events is heard")

        async def all_heard() -> bool:
            return await self.count("heard") >= await self.count("journal")

        with contextlib.suppress(AssertionError):
            await until(all_heard, LATE_SECONDS_MAX, "those that came late are heard")

    async def ended(self) -> None:
        """End the processes; one with a bug may have to be killed."""
        for process in self._processes:
            if process.status is None:
                process.send(signal.SIGTERM)
                with contextlib.suppress(AssertionError):
                    await process.ended(SPOILED_SECONDS_MAX if self.is_spoiled else END_SECONDS_MAX)
                assert self.is_spoiled or process.status == 0, f"{process.status}: {process.lines()[-10:]}"
                process.send(signal.SIGKILL)

    async def emptied(self) -> None:
        """Have one more process say what those before it had decided and not yet said."""
        await self.bury()
        await self.start(commands=await self.count("commands"))

        async def said() -> bool:
            return not await self.count("outbox WHERE published_at IS NULL")

        await until(said, DONE_SECONDS_MAX, "the outbox is empty")

    async def mark_published(self) -> None:
        """Mark what Kafka holds, as a relay does a moment after it was acknowledged."""
        bootstrap = self._world.settings.kafka_bootstrap_servers
        said = await asyncio.to_thread(published, bootstrap, [self.topic])
        await self.ask(_MARK.format(ids=", ".join(f"'{each.event_id}'" for each in said)))

    async def judged(self, *, with_effects: bool = True) -> list[Violation]:
        """End the processes and return what is wrong."""
        await self.ended()
        decided = [
            Journalled(
                row["position"], row["event_id"], row["topic"], row["key"], row["value"],
                int(row["epoch"]) if row["epoch"].isdigit() else None,
            )
            for row in await self.ask(_JOURNAL)
        ]  # fmt: skip
        bootstrap = self._world.settings.kafka_bootstrap_servers
        said = await asyncio.to_thread(published, bootstrap, [self.topic])
        effects = [Effect(row["key"], row["event_id"]) for row in await self.ask(_HEARD)]
        return check_events(decided, said, effects if with_effects else None)


@contextlib.asynccontextmanager
async def _room(world: World, plant: str) -> AsyncIterator[Room]:
    room = Room(world, plant)
    await room.create()
    try:
        yield room
    finally:
        await drop(world.owner_dsn, room.name)


async def quiet(world: World, plant: str) -> list[Violation]:
    """Nobody is hurt."""
    async with _room(world, plant) as room:
        await room.start(commands=COMMANDS)
        await room.last_heard(COMMANDS)
        return await room.judged()


async def killed(world: World, plant: str, crash: str, *, marked: bool = False) -> list[Violation]:
    """The service dies at a point and another process goes on; `marked`: after its relay has marked what it published.

    Whatever was published and not marked, the heir publishes again, and so makes good what a consumer let slip.
    """
    async with _room(world, plant) as room:
        victim = await room.start(crash=crash)
        assert await victim.ended(DEATH_SECONDS_MAX) == -signal.SIGKILL, victim.lines()[-10:]
        await room.bury()
        if marked:
            await room.mark_published()
        wanted = await room.count("commands") + MORE
        await room.start(commands=wanted)
        await room.last_heard(wanted)
        return await room.judged()


async def slow_writer(world: World, plant: str) -> list[Violation]:
    """A transaction that appended early commits late, behind one that appended after it."""
    async with _room(world, plant) as room, _database(room) as database:
        await room.start(commands=0)
        async with _unit(database, "slow") as slow:
            await slow.append("model/a", _event("a", 1))
            async with _unit(database, "fast") as fast:
                await fast.append("model/b", _event("b", 2))
            deadline = time.monotonic() + GATE_SECONDS
            while time.monotonic() < deadline and not await room.count("heard"):
                await asyncio.sleep(0.05)
        await room.last_heard(2)
        return await room.judged(with_effects=False)


async def late_writer(world: World, plant: str) -> list[Violation]:
    """Of two transactions that say something of one key the one that began first appends last."""
    async with _room(world, plant) as room, _database(room) as database:
        await room.start(commands=0)
        async with _unit(database, "early") as early:  # the inbox row takes the transaction's id
            async with _unit(database, "late") as late:
                await late.append("model/a", _event("a", 1))
            await early.append("model/a", _event("a", 2))
        await room.last_heard(2)
        return await room.judged(with_effects=False)


async def two_leaders(world: World, plant: str) -> list[Violation]:
    """A leader freezes longer than its lease, another one leads, the first one wakes up."""
    async with _room(world, plant) as room:
        frozen = await room.start("lease-renew/before/3/freeze")
        await freezes(frozen)
        await room.bury()
        await room.start()

        async def led() -> bool:
            return len(await room.ask("SELECT DISTINCT event->>'created_by' FROM journal")) > 1

        await until(led, DONE_SECONDS_MAX, "another one leads")
        frozen.send(signal.SIGCONT)
        wanted = await room.count("journal") + COMMANDS

        async def decided() -> bool:
            return await room.count("journal") >= wanted

        await until(decided, DONE_SECONDS_MAX, f"{wanted} events are decided")
        await room.ended()
        await room.emptied()
        return await room.judged(with_effects=False)


@contextlib.asynccontextmanager
async def _database(room: Room) -> AsyncIterator[Any]:
    """Give a database to write into from here; what is written goes to the room's topic."""
    opened, before = await pool.connect(room.dsn), ModelCreated.TOPIC
    ModelCreated.TOPIC = room.topic
    try:
        yield opened
    finally:
        ModelCreated.TOPIC = before
        opened.terminate()


def _unit(database: Any, name: str) -> contextlib.AbstractAsyncContextManager[journal.Unit]:
    cause = Cause(event_id=name, correlation_id=name, traceparent=None, actor="rig")
    return journal.unit(database, cause, consumer="writer")


def _event(model: str, serial: int) -> ModelCreated:
    return ModelCreated(model=model, owner=str(serial), created_by="writer", at=AT)


SCENES: Final[Mapping[str, Scene]] = {
    "quiet": quiet,
    "killed-before-publishing": partial(killed, crash="relay-publish/before/3"),
    "killed-before-marking": partial(killed, crash="relay-mark/before/3"),
    "killed-before-the-commit": partial(killed, crash="command-remember/after/12"),
    "killed-before-the-offset": partial(killed, crash="consumer-commit/before/3"),
    "killed-before-handling": partial(killed, crash="consumer-handle/before/3", marked=True),
    "killed-behind-the-inbox": partial(killed, crash="inbox-insert/after/3"),
    "slow-writer": slow_writer,
    "late-writer": late_writer,
    "two-leaders": two_leaders,
}
