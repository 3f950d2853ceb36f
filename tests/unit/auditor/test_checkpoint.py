"""Notes, checkpoints and cosignatures as C2SP writes them."""

from __future__ import annotations

import base64

import pytest

from interlock import auth, merkle
from interlock_auditor.checkpoint import COSIGNATURE, ED25519, BadNote, Checkpoint, NoteKey, VerifierKey, split

# The example of Go's package sumdb/note, which the C2SP specification comes from.
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def test_a_note_signed_by_gos_own_implementation_is_accepted() -> None:
    """The known answer: key text, key id and signature all agree; one other letter in the text does not."""
    key = VerifierKey.parse(GO_KEY)
    assert str(key) == GO_KEY
    assert key.check(GO_NOTE) is None
    with pytest.raises(BadNote, match="does not hold"):
        key.check(GO_NOTE.replace("answer", "Answer"))


def test_a_cosigned_checkpoint_holds_for_both_keys_and_no_other() -> None:
    """Log and witness sign the same text, the witness with a time; a third key has not signed."""
    log, witness, other = (NoteKey(name, kind, auth.generate_keys()[0]) for name, kind in _NAMES)
    head = Checkpoint.signed("interlock/audit", 42, merkle.leaf_hash(b"x"), log)
    both = head.cosigned(witness.line(head.text, 1_790_000_000))
    assert log.public.check(both.note) is None
    assert witness.public.check(both.note) == 1_790_000_000
    assert Checkpoint.parse(both.note) == both
    with pytest.raises(BadNote, match="has not signed"):
        other.public.check(both.note)
    moved = both.note.replace(_line(both.note, 1), _line(both.note, 1, time=1_790_000_001))
    with pytest.raises(BadNote, match="does not hold"):
        witness.public.check(moved)


@pytest.mark.parametrize(
    "note",
    [
        "",
        "a\n1\nAA==\n",
        "interlock/audit\n01\n" + base64.b64encode(bytes(32)).decode() + "\n\n— a AAAAAAAA\n",
        "interlock/audit\n1\n" + base64.b64encode(bytes(31)).decode() + "\n\n— a AAAAAAAA\n",
        "interlock/audit\n1\n" + base64.b64encode(bytes(32)).decode() + "\n\n- a AAAAAAAA\n",
        "interlock/audit\n1\n" + base64.b64encode(bytes(32)).decode() + "\n\n— a !\n",
        "interlock/audit\n-1\n" + base64.b64encode(bytes(32)).decode() + "\n\n— a AAAAAAAA\n",
        "x" * 20_000,
    ],
)
def test_what_is_no_checkpoint_is_refused(note: str) -> None:
    """Other sizes, roots, dashes, base64, lengths: none is read as something it is not."""
    with pytest.raises(BadNote):
        Checkpoint.parse(note)


def test_a_text_with_an_empty_line_is_never_signed() -> None:
    """It could end earlier for one reader than for another."""
    key = NoteKey("a", ED25519, auth.generate_keys()[0])
    for text in ("a\n\nb\n", "no line break"):
        with pytest.raises(BadNote):
            key.sign(text)


_NAMES = (("interlock/audit", ED25519), ("interlock/witness", COSIGNATURE), ("interlock/audit", ED25519))


def _line(note: str, number: int, time: int | None = None) -> str:
    name, data = split(note)[1][number]
    if time is not None:
        data = data[:4] + time.to_bytes(8, "big") + data[12:]
    return f"— {name} {base64.b64encode(data).decode()}\n"
