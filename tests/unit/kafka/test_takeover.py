"""What a take-over does for each way a transactional id may stand, and each note about it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from aiokafka.errors import KafkaError

from interlock.kafka.takeover import Before, Note, take_over
from interlock.kafka.transaction_state import Standing

P, N = 7, 20
"""The producer id and epoch that are found."""
PLANNED, HELD = Note(P, N + 1, held=False), Note(P, N + 1, held=True)


@dataclass
class Coordinated:
    """A transactional id and its note, and what was done about them."""

    found: Standing | None
    last: Note | None = None
    given: tuple[int, int] = (P, N + 1)
    done: list[object] = field(default_factory=list)

    async def standing(self) -> Standing | None:
        return self.found

    async def noted(self) -> Note | None:
        return self.last

    async def note(self, note: Note) -> None:
        self.done.append(note)

    async def begin(self) -> tuple[int, int]:
        self.done.append("begins")
        return self.given

    async def begin_as(self, producer_id: int, epoch: int) -> None:
        self.done.append((producer_id, epoch))


@pytest.mark.parametrize(
    ("state", "note", "before", "done"),
    [
        (None, None, Before.NOTHING, ["begins"]),
        ("CompleteAbort", None, Before.ABORTED, ["begins"]),
        ("CompleteCommit", None, Before.COMMITTED, [PLANNED, "begins", HELD]),
        ("CompleteCommit", Note(P, N, held=True), Before.COMMITTED, [PLANNED, "begins", HELD]),
        ("Ongoing", None, Before.ABORTED, ["begins"]),
        ("Ongoing", Note(P, N, held=False), Before.ABORTED, ["begins"]),
        ("Ongoing", Note(P, N, held=True), Before.SEAL, [(P, N)]),
        ("Empty", None, Before.ABORTED, ["begins"]),
        ("Empty", Note(P, N, held=True), Before.SEAL, [(P, N)]),
        ("Empty", Note(P, N, held=False), Before.SEAL, [Note(P, N, held=True), (P, N)]),
        ("Empty", Note(P, N - 1, held=True), Before.ABORTED, ["begins"]),
        ("Empty", Note(P + 1, N, held=True), Before.ABORTED, ["begins"]),
    ],
)
async def test_what_is_to_be_sealed(state: str | None, note: Note | None, before: Before, done: list[object]) -> None:
    """A commit is noted before the epoch is asked for and when it is there; a noted seal is gone on with."""
    taker = Coordinated(None if state is None else Standing(state, P, N), note)
    assert await take_over(taker) is before
    assert taker.done == done


async def test_a_new_producer_id_has_nothing_to_seal_of_the_old_one() -> None:
    """Where the epochs were used up the coordinator gives another id: the note about the old one says nothing."""
    taker = Coordinated(Standing("CompleteCommit", P, N), given=(P + 1, 0))
    assert await take_over(taker) is Before.COMMITTED
    assert taker.done == [PLANNED, "begins"]


async def test_an_epoch_that_was_not_noted_is_not_used() -> None:
    """Somebody else asked between: whoever has that epoch would leave a seal that nobody can tell from work."""
    taker = Coordinated(Standing("CompleteCommit", P, N), given=(P, N + 2))
    with pytest.raises(KafkaError, match="somebody else"):
        await take_over(taker)
