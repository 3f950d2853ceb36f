"""The witness's memory: it only goes on, and what it answered is on its disk whatever happened in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlock import auth, merkle
from interlock.errors import InterlockError, Refusal
from interlock_auditor.checkpoint import COSIGNATURE, ED25519, Checkpoint, NoteKey
from interlock_auditor.errors import LOG_FORKED, LOG_SHRUNKEN, NOTE_REFUSED, WITNESS_SIZE_DIFFERS
from interlock_auditor.witness_memory import Memory

ORIGIN = "interlock/audit"
LOG = NoteKey(ORIGIN, ED25519, auth.generate_keys()[0])
WITNESS = NoteKey("interlock/witness", COSIGNATURE, auth.generate_keys()[0])
LEAVES = [merkle.leaf_hash(str(number).encode()) for number in range(40)]


def opened(folder: Path) -> Memory:
    memory = Memory(folder, LOG.public, ORIGIN, WITNESS)
    memory.open()
    return memory


def head(size: int, key: NoteKey = LOG, leaves: list[bytes] = LEAVES) -> str:
    return Checkpoint.signed(ORIGIN, size, merkle.root(leaves[:size]), key).note


def between(first: int, behind: int) -> bytes:
    return b"".join(LEAVES[first:behind])


def test_a_growing_log_is_cosigned_and_remembered(tmp_path: Path) -> None:
    """Each step is signed with its time; a new process knows the same head and hashes."""
    memory = opened(tmp_path)
    for old, new in ((0, 1), (1, 9), (9, 9), (9, 40)):
        line = memory.take(head(new), old, between(old, new), 1_000 + new)
        assert WITNESS.public.check(head(new) + line) == 1_000 + new
    again = opened(tmp_path)
    assert (again.tree.size, again.tree.root(), again.head) == (40, merkle.root(LEAVES), memory.head)


@pytest.mark.parametrize("case", ["fork", "shorter", "gap", "stranger", "other log", "too few"])
def test_what_does_not_go_on_changes_nothing(tmp_path: Path, case: str) -> None:
    """A fork, a shorter log, a gap, a foreign key, another log: refused, and the next true step is signed."""
    memory = opened(tmp_path)
    memory.take(head(10), 0, between(0, 10), 1)
    other = [*LEAVES[:5], bytes(32), *LEAVES[6:]]
    asked, code = {
        "fork": ((head(12, leaves=other), 10, between(10, 12)), LOG_FORKED),
        "shorter": ((head(9), 9, b""), LOG_SHRUNKEN),
        "gap": ((head(14), 12, between(12, 14)), WITNESS_SIZE_DIFFERS),
        "stranger": ((head(12, NoteKey(ORIGIN, ED25519, auth.generate_keys()[0])), 10, between(10, 12)), NOTE_REFUSED),
        "other log": ((Checkpoint.signed("x", 12, merkle.root(LEAVES[:12]), LOG).note, 10, b""), NOTE_REFUSED),
        "too few": ((head(12), 10, between(10, 11)), WITNESS_SIZE_DIFFERS),
    }[case]
    with pytest.raises(Refusal) as refused:
        memory.take(*asked, 2)
    assert refused.value.code is code
    assert memory.tree.size == 10
    memory.take(head(12), 10, between(10, 12), 3)
    assert opened(tmp_path).tree.root() == merkle.root(LEAVES[:12])


def test_hashes_behind_the_head_of_a_crash_are_forgotten(tmp_path: Path) -> None:
    """Dying between hashes and head leaves hashes that nobody was answered for: the next attempt writes over them."""
    memory = opened(tmp_path)
    memory.take(head(10), 0, between(0, 10), 1)
    with (tmp_path / "leaves").open("ab") as file:
        file.write(bytes(32) * 3 + b"torn")
    again = opened(tmp_path)
    again.take(head(15), 10, between(10, 15), 2)
    assert opened(tmp_path).tree.root() == merkle.root(LEAVES[:15])


def test_a_disk_that_was_changed_is_not_served_from(tmp_path: Path) -> None:
    """One bit of the hashes, a shorter file, or another head: the witness says so instead of starting."""
    memory = opened(tmp_path)
    memory.take(head(10), 0, between(0, 10), 1)
    content, note = (tmp_path / "leaves").read_bytes(), (tmp_path / "checkpoint").read_text()
    for leaves, written in (
        (content[:40] + bytes([content[40] ^ 1]) + content[41:], note),
        (content[:-32], note),
        (content, note.replace("\n10\n", "\n9\n")),
    ):
        (tmp_path / "leaves").write_bytes(leaves)
        (tmp_path / "checkpoint").write_text(written)
        with pytest.raises(InterlockError):
            opened(tmp_path)
