"""How right scores are, as scikit-learn defines it, over plain arrays; None where a metric is not defined."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Column = NDArray[np.float64]

_SMALLEST: Final = float(np.finfo(np.float64).eps)


def measure(metric: str, labels: Column, scores: Column, threshold: float) -> tuple[float | None, str]:
    """Return a metric of float64 scores (rows,) against labels (rows,), and why there is none if it is None.

    `threshold` makes a class of a score for accuracy, precision, recall and f1; the others ignore it.
    """
    if len(labels) == 0:
        return None, "the data set has no rows"
    if metric in ("rmse", "mae"):
        return _REGRESSION[metric](labels, scores), ""
    if not np.isin(labels, (0.0, 1.0)).all():
        return None, f"{metric} needs labels 0 and 1"
    if metric in _CLASSES:
        return _CLASSES[metric](labels > 0, scores >= threshold), ""
    positives = int(labels.sum())
    if metric in ("auc", "average_precision") and positives in (0, len(labels)):
        return None, f"{metric} needs rows of both classes; of {len(labels)} rows {positives} are positive"
    if metric in ("log_loss", "brier") and (scores.min() < 0 or scores.max() > 1):
        return None, f"{metric} needs scores between 0 and 1"
    return _SCORES[metric](labels, scores), ""


def _auc(labels: Column, scores: Column) -> float:
    """Return the area under the ROC curve: the share of (positive, negative) pairs in right order, ties half."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[inverse]
    positives = labels.sum()
    wins = ranks[labels > 0].sum() - positives * (positives + 1) / 2
    return float(wins / (positives * (len(labels) - positives)))


def _average_precision(labels: Column, scores: Column) -> float:
    order = np.argsort(-scores, kind="stable")
    ordered, hits = scores[order], np.cumsum(labels[order])
    ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    precision, recall = hits[ends] / (ends + 1), hits[ends] / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def _log_loss(labels: Column, scores: Column) -> float:
    safe = np.clip(scores, _SMALLEST, 1 - _SMALLEST)
    return float(-np.mean(labels * np.log(safe) + (1 - labels) * np.log1p(-safe)))


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0


def _precision(truth: NDArray[np.bool_], said: NDArray[np.bool_]) -> float:
    return _ratio((truth & said).sum(), said.sum())


def _recall(truth: NDArray[np.bool_], said: NDArray[np.bool_]) -> float:
    return _ratio((truth & said).sum(), truth.sum())


_CLASSES: Final[dict[str, Callable[[NDArray[np.bool_], NDArray[np.bool_]], float]]] = {
    "accuracy": lambda truth, said: float(np.mean(truth == said)),
    "precision": _precision,
    "recall": _recall,
    "f1": lambda truth, said: _ratio(2 * (truth & said).sum(), truth.sum() + said.sum()),
}
_SCORES: Final[dict[str, Callable[[Column, Column], float]]] = {
    "auc": _auc,
    "average_precision": _average_precision,
    "log_loss": _log_loss,
    "brier": lambda labels, scores: float(np.mean((scores - labels) ** 2)),
}
_REGRESSION: Final[dict[str, Callable[[Column, Column], float]]] = {
    "rmse": lambda labels, scores: float(np.sqrt(np.mean((scores - labels) ** 2))),
    "mae": lambda labels, scores: float(np.mean(np.abs(scores - labels))),
}
