"""Rows of plain values become a matrix, the same for every part of the platform."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from interlock.signature import Input, Online, Output, Signature, number_of

SIGNATURE = Signature(
    (
        Input("amount", "double"),
        Input("count", "int", nullable=True),
        Input("kind", "string", nullable=True, categories=("chip", "web")),
        Input("online", "boolean"),
    ),
    (Output("score", "double", 0.0, 1.0),),
)


def test_json_there_and_back() -> None:
    """A signature survives the journey through a route record, byte for byte the same."""
    assert Signature.from_json(SIGNATURE.to_json()) == SIGNATURE
    assert Signature.from_json(SIGNATURE.to_json()).to_json() == SIGNATURE.to_json()


def test_online_inputs_survive_the_journey_and_leave_other_signatures_as_they_were() -> None:
    """What is looked up is written down; a signature without it has the bytes it had before there was such a thing."""
    looked_up = Signature((Input("spent", "double", online=Online(60.0, 1.5)), *SIGNATURE.inputs), SIGNATURE.outputs)
    assert Signature.from_json(looked_up.to_json()) == looked_up
    assert [each.name for each in looked_up.online] == ["spent"] and not SIGNATURE.online
    plain = Signature((Input("x", "double"),), (Output("score"),)).to_json()
    assert plain == (
        '{"inputs":[{"name":"x","type":"double","nullable":false,"categories":null,"description":""}],'
        '"outputs":[{"name":"score","type":"double","minimum":null,"maximum":null}]}'
    )


def test_a_missing_online_value_in_a_data_file_is_what_a_lane_would_use() -> None:
    """Its default, or NaN where there is none."""
    assert number_of(Input("spent", "double", online=Online(60.0, 1.5)), "") == 1.5
    assert math.isnan(number_of(Input("spent", "double", nullable=True, online=Online(60.0)), None))


def test_lists_and_mappings_give_the_same_matrix() -> None:
    """Missing is NaN, a category its index, an unknown category NaN, a boolean 0 or 1."""
    rows: list[Any] = [[1.5, 3, "web", True], [2, None, "fax", False], ["2.5", "", "", "true"]]
    expected = [[1.5, 3, 1, 1], [2, math.nan, math.nan, 0], [2.5, math.nan, math.nan, 1]]
    np.testing.assert_array_equal(SIGNATURE.matrix(rows), np.array(expected))
    named = [dict(zip(("amount", "count", "kind", "online"), row, strict=True)) for row in rows]
    np.testing.assert_array_equal(SIGNATURE.matrix(named), np.array(expected))
    assert SIGNATURE.matrix([]).shape == (0, 4)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ([None, 1, "web", True], "row 0, input 'amount': is missing"),
        ([1, 1.5, "web", True], "input 'count': 1.5 is not a whole number"),
        ([1, 1, "web", "maybe"], "neither true nor false"),
        (["x", 1, "web", True], "'x' is not a number"),
        ([1, 2, 3], "3 values for 4 inputs"),
        ({"amount": 1, "amuont": 2}, "no such input: amuont"),
        ("abcd", "neither a list nor an object"),
    ],
)
def test_a_value_that_its_type_does_not_allow_is_placed(row: Any, words: str) -> None:
    """The sentence names row and column."""
    with pytest.raises(ValueError, match=words):
        SIGNATURE.matrix([row])


def test_infinity_is_no_whole_number() -> None:
    """An overflow while reading must not become a crash."""
    with pytest.raises(ValueError, match="whole number"):
        number_of(Input("n", "long"), math.inf)
