"""How right a version was: figures of scores whose truth is known, the same as those of the gates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from interlock.measures import measure

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Labelled:
    """The rows that have a label, as float64 columns of equal length.

    `weights` is what each decision is worth, 1 where the label did not say; `lags` the seconds from the request to
    the moment the truth was learnt, 0 where a sender's clock says that it was learnt before.
    """

    scores: Floats
    labels: Floats
    weights: Floats
    lags: Floats

    def __len__(self) -> int:
        return len(self.scores)

    def to_bytes(self) -> bytes:
        """Return the columns as little-endian float64, one behind the other."""
        return np.concatenate([self.scores, self.labels, self.weights, self.lags]).astype("<f8").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Labelled:
        """Return what `to_bytes` wrote."""
        return cls(*np.frombuffer(data, dtype="<f8").reshape(4, -1))

    @classmethod
    def together(cls, parts: Sequence[Labelled]) -> Labelled:
        """Return the rows of all parts, in order."""
        names = ("scores", "labels", "weights", "lags")
        return cls(*(np.concatenate([np.empty(0), *(getattr(part, name) for part in parts)]) for name in names))


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement; a figure that is not defined for these rows is None."""

    rows: int
    labelled: int
    positives: int
    threshold: float
    precision: float | None = None
    recall: float | None = None
    roc_auc: float | None = None
    average_precision: float | None = None
    cost: float | None = None
    label_lag_seconds_p50: float | None = None


def figures(rows: int, labelled: Labelled, threshold: float, false_alarm_cost: float) -> Figures:
    """Return the figures of `rows` scored rows of which some are labelled.

    Precision, recall, the area under the ROC curve (ties count half) and average precision are those of
    scikit-learn; precision is None where no row was called positive, recall where none is, both areas where there is
    only one class. The cost is the sum of the weights of missed positives, and of `false_alarm_cost` for each false
    alarm. Labels other than 0 and 1 leave nothing to classify: only the lag is told then.
    """
    if len(labelled) == 0:
        return Figures(rows=rows, labelled=0, positives=0, threshold=threshold)
    labels, scores = labelled.labels, labelled.scores
    positive, called = labels == 1, scores >= threshold
    seen = Figures(
        rows=rows,
        labelled=len(labels),
        positives=int(positive.sum()),
        threshold=threshold,
        label_lag_seconds_p50=float(np.median(labelled.lags)),
    )
    if not np.isin(labels, (0.0, 1.0)).all():
        return seen
    return msgspec.structs.replace(
        seen,
        precision=measure("precision", labels, scores, threshold)[0] if called.any() else None,
        recall=measure("recall", labels, scores, threshold)[0] if positive.any() else None,
        roc_auc=measure("auc", labels, scores, threshold)[0],
        average_precision=measure("average_precision", labels, scores, threshold)[0],
        cost=float(labelled.weights[positive & ~called].sum() + false_alarm_cost * (called & ~positive).sum()),
    )
