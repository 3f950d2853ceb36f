"""Where it is noted which seal is under way: an offset, in a group of its own, at the lane's first input partition.

The group is `{family}-seals`, the family being what the transactional id begins with; the offset is the producer's
epoch, its metadata the producer id and whether whoever wrote it has that epoch already. It stands beside the offsets
that lanes commit, and is replicated like them.
"""

# ruff: noqa: SLF001 - the driver keeps its way to coordinators to itself

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.client import CoordinationType
from aiokafka.protocol.api import Request
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest

from interlock.kafka.coordinator import ask
from interlock.kafka.takeover import Note

_NO_MEMBER: Final = (-1, "")
_NO_RETENTION: Final = -1
_HELD: Final = "held"
_PLANNED: Final = "planned"


class SealNotes:
    """The note of one lane; both ways raise KafkaError where its coordinator is out of reach."""

    def __init__(self, family: str, source: TopicPartition) -> None:
        self._group = f"{family}-seals"
        self._source = source

    async def read(self, sender: Any) -> Note | None:
        """Return the note, or None where there never was one."""
        topic, partition = self._source
        question = OffsetFetchRequest(self._group, [(topic, [partition])])
        answer = await self._ask(sender, question, lambda answer: answer.error_code or _code(answer))
        [(_, epoch, said, _)] = answer.topics[0][1]
        producer_id, _, come = said.partition(" ")
        return Note(int(producer_id), epoch, held=come == _HELD) if epoch >= 0 else None

    async def write(self, sender: Any, note: Note) -> None:
        """Replace the note; where this raises, it may have been."""
        topic, partition = self._source
        said = f"{note.producer_id} {_HELD if note.held else _PLANNED}"
        topics = [(topic, [(partition, note.epoch, said)])]
        await self._ask(sender, OffsetCommitRequest(self._group, *_NO_MEMBER, _NO_RETENTION, topics), _code)

    async def _ask(self, sender: Any, request: Request[Any], code_of: Callable[[Any], int]) -> Any:
        """Ask, and let the sender forget this coordinator: it keeps one for all groups."""
        try:
            return await ask(sender, CoordinationType.GROUP, self._group, request, code_of)
        finally:
            sender._coordinator_dead(CoordinationType.GROUP)


def _code(answer: Any) -> int:
    """Return the error code of the one partition: what is said of it ends with it."""
    return int(answer.topics[0][1][0][-1])
