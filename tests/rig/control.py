"""A service as small as one can be, to be hurt: it decides under a lease, says it by its outbox, hears it by its inbox.

Its commands are numbered; number N makes the event `ModelCreated(model=k<N % KEYS>, owner=<N>)`, and what is heard of
it is a row of the table `heard`, without any key of its own that would hide a repetition.
"""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any, Final

from interlock.cause import Cause
from interlock.clock import SystemClock
from interlock.dispatch import Dispatch
from interlock.ids import uuid7
from interlock.kafka.consumer import ControlConsumer
from interlock.kafka.producer import TransactionalPublisher
from interlock.postgres import journal, pool
from interlock.postgres.lease import Lease
from interlock.postgres.outbox import Relay
from interlock.postgres.pool import borrowed
from interlock.schemas.events import ModelCreated
from interlock.service import _loop
from interlock.settings import PlatformSettings

KEYS: Final = 7
LEASE: Final = "leader"
LEASE_SECONDS: Final = 0.8
RENEW_EVERY: Final = 4
AGAIN: Final = 3
"""How many commands that may have been carried out are given once more, under their old keys."""
PAUSE_SECONDS: Final = 0.01
RETRY_SECONDS_MAX: Final = 0.2
HEARD: Final = "CREATE TABLE {service}.heard (at bigserial PRIMARY KEY, key text, event_id uuid, serial bigint)"
"""What the owner of the database makes for it, and grants."""


class Toy:
    """The service's parts, put together by hand, so that nothing but what is to be hurt takes part."""

    def __init__(
        self, settings: PlatformSettings, service: str, topic: str, commands: float, database: Any, dsn: str
    ) -> None:
        self.stopping = asyncio.Event()
        self._commands = commands
        self._database = database
        self._lease = Lease(database, LEASE, uuid7(), LEASE_SECONDS)
        ModelCreated.TOPIC = topic
        dispatch = Dispatch(service, {topic: {ModelCreated: _on_model_created}}, {}, database, SystemClock())
        consumer = ControlConsumer(settings, service, [topic], dispatch.decode, dispatch.handle, stopping=self.stopping)
        publisher = TransactionalPublisher(settings, f"{service}.outbox")
        relay = Relay(dsn, publisher, service, stopping=self.stopping, retry_seconds_max=RETRY_SECONDS_MAX)
        self._loops = (consumer.run, relay.run, self._decide)

    async def run(self) -> None:
        """Work until told to stop."""
        async with asyncio.TaskGroup() as group:
            for loop in self._loops:
                group.create_task(_loop(loop, self.stopping, RETRY_SECONDS_MAX))

    async def _decide(self) -> None:
        """Carry out commands as the leader, from a few before the last that may have been carried out."""
        async with borrowed(self._database) as connection:
            number = max(0, await connection.fetchval("SELECT count(*) FROM commands") - AGAIN)
        while not self.stopping.is_set():
            if self._lease.epoch is None:
                await self._lease.acquire()
            elif number % RENEW_EVERY == 0 or number >= self._commands:
                await self._lease.renew()
            if self._lease.epoch is not None and number < self._commands:
                await self._command(number)
                number += 1
            await asyncio.sleep(PAUSE_SECONDS)
        await self._lease.release()

    async def _command(self, number: int) -> None:
        """Give one command until it is known to be carried out; lost leadership goes through."""

        async def decide(unit: journal.Unit) -> str:
            epoch = await self._lease.fence(unit.connection)
            model = f"k{number % KEYS}"
            event = ModelCreated(model=model, owner=str(number), created_by=f"{epoch}", at=unit.clock.now())
            return await unit.append(f"model/{model}", event)

        await journal.command(self._database, f"key-{number}", Cause.start("rig"), decide, request=number)


async def _on_model_created(event: ModelCreated, unit: journal.Unit) -> None:
    """Leave a trace in the same transaction as the inbox row."""
    await unit.connection.execute(
        "INSERT INTO heard (key, event_id, serial) VALUES ($1, $2::text::uuid, $3)",
        event.model,
        unit.cause.event_id,
        int(event.owner),
    )


async def run(settings: str, service: str, topic: str, commands: str = "inf") -> None:
    """Be the service until SIGTERM, for so many commands in all; `settings` has the service's own `postgres_dsn`."""
    values = json.loads(settings)
    dsn = values["postgres_dsn"]
    database = await pool.connect(dsn)
    toy = Toy(PlatformSettings.model_validate(values), service, topic, float(commands), database, dsn)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, toy.stopping.set)
    try:
        await toy.run()
    finally:
        database.terminate()
