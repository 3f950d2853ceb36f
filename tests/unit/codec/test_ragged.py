"""Strings woven from columns are the strings that joining them one by one gives."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.codec import ragged, varints
from interlock.codec.ragged import FEW, WIDTH_MAX, Part, Ragged, weave

PIECES = st.one_of(st.binary(max_size=20), st.sampled_from([b"", b"x" * 300, b"y" * (WIDTH_MAX + 1)]))


@given(st.data(), st.integers(0, 12), st.integers(1, 5), st.sampled_from([0, FEW]))
def test_every_string_is_its_pieces_in_turn(data: st.DataObject, count: int, places: int, few: int) -> None:
    """Whatever the lengths: equal, none, one far longer than the others; a constant beside them or not; few or not."""
    columns = [
        data.draw(st.one_of(PIECES, st.lists(PIECES, min_size=count, max_size=count)), label="part")
        for _ in range(places)
    ]
    parts: list[Part] = [each if isinstance(each, bytes) else Ragged.of(each) for each in columns]
    expected = [b"".join(each if isinstance(each, bytes) else each[row] for each in columns) for row in range(count)]
    with patch.object(ragged, "FEW", few):
        woven = weave(parts, count)
    assert list(woven) == expected
    assert bytes(woven.content) == b"".join(expected)


def test_some_of_the_strings_in_any_order() -> None:
    """A selection is read from the same buffer, and joined anew where it does not lie as it is asked for."""
    all_of_them = Ragged.of([b"a", b"", b"ccc", b"dd"])
    some = all_of_them.some(np.array([3, 0, 2]))
    assert list(some) == [b"dd", b"a", b"ccc"]
    assert bytes(some.content) == b"ddaccc"
    assert some[2] == b"ccc"
    assert bytes(all_of_them.some(slice(2, 4)).content) == b"cccdd"


EDGES = [sign * 2**bits + step for bits in range(63) for sign in (1, -1) for step in (-1, 0, 1)]
"""Where an integer takes a byte more, and its neighbours."""


@pytest.mark.parametrize(
    "numbers",
    [
        [],
        [0],
        [0, -1, 1, 63, 64, -64, -65],
        [2**63 - 1, -(2**63), 8191, 8192],
        EDGES,
        *([[each for each in EDGES if len(varints.encode(each)) == length] for length in range(1, 11)]),
        *([[each for each in EDGES if len(varints.encode(each)) <= length] for length in range(2, 10)]),
    ],
)
def test_integers_are_written_as_one_by_one(numbers: list[int]) -> None:
    """Of one length or of many, up to the longest."""
    assert list(Ragged.integers(np.array(numbers, dtype=np.int64))) == [varints.encode(each) for each in numbers]
