"""The reference profile counts exactly, by a rule that the monitor's windows follow too."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import numpy as np
import pytest

from interlock.signature import Input, Output, Signature
from interlock_builder.bench import as_json
from interlock_builder.profile import FORMAT, profile

SIGNATURE = Signature(
    (Input("amount", "double"), Input("kind", "string", categories=("web", "chip"))), (Output("score"),)
)


def of(values: list[float]) -> dict[str, object]:
    """Return the profile of one column as it is read back from its JSON."""
    matrix = np.array([values, [0.0] * len(values)]).T
    whole = json.loads(as_json(profile(SIGNATURE, matrix, matrix[:, :1], "data.csv")))
    feature = whole["features"][0]
    assert isinstance(feature, dict)
    return feature


def test_cells_count_values_up_to_their_edge() -> None:
    """A value on an edge belongs to the cell below it; nothing is counted twice or lost; means are the cells' own."""
    values = np.random.default_rng(1).lognormal(size=5000)
    cells = of(values.tolist())["cells"]
    assert isinstance(cells, dict)
    edges = np.array(cells["edges"])
    assert len(edges) == 99 and (np.diff(edges) > 0).all() and np.isin(edges, values).all()
    bounds = [-math.inf, *edges, math.inf]
    for place, (low, high) in enumerate(pairwise(bounds)):
        inside = values[(values > low) & (values <= high)]
        assert cells["counts"][place] == len(inside) and 49 <= len(inside) <= 51
        assert cells["means"][place] == pytest.approx(inside.mean(), rel=1e-12)


def test_discrete_and_constant_columns_have_each_value_once_as_an_edge() -> None:
    """Percentiles that fall together make one edge; the last cell may then be empty and has no mean."""
    discrete = of([0.0] * 70 + [1.0] * 20 + [5.0] * 10)["cells"]
    assert discrete == {"edges": [0.0, 1.0, 5.0], "counts": [70, 20, 10, 0], "means": [0.0, 1.0, 5.0, None]}
    assert of([3.0] * 10)["cells"] == {"edges": [3.0], "counts": [10, 0], "means": [3.0, None]}


def test_what_was_in_version_1_is_still_there() -> None:
    """The format's name changes, the earlier fields do not; categories have their order besides their names."""
    matrix = np.array([[1.0, 1.0], [2.0, 0.0], [math.nan, 1.0], [math.inf, math.nan]])
    whole = profile(SIGNATURE, matrix, np.ones((4, 1)), "data.csv")
    amount, kind = whole["features"]
    assert (whole["format"], whole["rows"], FORMAT) == ("interlock.profile.v2", 4, whole["format"])
    assert (amount["missing"], amount["count"], amount["minimum"], amount["maximum"], amount["mean"]) == (
        0.5,
        2,
        1,
        2,
        1.5,
    )
    assert len(amount["deciles"]) == 11 and sum(amount["histogram"]["counts"]) == 2
    assert kind["categories"] == {"web": 1, "chip": 2} and kind["missing"] == 0.25
    assert kind["category_counts"] == [["web", 1], ["chip", 2]]
    assert whole["outputs"][0]["count"] == 4


def test_a_column_without_values_has_no_cells() -> None:
    """Nothing is invented for what was never there."""
    assert of([math.nan, math.inf]) == {"name": "amount", "type": "double", "missing": 1.0, "count": 0}


def test_the_largest_numbers_stay_numbers() -> None:
    """A mean that overflows is held between the least and the greatest value, so that the JSON can be read."""
    cells = of([1e308, 1.7e308, 1.7e308])["cells"]
    assert isinstance(cells, dict) and all(mean is None or math.isfinite(mean) for mean in cells["means"])
