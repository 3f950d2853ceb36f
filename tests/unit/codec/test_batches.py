"""The digests of a batch, and the proof of each value, against the plain definition and the BLAKE3 package."""

from __future__ import annotations

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from interlock.codec.batches import digest, proof_of
from interlock.codec.ragged import Ragged

VALUES = st.lists(st.one_of(st.binary(max_size=400), st.none()), max_size=40)


def plain(values: list[bytes | None]) -> bytes:
    """Return what a digest covers, written the long way."""
    ends, end = b"", 0
    for value in values:
        end += len(value or b"")
        ends += (end + (2**31 if value is None else 0)).to_bytes(4, "big")
    return len(values).to_bytes(4, "big") + ends + b"".join(value or b"" for value in values)


@given(VALUES)
def test_a_digest_is_that_of_the_definition(values: list[bytes | None]) -> None:
    """Empty values, missing ones, no values at all; as a list and as a column."""
    assert digest(values) == "blake3:" + blake3(plain(values)).hexdigest()
    present = [value or b"" for value in values]
    assert digest(Ragged.of(present)) == digest(present)


@given(VALUES.filter(bool), st.data())
def test_a_proof_shows_what_it_must_and_little_else(values: list[bytes | None], data: st.DataObject) -> None:
    """The chunks are those of the message, in order, and hold the value, its ends, the last end and the number."""
    row = data.draw(st.integers(0, len(values) - 1))
    message = plain(values)
    size, chunks = proof_of(values, row)
    assert size == len(message)
    assert [each.index for each in chunks] == sorted({each.index for each in chunks})
    shown = dict[int, int]()
    for each in chunks:
        assert each.content == message[each.index * 1024 : (each.index + 1) * 1024]
        shown |= {each.index * 1024 + place: byte for place, byte in enumerate(each.content)}
    head = 4 * (1 + len(values))
    begin = head + sum(len(value or b"") for value in values[:row])
    wanted = [*range(4), *range(4 * max(row, 1), 4 * (row + 2)), *range(head - 4, head)]
    wanted += range(begin, begin + len(values[row] or b""))
    assert bytes(shown[place] for place in wanted) == bytes(message[place] for place in wanted)
    assert len(chunks) <= len({place // 1024 for place in wanted})


def test_no_byte_can_move_from_one_value_into_the_next() -> None:
    """Values that are the same when joined, and a missing one against an empty one, have different digests."""
    variants: list[list[bytes | None]] = [[b"ab", b"c"], [b"a", b"bc"], [b"abc"], [b"abc", b""], [b"abc", None], []]
    assert len({digest(values) for values in variants}) == len(variants)


def test_a_row_that_is_not_there_has_no_proof() -> None:
    """IndexError, also for a negative one."""
    for row in (-1, 3):
        with pytest.raises(IndexError):
            proof_of([b"a", b"b", b"c"], row)


def test_a_known_batch_has_a_known_digest() -> None:
    """The numbers that stand in the log of every installation must never change."""
    values = [bytes([number]) * number for number in range(129)]
    assert digest(values) == "blake3:675438e8ca05ccd066323ca89a3cead4d389e11546fb7ba558223ecfe4fd030f"
