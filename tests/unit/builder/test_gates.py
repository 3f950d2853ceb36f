"""The verdict of a gate follows from its numbers alone."""

from __future__ import annotations

import pytest

from interlock.manifest import Gate
from interlock_builder.gates import Champion, Measured, judge


def gate(metric: str = "auc", **bounds: float) -> Gate:
    """Return a gate with the bounds given."""
    rows = int(bounds.pop("rows_minimum", 1))
    return Gate("g", metric, "h.csv", "y", rows_minimum=rows, **bounds)  # type: ignore[arg-type]  # bounds are floats


@pytest.mark.parametrize(
    ("bounds", "value", "champion", "verdict", "bound"),
    [
        ({"minimum": 0.9}, 0.9, None, "PASS", 0.9),
        ({"minimum": 0.9}, 0.89999, None, "FAIL", 0.9),
        ({"metric": "mae", "maximum": 0.1}, 0.1, None, "PASS", 0.1),
        ({"metric": "mae", "maximum": 0.1}, 0.11, None, "FAIL", 0.1),
        ({"minimum": 0.5, "maximum": 0.8}, 0.9, None, "FAIL", 0.8),
        ({"margin": 0.0}, 0.7, None, "PASS", None),
        ({"margin": 0.0}, 0.7, 0.7, "PASS", 0.7),
        ({"margin": 0.01}, 0.7, 0.7, "FAIL", 0.71),
        ({"margin": -0.05}, 0.66, 0.7, "PASS", 0.65),
        ({"metric": "log_loss", "margin": 0.1}, 0.45, 0.5, "FAIL", 0.4),
        ({"metric": "log_loss", "margin": -0.1}, 0.55, 0.5, "PASS", 0.6),
        ({"minimum": 0.6, "margin": 0.0}, 0.5, 0.4, "FAIL", 0.6),
    ],
)
def test_bounds_and_margins(
    bounds: dict[str, float], value: float, champion: float | None, verdict: str, bound: float | None
) -> None:
    """Bounds are inclusive; a margin is measured in the direction in which the metric is better."""
    theirs = Champion(3, Measured(champion)) if champion is not None else None
    judgement = judge(gate(**bounds), 100, Measured(value), theirs)  # type: ignore[arg-type]  # one of them is a name
    assert judgement.verdict == verdict, judgement.detail
    assert judgement.bound == (pytest.approx(bound) if bound is not None else None)
    assert judgement.value == value
    assert judgement.champion_value == champion


def test_what_cannot_be_checked_is_not_passed() -> None:
    """Too few rows, no number, a champion without a number: not enough evidence; a broken bound still fails."""
    few = judge(gate(minimum=0.1, rows_minimum=101), 100, Measured(0.9), None)
    none = judge(gate(minimum=0.1), 100, Measured(None, "one class"), None)
    unknown = Champion(2, Measured(None, "no column zip"))
    champion = judge(gate(minimum=0.1, margin=0.0), 100, Measured(0.9), unknown)
    assert {few.verdict, none.verdict, champion.verdict} == {"NOT_ENOUGH_EVIDENCE"}
    assert "no column zip" in champion.detail
    assert judge(gate(minimum=0.95, margin=0.0), 100, Measured(0.9), unknown).verdict == "FAIL"
