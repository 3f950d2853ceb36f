"""Metrics are scikit-learn's own numbers, and None with a reason where there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from interlock.measures import measure

RANDOM = np.random.default_rng(3)
TRUTH = (RANDOM.random(500) < 0.2).astype(float)
# Rounded, so that there are ties.
SCORES = np.clip(TRUTH * 0.3 + RANDOM.random(500) * 0.7, 0, 1).round(2)
SAID = SCORES >= 0.5

CASES: list[tuple[str, Callable[..., Any], Any]] = [
    ("auc", metrics.roc_auc_score, SCORES),
    ("average_precision", metrics.average_precision_score, SCORES),
    ("log_loss", metrics.log_loss, SCORES),
    ("brier", metrics.brier_score_loss, SCORES),
    ("accuracy", metrics.accuracy_score, SAID),
    ("precision", metrics.precision_score, SAID),
    ("recall", metrics.recall_score, SAID),
    ("f1", metrics.f1_score, SAID),
    ("rmse", metrics.root_mean_squared_error, SCORES),
    ("mae", metrics.mean_absolute_error, SCORES),
]


@pytest.mark.parametrize(("name", "reference", "answer"), CASES, ids=[case[0] for case in CASES])
def test_is_the_number_of_scikit_learn(name: str, reference: Callable[..., Any], answer: Any) -> None:
    """To nine digits, ties included."""
    value, why = measure(name, TRUTH, SCORES, 0.5)
    assert value == pytest.approx(reference(TRUTH, answer), rel=1e-9), why


@pytest.mark.parametrize(
    ("name", "labels", "scores", "words"),
    [
        ("auc", [1.0, 1.0], [0.1, 0.2], "both classes"),
        ("average_precision", [0.0, 0.0], [0.1, 0.2], "both classes"),
        ("auc", [0.0, 2.0], [0.1, 0.2], "labels 0 and 1"),
        ("log_loss", [0.0, 1.0], [0.1, 1.2], "between 0 and 1"),
        ("mae", [], [], "no rows"),
    ],
)
def test_says_why_there_is_no_number(name: str, labels: list[float], scores: list[float], words: str) -> None:
    """What a metric is not defined on gives None and a reason, never NaN."""
    value, why = measure(name, np.array(labels), np.array(scores), 0.5)
    assert value is None
    assert words in why
