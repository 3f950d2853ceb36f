"""The reference profile: how every feature and the score were spread at build time, for the monitor to compare with."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from interlock.signature import Input, Matrix, Signature
from interlock_builder.measures import Column

BINS: Final = 20
DECILES: Final = 11
FORMAT: Final = "interlock.profile.v1"


def profile(signature: Signature, inputs: Matrix, outputs: Matrix, source: str) -> dict[str, Any]:
    """Return the profile of float64 inputs (rows, inputs) and outputs (rows, outputs) as JSON-able values.

    Each numeric column: missing rate, minimum, maximum, mean, 11 deciles (minimum and maximum included) and a
    histogram of 20 bins of equal width. Each categorical one: missing rate and the count of each category.
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
    counts = np.bincount(present, minlength=len(declared.categories))
    return {
        "missing": _missing(values),
        "count": len(present),
        "categories": dict(zip(declared.categories, counts.tolist(), strict=True)),
    }


def _numbers(values: Column) -> dict[str, Any]:
    present = values[np.isfinite(values)]
    if not len(present):
        return {"missing": _missing(values), "count": 0}
    counts, edges = np.histogram(present, bins=_edges(present))
    return {
        "missing": _missing(values),
        "count": len(present),
        "minimum": float(present.min()),
        "maximum": float(present.max()),
        "mean": float(present.mean()),
        "deciles": np.quantile(present, np.linspace(0, 1, DECILES)).tolist(),
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def _edges(present: Column) -> Column:
    low, high = float(present.min()), float(present.max())
    if low == high or not np.isfinite(high - low):
        width = max(1.0, abs(low)) * 0.5
        low, high = low - width, (low if low == high else high) + width
    return np.linspace(low, high, BINS + 1)


def _missing(values: Column) -> float:
    return float(np.mean(~np.isfinite(values))) if len(values) else 0.0
