"""A column of a window beside its reference, in cells that a person can look at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from interlock_monitor.drift_reference import ReferenceColumn
from interlock_monitor.windows_columns import FeatureState


@dataclass(frozen=True)
class Histogram:
    """Shares of both sides by cell: either of equal width between `edges`, or one for each of `labels`."""

    edges: tuple[float, ...] | None
    labels: tuple[str, ...] | None
    window: tuple[float, ...]
    reference: tuple[float, ...]


def histogram(column: ReferenceColumn, state: FeatureState) -> Histogram | None:
    """Return both sides' shares, the window's from its sketch; None where either side has no values.

    Where the window has values outside the reference's range, a cell more reaches to the furthest of them.
    """
    if not state.count or not column.count or state.minimum is None or state.maximum is None:
        return None
    if column.labels is not None:
        shares = np.diff(state.ranks_at(column.edges), prepend=0, append=state.count) / state.count
        expected = np.diff(column.ranks, prepend=0, append=column.count) / column.count
        return Histogram(None, column.labels, tuple(shares.tolist()), tuple(expected.tolist()))
    if column.histogram is None:
        return None
    edges, reference = column.histogram
    if state.minimum < edges[0]:
        edges, reference = np.append(state.minimum, edges), np.append(0.0, reference)
    if state.maximum > edges[-1]:
        edges, reference = np.append(edges, state.maximum), np.append(reference, 0.0)
    below = np.nextafter(edges[1:-1], -np.inf)  # the cells of a histogram have their lower edge, the sketch the upper
    shares = np.diff(state.kll.cdf(below) if below.size else np.empty(0), prepend=0.0, append=1.0)
    return Histogram(tuple(edges.tolist()), None, tuple(shares.tolist()), tuple(reference.tolist()))
