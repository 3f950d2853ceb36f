"""How a transactional id stands with its coordinator: a question (KIP-664) that the driver does not know.

A coordinator answers a commit once it is decided; the markers that make it visible follow. A broker that comes back
from a crash may give markers up: where a partition has no leader at that moment it takes the partition for deleted,
and calls the transaction complete. The records then stay open in the log, invisible, and the next transaction of
the same producer decides about them. So a producer that must know waits for `settled`, and one that starts anew
looks, before it asks for its producer id, what was `decided` last.
"""

# ruff: noqa: SLF001 - the question is asked through the sender, which the driver keeps to itself

from __future__ import annotations

import asyncio
from enum import Enum
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.struct import Struct
from aiokafka.protocol.types import CompactArray, CompactString, Int16, Int32, Int64, Schema, TaggedFields

_API_KEY: Final = 65
_UNKNOWN_ID: Final = 105
_LOADING, _NOT_AVAILABLE, _ELSEWHERE = 14, 15, 16
_COMMITTED: Final = ("PrepareCommit", "CompleteCommit")
_UNSETTLED: Final = ("Ongoing", "PrepareCommit", "PrepareAbort", "PrepareEpochFence")
_PAUSE_SECONDS: Final = 0.005


class Decision(Enum):
    """What is known of a transactional id's last transaction."""

    NEVER_USED = "never used"
    COMMIT = "commit"
    ABORT = "abort"
    """Decided or yet to be: what nobody decided to commit is aborted."""


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


async def decided(sender: Any) -> Decision:
    """Return what was decided about the last transaction of a sender's transactional id; raises KafkaError.

    Only an answer from before InitProducerId counts: after it the coordinator has forgotten.
    """
    state = await _state(sender)
    if state is None:
        return Decision.NEVER_USED
    return Decision.COMMIT if state in _COMMITTED else Decision.ABORT


async def settled(producer: AIOKafkaProducer) -> None:
    """Return once the producer's last transaction is complete, markers included.

    Raises KafkaError when the coordinator went away before it said so: whether the markers came is then unknown.
    """
    while await _state(producer._sender) in _UNSETTLED:  # noqa: ASYNC110 - the coordinator announces nothing
        await asyncio.sleep(_PAUSE_SECONDS)


async def _state(sender: Any) -> str | None:
    """Ask the coordinator, looking for it again where it moved or still loads; None for an id it has never seen."""
    transactional_id = sender._txn_manager.transactional_id
    while True:
        node_id = await sender._find_coordinator(CoordinationType.TRANSACTION, transactional_id)
        question = _DescribeTransactions(transactional_id)
        answer = await sender.client.send(node_id, question, group=ConnectionGroup.COORDINATION)
        [(code, _, state, *_)] = answer.states
        if code == _UNKNOWN_ID:
            return None
        if code == 0:
            return str(state)
        if code not in (_LOADING, _NOT_AVAILABLE, _ELSEWHERE):
            raise KafkaError(f"The state of {transactional_id} is unknown: {for_code(code).__name__} ({code}).")
        sender._coordinator_dead(CoordinationType.TRANSACTION)
        await asyncio.sleep(_PAUSE_SECONDS)
