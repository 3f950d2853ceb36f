"""Bugs that the control plane could have, one at a time: clauses that SQL lacks, and steps in the wrong order."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any
from unittest.mock import patch

from msgspec.structs import replace

from interlock.kafka.consumer import ControlConsumer
from interlock.postgres import journal, lease, outbox
from interlock.postgres.outbox import Relay
from interlock_deployer import model, store
from tests.simulation.outcome import Plant
from tests.simulation.postgres_statements import (
    BEHIND,
    EPOCH,
    FOR_UPDATE,
    FREE,
    GATE,
    HEARD_ANYWAY,
    HOLDER,
    IN_TIME,
    NOTHING,
    SHARED,
)

Place = AbstractContextManager[Any]


def _lacks(module: Any, name: str, *clauses: str) -> Callable[[], Place]:
    """Take clauses out of a statement."""

    def put_in() -> Place:
        text = re.sub(r"\s+", " ", getattr(module, name))
        for clause in clauses:
            assert clause in text, f"{name} has no {clause} that it could lack"
            text = text.replace(clause, "")
        return patch.object(module, name, text)

    return put_in


async def _by_position(self: Relay, connection: Any) -> int:
    """The naive relay: what lies behind the last position that it saw."""
    last = getattr(self, "_last", 0)
    found = await connection.fetch(BEHIND, last, 500)
    if found:
        await self._publisher.publish([self._message(row) for row in found])
        await connection.execute(outbox._MARK, [row["position"] for row in found])
        self._last = found[-1]["position"]  # type: ignore[attr-defined]  # the plant's own memory
    return len(found)


async def _marks_first(self: Relay, connection: Any) -> int:
    found = await connection.fetch(outbox._TAKE, 500)
    if found:
        await connection.execute(outbox._MARK, [row["position"] for row in found])
        await self._publisher.publish([self._message(row) for row in found])
    return len(found)


_OUTCOME = ControlConsumer._outcome
_COMMAND = journal.command
_PROMOTED = model.promoted


async def _offset_first(self: ControlConsumer, record: Any) -> Any:
    from aiokafka import TopicPartition

    assert self._consumer is not None
    await self._commit(self._consumer, TopicPartition(record.topic, record.partition), record.offset + 1)
    return await _OUTCOME(self, record)


def _goes_on(self: ControlConsumer, consumer: Any, record: Any, transient: Any) -> None:
    """Take what failed for done."""


async def _without_key(pool: Any, key: Any, cause: Any, decide: Any, **more: Any) -> Any:
    return await _COMMAND(pool, None, cause, decide, **more)


def _any_order(rollout: Any, *arguments: Any) -> Any:
    return _PROMOTED(replace(rollout, applied=0, order=None), *arguments)


def _both(first: Callable[[], Place], second: Callable[[], Place]) -> Place:
    stack = ExitStack()
    stack.enter_context(first())
    stack.enter_context(second())
    return stack


EVENT_PLANTS = (
    Plant(
        "the relay reads behind a position",
        lambda: patch.object(Relay, "relay_once", _by_position),
        {"EVENT_LOST", "EVENT_ORDER"},
    ),
    Plant(
        "the relay marks before it publishes", lambda: patch.object(Relay, "relay_once", _marks_first), {"EVENT_LOST"}
    ),
    Plant("streams are not locked", lambda: patch.object(journal, "_LOCK", NOTHING), {"EVENT_ORDER"}),
    Plant(
        "streams are not locked and the relay has no gate",
        lambda: _both(lambda: patch.object(journal, "_LOCK", NOTHING), _lacks(outbox, "_TAKE", GATE)),
        {"EVENT_ORDER"},
    ),
    Plant("there is no inbox", lambda: patch.object(journal, "_HEAR", NOTHING), {"EVENT_DUPLICATE"}),
    Plant(
        "the offset is committed before the unit",
        lambda: patch.object(ControlConsumer, "_outcome", _offset_first),
        {"EVENT_LOST"},
    ),
    Plant(
        "an event whose database was away is passed over",
        lambda: patch.object(ControlConsumer, "_pause", _goes_on),
        {"EVENT_LOST"},
    ),
    Plant(
        "a command is tried again without its key",
        lambda: patch.object(journal, "command", _without_key),
        {"EVENT_TWICE_DECIDED"},
    ),
)
DEPLOYER_PLANTS = (
    Plant(
        "a lease is renewed and fenced by whoever asks",
        lambda: _both(_lacks(lease, "_RENEW", HOLDER, EPOCH), _lacks(lease, "_FENCE", HOLDER, EPOCH)),
        {"LEADERS"},
    ),
    Plant("the fence looks at nothing", _lacks(lease, "_FENCE", HOLDER, EPOCH, IN_TIME, SHARED), {"LEADERS"}),
    Plant("the fence does not hold", _lacks(lease, "_FENCE", SHARED), {"LEADERS"}),
    Plant("a rollout is read without its lock", _lacks(store, "_LOCK", FOR_UPDATE), {"STATE", "BUG", "ORDERS"}),
    Plant(
        "an order that is heard again is carried out again",
        lambda: _both(
            lambda: patch.object(journal, "_HEAR", HEARD_ANYWAY), lambda: patch.object(model, "promoted", _any_order)
        ),
        {"ORDERS", "STATE", "BUG"},
    ),
)
HARMLESS: dict[str, Plant] = {
    # What is held twice: that each key keeps its order is held by the lock on its stream too, not by the gate alone.
    "events": Plant("the relay has no gate, but streams are locked", _lacks(outbox, "_TAKE", GATE), set()),
    # And that only one acts is held by the fence of each unit, whoever takes the lease when.
    "deployer": Plant(
        "a lease is taken though it is held, but units are fenced", _lacks(lease, "_ACQUIRE", FREE), set()
    ),
}
