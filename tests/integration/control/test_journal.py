"""The journal on a real Postgres: one transaction, no repeats, no traces of what was refused."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from interlock.cause import Cause
from interlock.errors import Code, Refusal, Transient
from interlock.postgres import journal
from interlock.schemas.events import ModelCreated

NO = Code("TEST_NO", 409, "No")
CAUSE = Cause(event_id="e-1", correlation_id="c-1", actor="ada", traceparent=None)


def _created(model: str = "fraud") -> ModelCreated:
    return ModelCreated(model=model, owner="risk", created_by="ada", at=datetime(2026, 1, 2, tzinfo=UTC))


async def _counts(database: Any) -> dict[str, int]:
    return {
        table: await database.fetchval(f"SELECT count(*) FROM {table}")
        for table in ("journal", "outbox", "inbox", "commands")
    }


async def test_a_unit_writes_journal_outbox_and_inbox_together(database: Any) -> None:
    """One unit leaves one row in each, and the journal reads back as the same event with its cause."""
    async with journal.unit(database, CAUSE, consumer="me") as unit:
        event_id = await unit.append("model/fraud", _created())
    assert await _counts(database) == {"journal": 1, "outbox": 1, "inbox": 1, "commands": 0}
    (line,) = await journal.history(database, "model/fraud")
    assert line.event == _created()
    assert (line.event_id, line.actor, line.causation_id, line.correlation_id) == (event_id, "ada", "e-1", "c-1")


async def test_a_unit_that_raises_leaves_nothing(database: Any) -> None:
    """A refusal after state, journal and inbox were written takes all of them back."""

    async def change_my_mind() -> None:
        async with journal.unit(database, CAUSE, consumer="me") as unit:
            await unit.append("model/fraud", _created())
            raise Refusal(NO, "changed my mind")

    with pytest.raises(Refusal):
        await change_my_mind()
    assert await _counts(database) == {"journal": 0, "outbox": 0, "inbox": 0, "commands": 0}


async def test_an_event_heard_before_is_a_duplicate_and_its_body_does_not_run(database: Any) -> None:
    """The second unit for the same event id raises before the handler could act; another consumer still may."""
    async with journal.unit(database, CAUSE, consumer="me"):
        pass
    with pytest.raises(journal.Duplicate):
        async with journal.unit(database, CAUSE, consumer="me"):
            pytest.fail("the body ran")
    async with journal.unit(database, CAUSE, consumer="somebody-else"):
        pass


async def test_a_mistake_in_a_handler_is_no_passing_failure(database: Any) -> None:
    """Wrong SQL and wrong arguments stay bugs: waiting does not mend them."""
    with pytest.raises(asyncpg.PostgresError):
        async with journal.unit(database, CAUSE) as unit:
            await unit.connection.execute("SELECT * FROM nowhere")
    with pytest.raises(asyncpg.InterfaceError):
        async with journal.unit(database, CAUSE) as unit:
            await unit.connection.fetch("SELECT $1::int", 1, 2)


async def test_a_connection_that_dies_is_transient_and_the_next_unit_works(database: Any) -> None:
    """A backend ended in the middle of a unit costs this attempt and nothing more."""

    async def lose_the_connection() -> None:
        async with journal.unit(database, CAUSE) as unit:
            await unit.append("model/fraud", _created())
            await unit.connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(Transient):
        await lose_the_connection()
    assert (await _counts(database))["journal"] == 0
    async with journal.unit(database, CAUSE) as unit:
        await unit.append("model/fraud", _created())
    assert (await _counts(database))["journal"] == 1


async def test_a_command_with_the_same_key_is_carried_out_once(database: Any) -> None:
    """Ten at once with one key: one event, ten equal answers."""

    async def decide(unit: journal.Unit) -> dict[str, Any]:
        return {"id": await unit.append("model/fraud", _created())}

    answers = await asyncio.gather(
        *(journal.command(database, "key-1", CAUSE, decide, request={"model": "fraud"}) for _ in range(10))
    )
    assert len({answer["id"] for answer in answers}) == 1
    assert await _counts(database) == {"journal": 1, "outbox": 1, "inbox": 0, "commands": 1}


async def test_a_key_used_for_another_command_is_refused(database: Any) -> None:
    """The stored digest tells another request under the same key; another person's key is another key."""

    async def decide(unit: journal.Unit) -> dict[str, Any]:
        return {"id": await unit.append("model/fraud", _created())}

    await journal.command(database, "key-1", CAUSE, decide, request={"model": "fraud"})
    with pytest.raises(Refusal) as caught:
        await journal.command(database, "key-1", CAUSE, decide, request={"model": "other"})
    assert caught.value.code is journal.IDEMPOTENCY_KEY_REUSED
    other = Cause(event_id="e-2", correlation_id="c-2", actor="bob", traceparent=None)
    await journal.command(database, "key-1", other, decide, request={"model": "other"})
    assert (await _counts(database))["commands"] == 2


async def test_a_refused_command_may_be_tried_again_with_its_key(database: Any) -> None:
    """What was refused is not remembered: the reason may have gone."""

    async def no(unit: journal.Unit) -> None:
        await unit.append("model/fraud", _created())
        raise Refusal(NO, "not yet")

    async def yes(unit: journal.Unit) -> dict[str, Any]:
        return {"id": await unit.append("model/fraud", _created())}

    with pytest.raises(Refusal):
        await journal.command(database, "key-1", CAUSE, no)
    await journal.command(database, "key-1", CAUSE, yes)
    assert await _counts(database) == {"journal": 1, "outbox": 1, "inbox": 0, "commands": 1}


async def test_the_journal_cannot_be_rewritten_by_its_service(database: Any) -> None:
    """The service's own role may neither change nor delete history, nor make tables, nor see another's schema."""
    async with journal.unit(database, CAUSE) as unit:
        await unit.append("model/fraud", _created())
    for statement in (
        "UPDATE journal SET actor = 'nobody'",
        "DELETE FROM journal",
        "DELETE FROM outbox",
        "UPDATE outbox SET topic = 'other'",
        "DELETE FROM inbox",
        "UPDATE commands SET answer = '{}'",
        "DELETE FROM lease",
        "TRUNCATE journal",
        "CREATE TABLE mine (a int)",
        "CREATE TEMPORARY TABLE mine (a int)",
        "CREATE TABLE public.mine (a int)",
        "DELETE FROM migrations",
        "SET ROLE interlock_owner",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await database.execute(statement)
