"""The reference profile: how every feature and the score were spread at build time, for the monitor to compare with."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from interlock.measures import Column
from interlock.signature import Input, Matrix, Signature

BINS: Final = 20
DECILES: Final = 11
PERCENTILES: Final = np.arange(1, 100) / 100
FORMAT: Final = "interlock.profile.v2"


def profile(signature: Signature, inputs: Matrix, outputs: Matrix, source: str) -> dict[str, Any]:
    """Return the profile of float64 inputs (rows, inputs) and outputs (rows, outputs) as JSON-able values.

    Each numeric column: missing rate, minimum, maximum, mean, 11 deciles (minimum and maximum included), a histogram of
    20 bins of equal width, and `cells`: the percentiles 1 to 99, each a value of the data and none twice, as edges; the
    count of values in each cell, from above the edge before up to the edge, the last above all; and their means. Each
    categorical one: missing rate, the count of each category by name, and the same as pairs in the signature's order.
    A value that is not finite is missing.
    """
    return {
        "format": FORMAT,
        "source": source,
        "rows": len(inputs),
        "features": [
            {"name": declared.name, "type": declared.type, **_feature(declared, inputs[:, index])}
            for index, declared in enumerate(signature.inputs)
        ],
        "outputs": [
            {"name": declared.name, "type": declared.type, **_numbers(outputs[:, index])}
            for index, declared in enumerate(signature.outputs)
        ],
    }


def _feature(declared: Input, values: Column) -> dict[str, Any]:
    if declared.categories is None:
        return _numbers(values)
    present = values[~np.isnan(values)].astype(np.int64)
    counts = np.bincount(present, minlength=len(declared.categories)).tolist()
    return {
        "missing": _missing(values),
        "count": len(present),
        "categories": dict(zip(declared.categories, counts, strict=True)),
        "category_counts": [list(pair) for pair in zip(declared.categories, counts, strict=True)],
    }


def _numbers(values: Column) -> dict[str, Any]:
    present = np.sort(values[np.isfinite(values)])
    if not len(present):
        return {"missing": _missing(values), "count": 0}
    counts, edges = np.histogram(present, bins=_edges(present))
    return {
        "missing": _missing(values),
        "count": len(present),
        "minimum": float(present[0]),
        "maximum": float(present[-1]),
        "mean": _mean(present),
        "deciles": np.quantile(present, np.linspace(0, 1, DECILES)).tolist(),
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
        "cells": _cells(present),
    }


def _cells(ordered: Column) -> dict[str, Any]:
    """Return the fine grid of values in rising order; the mean of a cell without values is None."""
    edges = np.unique(np.quantile(ordered, PERCENTILES, method="inverted_cdf"))
    ends = np.append(np.searchsorted(ordered, edges, side="right"), len(ordered))
    counts = np.diff(ends, prepend=0)
    filled = counts > 0  # an edge is a value: only the cell behind the last edge can be empty
    starts = (ends - counts)[filled]
    with np.errstate(over="ignore"):
        means = np.add.reduceat(ordered, starts) / counts[filled]
    bounded = np.clip(means, ordered[starts], ordered[ends[filled] - 1]).tolist()
    return {
        "edges": edges.tolist(),
        "counts": counts.tolist(),
        "means": bounded if filled[-1] else [*bounded, None],
    }


def _mean(ordered: Column) -> float:
    with np.errstate(over="ignore"):
        return float(np.clip(ordered.mean(), ordered[0], ordered[-1]))


def _edges(present: Column) -> Column:
    low, high = float(present[0]), float(present[-1])
    if low == high or not np.isfinite(high - low):
        width = max(1.0, abs(low)) * 0.5
        low, high = low - width, (low if low == high else high) + width
    return np.linspace(low, high, BINS + 1)


def _missing(values: Column) -> float:
    return float(np.mean(~np.isfinite(values))) if len(values) else 0.0
