"""How a transactional id stands with its coordinator: a question (KIP-664) that the driver does not know.

A coordinator answers a commit once it is decided; the markers that make it visible follow. A broker that comes back
from a crash may give markers up: where a partition has no leader at that moment it takes the partition for deleted,
and calls the transaction complete. The records then stay open in the log, invisible, and the next transaction of
the same producer decides about them. So a producer that must know waits for `settled`, and one that starts anew
looks, before it asks for its producer id, how things are `standing`.
"""

# ruff: noqa: SLF001 - the question is asked through the sender, which the driver keeps to itself

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.client import CoordinationType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.struct import Struct
from aiokafka.protocol.types import CompactArray, CompactString, Int16, Int32, Int64, Schema, TaggedFields

from interlock.kafka.coordinator import PAUSE_SECONDS, ask

EMPTY: Final = "Empty"
"""Somebody asked for a producer id, and began nothing with it."""
ONGOING: Final = "Ongoing"
ENDING: Final = ("PrepareCommit", "PrepareAbort", "PrepareEpochFence")
"""Decided, but not everywhere to be seen."""
UNSETTLED: Final = (ONGOING, *ENDING)

_API_KEY: Final = 65
_UNKNOWN_ID: Final = 105
_COMMITTED: Final = "CompleteCommit"


class _Answer(Response):  # type: ignore[misc]  # aiokafka's classes have no types
    API_KEY = _API_KEY
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_milliseconds", Int32),
        (
            "states",
            CompactArray(
                ("error_code", Int16),
                ("transactional_id", CompactString("utf-8")),
                ("state", CompactString("utf-8")),
                ("timeout_milliseconds", Int32),
                ("started_at", Int64),
                ("producer_id", Int64),
                ("producer_epoch", Int16),
                (
                    "topics",
                    CompactArray(
                        ("topic", CompactString("utf-8")),
                        ("partitions", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _Question(RequestStruct):  # type: ignore[misc]  # aiokafka's classes have no types
    FLEXIBLE_VERSION = True
    API_KEY = _API_KEY
    API_VERSION = 0
    RESPONSE_TYPE = _Answer
    SCHEMA = Schema(("transactional_ids", CompactArray(CompactString("utf-8"))), ("tags", TaggedFields))


class _DescribeTransactions(Request[_Question]):  # type: ignore[misc]  # aiokafka's classes have no types
    API_KEY = _API_KEY

    def __init__(self, transactional_id: str) -> None:
        self._transactional_id = transactional_id

    def build(self, request_struct_class: type[Struct]) -> Struct:
        return request_struct_class([self._transactional_id], {})


@dataclass(frozen=True)
class Standing:
    """How a transactional id stands."""

    state: str
    """The coordinator's word for it."""
    producer_id: int
    epoch: int

    @property
    def committed(self) -> bool:
        """Say whether its last transaction was; forgotten when somebody asks for a producer id."""
        return self.state == _COMMITTED


async def standing(sender: Any) -> Standing | None:
    """Return how a sender's transactional id stands, None where it was never used; raises KafkaError.

    Waits while the coordinator brings an end about that is decided: the epoch that follows is known only then.
    """
    return await _outside(sender, ENDING)


async def settled(producer: AIOKafkaProducer) -> None:
    """Return once the producer's last transaction is complete, markers included.

    Raises KafkaError when the coordinator went away before it said so: whether the markers came is then unknown.
    """
    await _outside(producer._sender, UNSETTLED)


async def _outside(sender: Any, states: Sequence[str]) -> Standing | None:
    """Ask until the id stands in none of these."""
    while (found := await _described(sender)) is not None and found.state in states:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(PAUSE_SECONDS)
    return found


async def _described(sender: Any) -> Standing | None:
    """Ask the coordinator; None for an id it has never seen."""
    name = sender._txn_manager.transactional_id
    question = _DescribeTransactions(name)
    answer = await ask(sender, CoordinationType.TRANSACTION, name, question, _code)
    [(code, _, state, _, _, producer_id, epoch, *_)] = answer.states
    return None if code == _UNKNOWN_ID else Standing(str(state), int(producer_id), int(epoch))


def _code(answer: Any) -> int:
    code = int(answer.states[0][0])
    return 0 if code == _UNKNOWN_ID else code
