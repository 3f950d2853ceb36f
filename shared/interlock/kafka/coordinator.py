"""Questions to a coordinator that the driver does not ask, sent the way its sender sends its own."""

# ruff: noqa: SLF001 - the driver keeps its way to coordinators to itself

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.api import Request

PAUSE_SECONDS: Final = 0.005
_LOADING, _NOT_AVAILABLE, _ELSEWHERE = 14, 15, 16


async def ask(
    sender: Any, role: CoordinationType, key: str, question: Request[Any], code_of: Callable[[Any], int]
) -> Any:
    """Return the answer of a group's or a transactional id's coordinator, which is looked for again where it moved.

    `code_of` finds an answer's error code. Raises KafkaError for any code that does not pass by itself.
    """
    while True:
        node_id = await sender._find_coordinator(role, key)
        answer = await sender.client.send(node_id, question, group=ConnectionGroup.COORDINATION)
        code = code_of(answer)
        if code == 0:
            return answer
        if code not in (_LOADING, _NOT_AVAILABLE, _ELSEWHERE):
            raise KafkaError(f"The coordinator of {key} says {for_code(code).__name__} ({code}).")
        sender._coordinator_dead(role)
        await asyncio.sleep(PAUSE_SECONDS)
