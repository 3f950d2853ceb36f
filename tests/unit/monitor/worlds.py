"""Reference profiles, observations and windows for the tests, made of plain matrices."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from interlock.codec.observations import Answered, Refused, Seen, observe
from interlock.codec.ragged import Ragged
from interlock.schemas.events import Observation
from interlock.signature import Input, Output, Signature
from interlock_builder.profile import profile
from interlock_monitor.drift import Reference
from interlock_monitor.windows import WindowState

T0 = 1_700_000_003_000
WINDOW = 5000


def names(count: int) -> tuple[str, ...]:
    """Return feature names."""
    return tuple(f"f{number}" for number in range(count))


def at(milliseconds: int) -> datetime:
    """Return a moment."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def reference_of(
    matrix: np.ndarray, scores: np.ndarray | None = None, categories: dict[int, tuple[str, ...]] | None = None
) -> Reference:
    """Return the reference that the builder's profile of a matrix (rows, features) makes."""
    return Reference.from_profile(profile_of(matrix, scores, categories))


def profile_of(
    matrix: np.ndarray, scores: np.ndarray | None = None, categories: dict[int, tuple[str, ...]] | None = None
) -> dict[str, Any]:
    """Return the builder's profile; columns in `categories` are indices of these."""
    known = categories or {}
    inputs = tuple(
        Input(name, "string", categories=known[place]) if place in known else Input(name, "double")
        for place, name in enumerate(names(matrix.shape[1]))
    )
    outputs = () if scores is None else (Output("score"),)
    answer = np.empty((len(matrix), 0)) if scores is None else scores.reshape(-1, 1)
    return profile(Signature(inputs, outputs), matrix, answer, "data.csv")


def window_of(reference: Reference | None, matrix: np.ndarray, scores: np.ndarray | None = None) -> WindowState:
    """Return a window that holds the rows of a matrix (rows, features), straight into its columns."""
    state = WindowState(rows=len(matrix))
    state.features.adopt(names(matrix.shape[1]), None if reference is None else reference.feature_grid)
    state.features.add(np.ascontiguousarray(matrix.T))
    if scores is not None:
        state.outputs.adopt(("score",), None if reference is None else reference.output_grid)
        state.outputs.add(scores.reshape(1, -1))
    return state


def answered(matrix: np.ndarray, requested_at: Sequence[int] | np.ndarray, **changes: Any) -> Answered:
    """Return what one arm answered."""
    rows = len(matrix)
    plain: dict[str, Any] = {
        "arm": "champion",
        "model": "fraud",
        "version": 2,
        "digest": "sha256:d2",
        "offsets": np.arange(rows),
        "requested_at": np.asarray(requested_at, dtype=np.int64),
        "request_ids": Ragged.of([b"r"] * rows),
        "output_names": ("score",),
        "outputs": np.linspace(0, 1, rows).reshape(rows, 1),
        "feature_names": names(matrix.shape[1]),
        "features": matrix,
    }
    return Answered(**{**plain, **changes})


def observation(
    *groups: Answered,
    refused: Sequence[Refused] = (),
    taken_at: int = T0,
    scored_at: int = T0 + 20,
    sketch: bool = False,
) -> Observation:
    """Return the observation of one batch of endpoint `fraud`."""
    rows = sum(each.offsets.size for each in groups) + sum(each.offsets.size for each in refused)
    seen = Seen("fraud", "fraud.requests", 0, 0, rows, 1, at(taken_at), at(scored_at), tuple(groups), tuple(refused))
    return observe(seen, 0 if sketch else 1 << 40)
