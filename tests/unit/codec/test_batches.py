"""The trees over a batch: what they promise is checked against the plain definition of RFC 6962."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock import merkle
from interlock.codec.batches import LEAF_ROWS, leaf_of, proof_of, requests_digest, results_root

VALUES = st.lists(st.one_of(st.binary(max_size=20), st.none()), max_size=40)


def plain_leaf(values: list[bytes | None]) -> bytes:
    """Return a leaf's content, written the long way."""
    lengths = b"".join(b"\xff" * 4 if value is None else len(value).to_bytes(4, "big") for value in values)
    return len(values).to_bytes(4, "big") + lengths + b"".join(value or b"" for value in values)


def plain_root(entries: list[bytes]) -> bytes:
    """Return the root by the recursive definition (RFC 6962, 2.1)."""
    if not entries:
        return sha256(b"").digest()
    if len(entries) == 1:
        return sha256(b"\x00" + entries[0]).digest()
    split = 1 << ((len(entries) - 1).bit_length() - 1)
    return sha256(b"\x01" + plain_root(entries[:split]) + plain_root(entries[split:])).digest()


@given(VALUES, st.integers(1, 9))
def test_the_roots_are_those_of_the_definition(values: list[bytes | None], leaf_rows: int) -> None:
    """Leaves of any size, empty values, missing ones, no values at all."""
    leaves = [plain_leaf(values[at : at + leaf_rows]) for at in range(0, len(values), leaf_rows)]
    expected = "sha256:" + plain_root(leaves).hex()
    assert requests_digest(values, leaf_rows) == expected
    present = [value or b"" for value in values]
    assert results_root(present, leaf_rows) == requests_digest(present, leaf_rows)


@given(VALUES.filter(bool), st.integers(1, 9), st.data())
def test_every_value_has_a_proof(values: list[bytes | None], leaf_rows: int, data: st.DataObject) -> None:
    """The leaf holds the value and hashes up to the root; with one bit flipped it does not."""
    row = data.draw(st.integers(0, len(values) - 1))
    leaf, path = proof_of(values, row, leaf_rows)
    index, size = row // leaf_rows, -(-len(values) // leaf_rows)
    root = bytes.fromhex(requests_digest(values, leaf_rows).removeprefix("sha256:"))
    assert leaf == leaf_of(values[index * leaf_rows : (index + 1) * leaf_rows])
    assert merkle.verify_inclusion(merkle.leaf_hash(leaf), index, size, path, root)
    flipped = bytearray(leaf)
    flipped[data.draw(st.integers(0, len(leaf) - 1))] ^= 1
    assert not merkle.verify_inclusion(merkle.leaf_hash(bytes(flipped)), index, size, path, root)


def test_no_byte_can_move_from_one_value_into_the_next() -> None:
    """Values that are the same when joined, and a missing one against an empty one, have different roots."""
    variants: list[list[bytes | None]] = [[b"ab", b"c"], [b"a", b"bc"], [b"abc"], [b"abc", b""], [b"abc", None], []]
    assert len({requests_digest(values) for values in variants}) == len(variants)
    assert len({leaf_of(values) for values in variants}) == len(variants)


def test_a_row_that_is_not_there_has_no_proof() -> None:
    """IndexError, also for a negative one."""
    for row in (-1, 3):
        with pytest.raises(IndexError):
            proof_of([b"a", b"b", b"c"], row)


def test_a_known_batch_has_a_known_root() -> None:
    """The numbers that stand in the log of every installation must never change."""
    values = [bytes([number]) * number for number in range(LEAF_ROWS * 2 + 1)]
    assert results_root(values) == "sha256:6bc49ff9408e9548d5b751539e85b0e3904ef9bf3d7a904dd5e1c97d3a05b279"
