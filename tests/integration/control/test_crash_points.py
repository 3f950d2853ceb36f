"""Every crash point of journal, outbox, relay, inbox and lease: nothing is lost, doubled or reordered."""

from __future__ import annotations

import asyncio
import json
import math
import secrets
import signal
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from interlock.kafka import admin
from interlock.postgres import migrate
from interlock.settings import PlatformSettings
from tests.integration.control.conftest import drop, service_name, topic_of
from tests.rig import control
from tests.rig.crash_points import CONTROL, Crash
from tests.rig.history import Effect, Journalled, Violation
from tests.rig.history_events import check_events
from tests.rig.history_reading import published
from tests.rig.line import bury, until
from tests.rig.nursery import Hurt, Nursery

pytestmark = pytest.mark.timeout(400)

SEED = 5
LINES = 2
DEATH_SECONDS_MAX = 90.0
DRAIN_SECONDS_MAX = 90.0
MORE = 20
"""Commands after the last death, so that everything works once more."""

_JOURNAL = """
SELECT position, event_id::text, event->>'model' AS key, value, event->>'owner' AS serial, event->>'created_by' AS epoch
FROM journal ORDER BY position
"""
_HEARD = "SELECT key, event_id::text FROM heard ORDER BY at"


class _Service:
    """A service with a schema and a topic of its own, and the processes that are it one after the other."""

    def __init__(self, settings: PlatformSettings, owner_dsn: str, nursery: Nursery) -> None:
        self.name = service_name()
        self.topic = f"t.{self.name}"
        self._settings = settings
        self._owner_dsn = owner_dsn
        self._nursery = nursery

    async def create(self) -> None:
        """Make schema, role, table and topic."""
        password = secrets.token_hex(8)
        await migrate.migrate(self._owner_dsn, self.name, [], password)
        owner = await asyncpg.connect(self._owner_dsn)
        await owner.execute(control.HEARD.format(service=self.name))
        await owner.close()
        address = self._owner_dsn.split("@", 1)[1]
        self.dsn = f"postgresql://{migrate.role_of(self.name)}:{password}@{address}"
        await admin.ensure_topics(self._settings, [topic_of(self.topic)])

    async def ask(self, query: str) -> list[Any]:
        """Return rows of the service's own tables."""
        connection = await asyncpg.connect(self.dsn)
        try:
            return list(await connection.fetch(query))
        finally:
            await connection.close()

    async def start(self, crash: str = "", commands: float = math.inf) -> Hurt:
        """Start the service; it carries out so many commands in all its lives."""
        settings = {
            "kafka_bootstrap_servers": self._settings.kafka_bootstrap_servers,
            "postgres_dsn": self.dsn,
            "retry_seconds_max": 0.2,
        }
        return await self._nursery.start(
            "control", json.dumps(settings), self.name, self.topic, str(commands), crash=crash
        )

    async def bury(self) -> None:
        """Take the dead consumer out of its group."""
        await bury(self._settings.kafka_bootstrap_servers, f"interlock.{self.name}")

    async def count(self, table: str) -> int:
        """Return how many rows a table has."""
        return int((await self.ask(f"SELECT count(*) FROM {table}"))[0][0])

    async def judge(self) -> list[Violation]:
        """Return what is wrong between commands, journal, topic and what was heard."""
        rows = await self.ask(_JOURNAL)
        serials = [int(row["serial"]) for row in rows]
        assert serials == list(range(await self.count("commands"))), "one event for each command, in their order"
        journal = [
            Journalled(row["position"], row["event_id"], self.topic, row["key"], row["value"], int(row["epoch"]))
            for row in rows
        ]
        effects = [Effect(row["key"], row["event_id"]) for row in await self.ask(_HEARD)]
        said = await asyncio.to_thread(published, self._settings.kafka_bootstrap_servers, [self.topic])
        return check_events(journal, said, effects)


async def _one_after_the_other(service: _Service, crashes: list[Crash]) -> None:
    """Die at every point while commands keep coming, then carry out some more and hear all."""
    await service.create()
    for crash in crashes:
        process = await service.start(crash=str(crash))
        assert await process.ended(DEATH_SECONDS_MAX) == -signal.SIGKILL, f"{crash} was not reached"
        await service.bury()
    wanted = await service.count("commands") + MORE
    process = await service.start(commands=wanted)

    async def all_heard() -> bool:
        return await service.count("heard") >= wanted

    await until(all_heard, DRAIN_SECONDS_MAX, "everything is decided and heard")
    process.send(signal.SIGTERM)
    assert await process.ended() == 0


async def test_every_crash_point_of_the_control_plane_before_and_after(
    settings: PlatformSettings, owner_dsn: str, tmp_path: Path, record_property: Any
) -> None:
    """Each step is reached, and the death there loses no event, has none take effect twice, and keeps their order."""
    crashes = Crash.each(CONTROL, SEED)
    async with Nursery(tmp_path) as nursery:
        services = [_Service(settings, owner_dsn, nursery) for _ in range(LINES)]
        await asyncio.gather(
            *(_one_after_the_other(each, crashes[index::LINES]) for index, each in enumerate(services))
        )
        for service in services:
            assert await service.judge() == []
            await drop(owner_dsn, service.name)
    record_property("deaths", len(crashes))
