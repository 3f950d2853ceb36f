"""Taking over a transactional id so that what was decided about its last transaction outlives any number of lives.

InitProducerId fences whoever had the id, and makes the coordinator forget how the transaction before was decided. Who
finds one committed has to seal it after that (its markers may be lost), and would, cut off in between, leave nobody
who knows that records were promised: the life after would abort them. So it is noted first. Who finds a seal cut off
goes on with it, as the producer that began it, and takes over then. No note is ever taken back: a seal ends with a new
epoch, and a note about an epoch that is over says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol

from aiokafka.errors import KafkaError

from interlock.kafka.transaction_state import EMPTY, ONGOING, Standing


class Before(Enum):
    """What a take-over found, and has to seal."""

    NOTHING = "nothing"
    """The transactional id was never used."""
    COMMITTED = "committed"
    ABORTED = "aborted"
    """Also what nobody had decided: to take over decides it."""
    SEAL = "seal"
    """A committed transaction whose seal was cut off. It is gone on with as the producer before: not taken over yet."""


@dataclass(frozen=True)
class Note:
    """With this producer nothing is done but to seal a transaction that was committed."""

    producer_id: int
    epoch: int
    held: bool
    """Whoever wrote it has the epoch; else he was about to ask for it, and another may have come to it by working."""

    def is_about(self, found: Standing) -> bool:
        """Say whether what a transactional id is doing, or was about to do, is that seal."""
        if (self.producer_id, self.epoch) != (found.producer_id, found.epoch):
            return False
        return found.state == EMPTY or (found.state == ONGOING and self.held)


class Taker(Protocol):
    """Whoever wants a transactional id; each question may raise KafkaError, and then may have been answered."""

    async def standing(self) -> Standing | None:
        """Return how the id stands once nothing that is decided is under way any more; None where it was never used."""
        ...

    async def noted(self) -> Note | None:
        """Return the last note."""
        ...

    async def note(self, note: Note) -> None:
        """Write a note in place of the last."""
        ...

    async def begin(self) -> tuple[int, int]:
        """Fence whoever had the id; return the producer id and epoch. Never asked twice: each time gives an epoch."""
        ...

    async def begin_as(self, producer_id: int, epoch: int) -> None:
        """Go on as the producer that has the id."""
        ...


async def take_over(taker: Taker) -> Before:
    """Take a transactional id over and return what is to be sealed; raises KafkaError."""
    found = await taker.standing()
    if found is None:
        await taker.begin()
        return Before.NOTHING
    if found.state in (EMPTY, ONGOING) and (note := await taker.noted()) is not None and note.is_about(found):
        if not note.held:
            await taker.note(replace(note, held=True))
        await taker.begin_as(found.producer_id, found.epoch)
        return Before.SEAL
    if not found.committed:
        await taker.begin()
        return Before.ABORTED
    planned = Note(found.producer_id, found.epoch + 1, held=False)
    await taker.note(planned)
    producer_id, epoch = await taker.begin()
    if (producer_id, epoch) == (planned.producer_id, planned.epoch):
        await taker.note(replace(planned, held=True))
    elif producer_id == planned.producer_id:
        raise KafkaError("somebody else took the transactional id over at the same time")
    return Before.COMMITTED
