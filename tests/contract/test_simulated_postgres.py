"""The simulated PostgreSQL means by the platform's statements what a real one does: the same scenes on both."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import asyncpg
import pytest

from interlock.cause import Cause
from interlock.codec import rows
from interlock.errors import Transient
from interlock.ids import uuid7
from interlock.postgres import journal, migrate, pool
from interlock.postgres.lease import Lease
from interlock.postgres.outbox import Relay
from interlock.schemas.events import ModelCreated
from interlock.testing.publisher import RecordingPublisher
from tests.simulation.loop import START, VirtualLoop, simulate
from tests.simulation.postgres import Database, SimulatedPool
from tests.simulation.postgres_statements import meaning_of

LEASE_SECONDS = 0.4
Scene = Callable[[Any], Awaitable[None]]


@dataclass(frozen=True)
class _Waits:
    """Waiting for a lease to run out."""

    seconds_max: float = 5.0

    async def until_taken(self, lease: Lease) -> int:
        async with asyncio.timeout(self.seconds_max):
            while (epoch := await lease.acquire()) is None:
                await asyncio.sleep(0.02)
        return epoch


def _event(model: str, serial: int) -> ModelCreated:
    return ModelCreated(model=model, owner=str(serial), created_by="writer", at=START)


def _cause(name: str) -> Cause:
    return Cause(event_id=name, correlation_id="c", actor="ada")


async def _relayed(database: Any) -> list[str]:
    """Publish what is ready, and return what it was."""
    publisher = RecordingPublisher()
    async with database.acquire() as connection:
        await Relay("", publisher, "x").relay_once(connection)
    return [rows.decode(message.value).owner for message in publisher.messages]


async def one_holder_and_a_rising_epoch(database: Any) -> None:
    """A lease is one's own until it runs out or is given up; each holder has a higher epoch, and only he is fenced."""
    old, new = Lease(database, "l", "old", LEASE_SECONDS), Lease(database, "l", "new", 30)
    assert await old.acquire() == 1
    assert await new.acquire() is None
    assert await old.renew() and await old.acquire() == 1
    assert await _Waits().until_taken(new) == 2
    with pytest.raises(Transient):
        async with database.acquire() as connection, connection.transaction():
            await old.fence(connection)
    assert not await old.renew()
    async with database.acquire() as connection, connection.transaction():
        assert await new.fence(connection) == 2
    await new.release()
    again = Lease(database, "l", "old", 30)
    assert await again.acquire() == 3


async def a_fence_holds_to_the_end_of_its_transaction(database: Any) -> None:
    """Nobody takes over between a fence and its commit, though the time is up."""
    old, new = Lease(database, "l", "old", LEASE_SECONDS), Lease(database, "l", "new", 30)
    await old.acquire()
    async with database.acquire() as connection, connection.transaction():
        assert await old.fence(connection) == 1
        taking = asyncio.create_task(new.acquire())
        await asyncio.sleep(LEASE_SECONDS * 1.5)
        assert not taking.done()
    assert await taking in (2, None)
    assert await _Waits().until_taken(new) == 2


async def what_is_rolled_back_was_never_said(database: Any) -> None:
    """A unit that raises leaves neither journal nor outbox nor inbox; its position is used up."""

    async def fails() -> None:
        async with journal.unit(database, _cause("e-1"), consumer="me") as unit:
            await unit.append("s", _event("m", 1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails()
    async with journal.unit(database, _cause("e-1"), consumer="me") as unit:
        await unit.append("s", _event("m", 2))
    with pytest.raises(journal.Duplicate):
        async with journal.unit(database, _cause("e-1"), consumer="me"):
            """What was heard is heard once."""
    assert await _relayed(database) == ["2"]
    assert await _relayed(database) == []


async def rows_wait_for_older_transactions(database: Any) -> None:
    """The gate: what a younger transaction committed waits for every older one that runs."""
    async with journal.unit(database, _cause("older"), consumer="me"):
        async with journal.unit(database, _cause("younger"), consumer="me") as younger:
            await younger.append("s", _event("m", 1))
        assert await _relayed(database) == []
    assert await _relayed(database) == ["1"]


async def the_gate_cuts_a_prefix(database: Any) -> None:
    """A middle transaction holds back the first event of a key, so the second waits too."""
    async with journal.unit(database, _cause("early"), consumer="me") as early:
        middle = journal.unit(database, _cause("middle"), consumer="me")
        await middle.__aenter__()
        async with journal.unit(database, _cause("late"), consumer="me") as late:
            await late.append("s", _event("m", 1))
        await early.append("s", _event("m", 2))
    assert await _relayed(database) == []
    await middle.__aexit__(None, None, None)
    assert await _relayed(database) == ["1", "2"]


async def a_stream_is_locked_to_the_commit(database: Any) -> None:
    """The second unit of a stream appends behind the commit of the first."""
    second: asyncio.Task[None]

    async def append() -> None:
        async with journal.unit(database, _cause("second")) as unit:
            await unit.append("s", _event("m", 2))

    async with journal.unit(database, _cause("first")) as first:
        await first.append("s", _event("m", 1))
        second = asyncio.create_task(append())
        await asyncio.wait({second}, timeout=0.3)
        assert not second.done()
    await second
    assert await _relayed(database) == ["1", "2"]


async def a_command_is_carried_out_once(database: Any) -> None:
    """The same key again returns the answer, also while the first still runs."""
    done: list[int] = []

    async def decide(unit: journal.Unit) -> str:
        done.append(1)
        await asyncio.sleep(0.1)
        return await unit.append("s", _event("m", len(done)))

    answers = await asyncio.gather(*(journal.command(database, "k", _cause("c"), decide) for _ in range(3)))
    assert len(set(answers)) == 1 and len(done) == 1
    assert await _relayed(database) == ["1"]


SCENES: tuple[Scene, ...] = (
    one_holder_and_a_rising_epoch,
    a_fence_holds_to_the_end_of_its_transaction,
    what_is_rolled_back_was_never_said,
    rows_wait_for_older_transactions,
    the_gate_cuts_a_prefix,
    a_stream_is_locked_to_the_commit,
    a_command_is_carried_out_once,
)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
@pytest.mark.parametrize("seed", range(5))
def test_the_simulated_one_keeps_the_contract(scene: Scene, seed: int) -> None:
    """Each scene, with five seeds of the simulation."""

    async def story(loop: VirtualLoop) -> None:
        await scene(SimulatedPool(Database(loop, meaning_of)))

    simulate(seed, story)


@pytest.fixture
async def database(servers: dict[str, str]) -> AsyncIterator[Any]:
    """Return a pool on a schema of this test's own."""
    owner, service = servers["INTERLOCK_POSTGRES_OWNER_DSN"], f"t{uuid7().replace('-', '')[-20:]}"
    password, role = secrets.token_hex(8), migrate.role_of(service)
    await migrate.migrate(owner, service, [], password)
    opened = await pool.connect(f"postgresql://{role}:{password}@{owner.split('@', 1)[1]}", connections_max=10)
    yield opened
    opened.terminate()
    connection = await asyncpg.connect(owner)
    await connection.execute(f"GRANT {role} TO CURRENT_USER")
    await connection.execute(f"DROP SCHEMA IF EXISTS {service} CASCADE; DROP OWNED BY {role}; DROP ROLE {role}")
    await connection.close()


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
async def test_the_real_one_keeps_the_contract(scene: Scene, database: Any) -> None:
    """Each scene, on a server."""
    await scene(database)


def test_a_statement_that_is_not_known_is_no_statement() -> None:
    """Whoever changes a statement of the product hears of it here, and says what it means."""
    from interlock.postgres import lease

    with patch.object(lease, "_RENEW", lease._RENEW.replace("$4", "$5")), pytest.raises(AssertionError):
        meaning_of(lease._RENEW)
