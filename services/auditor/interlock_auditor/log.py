"""The log as the process knows it: its tree in memory, its key, what the witness signed, and whether to trust it.

One process writes; it alone has the tree. Another that waits for its turn answers that it has none.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from interlock.errors import Refusal, Transient
from interlock.kafka.chunks import Gap
from interlock.merkle import Tree
from interlock_auditor.checkpoint import Checkpoint, NoteKey, VerifierKey, split
from interlock_auditor.errors import LOG_UNSURE, SIZE_UNKNOWN
from interlock_auditor.verify import Finding


class Trouble(msgspec.Struct, frozen=True):
    """Why nothing is entered: in words, and the rows at fault as far as they are known."""

    detail: str
    findings: tuple[Finding, ...] = ()


class Log:
    """The state that writer, signer and HTTP share; each field has one writer."""

    def __init__(self, origin: str, key: NoteKey, witness: VerifierKey) -> None:
        self.origin = origin
        self.key = key
        self.witness_key = witness
        self.tree = Tree()
        self.leading = False
        """Whether this process is the one that writes, and has the whole tree."""
        self.writer = 0
        """The process id, at the server, of the connection that makes this process the writer."""
        self.trouble: Trouble | None = None
        """Why nothing is entered, where that is so."""
        self.signed: Checkpoint | None = None
        """The newest head that the log signed."""
        self.witnessed: Checkpoint | None = None
        """The newest head that the witness signed too, with both signatures."""
        self.witness_lost: str | None = None
        """Why the witness counts as lost, where it does."""
        self.gaps: list[Gap] = []
        self.lag = 0
        """How many offsets lie ahead in Kafka, at the last look."""

    @property
    def size(self) -> int:
        """How many entries there are."""
        return self.tree.size

    @property
    def state(self) -> str:
        """One word: witnessed, unwitnessed, lost (the witness), refused (nothing entered), waiting (not the writer)."""
        if self.trouble is not None:
            return "refused"
        if not self.leading:
            return "waiting"
        if self.witness_lost is not None:
            return "lost"
        return "witnessed" if self.witnessed is not None and self.witnessed.size == self.size else "unwitnessed"

    async def ready(self) -> None:
        """Return if entries are being taken in, or another process does; raises Transient saying what is wrong."""
        if self.trouble is not None:
            raise Transient(f"The log enters nothing: {self.trouble.detail}")

    def head(self) -> tuple[int, bytes]:
        """Return size and root; raises Transient where this process does not have the tree."""
        self.require()
        return self.tree.size, self.tree.root()

    def proof(self, seq: int, size: int) -> list[bytes]:
        """Return the path from entry `seq` to the root over `size` entries; raises Refusal(SIZE_UNKNOWN)."""
        self.require()
        if not 0 <= seq < size <= self.tree.size:
            raise Refusal(SIZE_UNKNOWN, f"There is no entry {seq} in a log of {size}; it has {self.tree.size}.")
        return self.tree.inclusion_path(seq, size)

    def consistency(self, old_size: int, size: int) -> list[bytes]:
        """Return the proof that the log of `size` begins with that of `old_size`; raises Refusal(SIZE_UNKNOWN)."""
        self.require()
        if not 0 <= old_size <= size <= self.tree.size:
            raise Refusal(SIZE_UNKNOWN, f"There is no step from {old_size} to {size} in a log of {self.tree.size}.")
        return self.tree.consistency_path(old_size, size)

    def statement(self, text: str) -> str:
        """Sign a text that is no checkpoint with the log's key; raises ValueError where it could pass for one."""
        note = self.key.sign(text)
        if split(note)[0].partition("\n")[0] == self.origin:
            raise ValueError("a statement must not begin as a checkpoint does")
        return note

    def require(self) -> None:
        """Return if this process may speak for the log; raises Refusal(LOG_UNSURE), or Transient."""
        if self.trouble is not None:
            raise Refusal(LOG_UNSURE, self.trouble.detail, findings=msgspec.to_builtins(self.trouble.findings))
        if not self.leading:
            raise Transient("Another auditor writes the log; this one waits for its turn.")


def told(findings: Sequence[Finding]) -> str:
    """Return findings in one sentence: the first three, and how many there are."""
    said = [
        f"{'entry' if each.first == each.last else 'entries'} "
        f"{each.first if each.first == each.last else f'{each.first} to {each.last}'}"
        f"{f' ({each.place})' if each.place else ''}: {each.what}"
        for each in findings[:3]
    ]
    more = f", and {len(findings) - 3} more" if len(findings) > 3 else ""
    return "; ".join(said) + more
