"""Routes: only rising epochs are taken, weights decide the share of keys, and what cannot be meant is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.codec.contract import request_schema, result_schema
from interlock.schemas.events import Arm, Route
from interlock.signature import Input, Output, Signature
from interlock_router.model import Routes, parts_of, route_table

SIGNATURE = Signature(inputs=(Input("x", "double"),), outputs=(Output("score"),))


def route(epoch: int, *weights: int, endpoint: str = "fraud") -> Route:
    """Make a route of versions 1, 2, … with these weights."""
    arms = tuple(
        Arm(
            arm=f"arm{number}",
            model="m",
            version=number,
            digest="sha256:00",
            application=f"m{number}",
            weight=weight,
            signature=SIGNATURE.to_json(),
        )
        for number, weight in enumerate(weights, start=1)
    )
    return Route(
        endpoint=endpoint,
        epoch=epoch,
        promotion=epoch,
        result_schema=json.dumps(result_schema(endpoint, SIGNATURE)),
        result_schema_id=1000,
        arms=arms,
        at=datetime(2026, 1, 1, tzinfo=UTC),
    )


@given(st.permutations(range(1, 7)), st.lists(st.integers(1, 6), max_size=10))
def test_in_whatever_order_and_however_often_routes_come_the_highest_epoch_stands(
    order: list[int], again: list[int]
) -> None:
    """Duplicate, late and reordered routes end at the newest one, and no taken epoch is lower than one before."""
    routes = Routes()
    taken = [epoch for epoch in [*order, *again] if routes.apply(route(epoch, 10_000))]
    assert routes.of("fraud").epoch == 6
    assert taken == sorted(set(taken))


@pytest.mark.parametrize("weights", [(), (9_999,), (10_000, 1), (11_000, -1_000)])
def test_a_route_whose_weights_are_not_the_whole_is_refused_and_the_last_good_one_stays(
    weights: tuple[int, ...],
) -> None:
    """Weights that do not sum to 10,000, and no arms at all, raise and change nothing."""
    routes = Routes()
    routes.apply(route(1, 10_000))
    with pytest.raises(ValueError, match=r"weights|arms"):
        routes.apply(route(2, *weights))
    assert routes.of("fraud").epoch == 1


def test_a_result_schema_that_is_not_ours_is_refused() -> None:
    """A schema without the envelope of results cannot be encoded to; the route that brings it is not taken."""
    strange = route(1, 10_000)
    with pytest.raises(ValueError, match="envelope"):
        route_table(
            Route(
                **{name: getattr(strange, name) for name in strange.__struct_fields__ if name != "result_schema"},
                result_schema=json.dumps(request_schema("fraud", SIGNATURE)),
            )
        )


def test_shares_follow_the_weights_and_every_row_has_one_arm() -> None:
    """20,000 keys at 70:25:5 are shared within a point; rows of an arm stay in order; a key keeps its arm."""
    table = route_table(route(1, 7_000, 2_500, 500))
    keys = [f"card-{number}".encode() for number in range(20_000)]
    groups = table.split(keys)
    rows = np.concatenate([rows for _, rows in groups])
    assert sorted(rows.tolist()) == list(range(20_000))
    assert all((np.diff(rows) > 0).all() for _, rows in groups)
    for (_, rows), weight in zip(groups, (7_000, 2_500, 500), strict=True):
        assert abs(rows.size / 20_000 - weight / 10_000) < 0.01
    chosen = {arm.version: set(rows.tolist()) for arm, rows in groups}
    again = {arm.version: set(rows.tolist()) for arm, rows in table.split(keys)}
    assert chosen == again


def test_the_share_of_a_key_differs_between_endpoints() -> None:
    """Endpoints salt the hash, so that one customer is not the canary of all of them."""
    keys = [str(number).encode() for number in range(1_000)]
    here = {row for _, rows in route_table(route(1, 5_000, 5_000)).split(keys)[:1] for row in rows.tolist()}
    there = {
        row
        for _, rows in route_table(route(1, 5_000, 5_000, endpoint="credit")).split(keys)[:1]
        for row in rows.tolist()
    }
    assert 0.4 < len(here & there) / len(here) < 0.6


def test_an_arm_without_weight_is_a_shadow_and_the_only_other_arm_gets_all() -> None:
    """Weight 0 answers nobody; a single arm is never hashed."""
    table = route_table(route(1, 10_000, 0))
    assert [arm.version for arm in table.shadows] == [2]
    assert [(arm.version, rows.size) for arm, rows in table.split([b"a", b"b"])] == [(1, 2)]
    assert route_table(route(1, 10_000)).split([])[0][1].size == 0


@given(st.integers(1, 200), st.integers(2, 16))
def test_parts_are_the_rows_in_order_and_none_is_empty(count: int, parts: int) -> None:
    """A split loses no row, repeats none and makes at most so many parts."""
    found = list(parts_of(np.arange(count), parts))
    assert np.concatenate(found).tolist() == list(range(count))
    assert 1 <= len(found) <= parts and all(part.size for part in found)
