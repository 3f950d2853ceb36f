"""The figures of a window are scikit-learn's own over the joined rows, and None where it has none to give."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from sklearn import metrics

from interlock_monitor.quality_figures import Figures, Labelled, figures

RANDOM = np.random.default_rng(11)


def labelled(scores: list[float], labels: list[float], weights: list[float] | None = None) -> Labelled:
    rows = len(scores)
    return Labelled(
        np.array(scores, dtype=np.float64),
        np.array(labels, dtype=np.float64),
        np.array([1.0] * rows if weights is None else weights, dtype=np.float64),
        np.arange(rows, dtype=np.float64),
    )


def by_scikit_learn(rows: Labelled, threshold: float) -> dict[str, float | None]:
    """The same figures by another hand; what scikit-learn calls undefined is None."""
    said, truth = rows.scores >= threshold, rows.labels
    both = 0 < truth.sum() < len(truth)
    cost = sum(
        weight if label else 1.5
        for score, label, weight in zip(rows.scores.tolist(), truth.tolist(), rows.weights.tolist(), strict=True)
        if (score >= threshold) != bool(label)
    )
    return {
        "precision": metrics.precision_score(truth, said) if said.any() else None,
        "recall": metrics.recall_score(truth, said) if truth.any() else None,
        "roc_auc": metrics.roc_auc_score(truth, rows.scores) if both else None,
        "average_precision": metrics.average_precision_score(truth, rows.scores) if both else None,
        "cost": cost,
    }


def agrees(rows: Labelled, threshold: float = 0.5) -> None:
    found = figures(len(rows) + 3, rows, threshold, 1.5)
    for name, wanted in by_scikit_learn(rows, threshold).items():
        value = getattr(found, name)
        assert (value is None) == (wanted is None), name
        assert value is None or value == pytest.approx(wanted, rel=1e-9, abs=1e-9), name
    assert (found.rows, found.labelled) == (len(rows) + 3, len(rows))
    assert found.positives == rows.labels.sum()
    assert found.label_lag_seconds_p50 == np.median(rows.lags)


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(st.integers(0, 8).map(lambda step: step / 8), st.booleans(), st.floats(0, 1e6)),
        min_size=1,
        max_size=60,
    ),
    st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0]),
)
def test_every_figure_is_scikit_learns(rows: list[tuple[float, bool, float]], threshold: float) -> None:
    """To 1e-9, with many ties, with one class only, with every row called positive and with none."""
    agrees(labelled([row[0] for row in rows], [float(row[1]) for row in rows], [row[2] for row in rows]), threshold)


def test_a_large_window_is_scikit_learns() -> None:
    """A hundred thousand rows, rounded so that there are ties."""
    truth = (RANDOM.random(100_000) < 0.02).astype(float)
    scores = np.clip(truth * 0.3 + RANDOM.random(100_000) * 0.7, 0, 1).round(3)
    agrees(labelled(scores.tolist(), truth.tolist(), RANDOM.random(100_000).tolist()))


def test_the_order_of_rows_changes_nothing() -> None:
    """Ties are ranked in the middle, not as they happen to come."""
    rows = labelled([0.5] * 10 + [0.2] * 10, [1, 0] * 10)
    order = RANDOM.permutation(20)
    shuffled = Labelled(rows.scores[order], rows.labels[order], rows.weights[order], rows.lags[order])
    assert figures(20, rows, 0.5, 1.0) == figures(20, shuffled, 0.5, 1.0)


def test_without_labels_there_are_no_figures() -> None:
    """Rows are counted, nothing is claimed."""
    assert figures(7, labelled([], []), 0.5, 1.0) == Figures(rows=7, labelled=0, positives=0, threshold=0.5)


def test_numbers_as_labels_leave_nothing_to_classify() -> None:
    """A regression's labels get neither precision nor recall; that they came, and when, is told."""
    found = figures(3, labelled([0.1, 0.9, 0.4], [17.5, 1.0, 0.0]), 0.5, 1.0)
    assert (found.labelled, found.positives, found.label_lag_seconds_p50) == (3, 1, 1.0)
    assert (found.precision, found.recall, found.roc_auc, found.average_precision, found.cost) == (None,) * 5


def test_the_threshold_itself_counts_as_called() -> None:
    """A score of exactly the threshold is a call."""
    found = figures(1, labelled([0.5], [1.0]), 0.5, 1.0)
    assert (found.recall, found.precision, found.cost) == (1.0, 1.0, 0.0)


def test_a_miss_costs_its_weight_and_a_false_alarm_its_price() -> None:
    """Two misses of 80 and 20, one false alarm of 5."""
    rows = labelled([0.1, 0.2, 0.9, 0.8], [1, 1, 0, 1], [80, 20, 1e9, 1e9])
    assert figures(4, rows, 0.5, 5.0).cost == 105.0


def test_rows_survive_the_way_through_bytes() -> None:
    """What is kept beside the figures is what they were made of; parts are put one behind the other."""
    rows = labelled([0.25, 0.5], [0, 1], [3, 4])
    again = Labelled.from_bytes(rows.to_bytes())
    whole = Labelled.together([again, labelled([], []), rows])
    assert whole.scores.tolist() == [0.25, 0.5, 0.25, 0.5]
    assert whole.labels.tolist() == [0, 1, 0, 1]
    assert whole.weights.tolist() == [3, 4, 3, 4]
    assert whole.lags.tolist() == [0, 1, 0, 1]
    assert len(Labelled.together([])) == 0
