"""Scores kept until their truth comes: observations cut into blocks, and blocks joined with labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from interlock.codec.observations import event_time
from interlock.codec.ragged import Ragged
from interlock_monitor.quality_figures import Labelled
from interlock_monitor.windows_reading import Reading, alike, within

PANE_MILLISECONDS: Final = 5_000
"""How finely labels and scores are filed by the request's own time. It is part of what is stored: never change it."""


class Block(NamedTuple):
    """One arm's rows of one batch that share a window of event time and a pane of the requests' own time."""

    endpoint: str
    window_milliseconds: int
    window_start: int
    pane: int
    topic: str
    partition: int
    from_offset: int
    arm: str
    model: str
    version: int
    digest: str
    scored_at: int
    request_ids: bytes
    request_id_lengths: bytes
    requested_at: bytes
    offsets: bytes
    scores: bytes


class Row(NamedTuple):
    """A label as the join needs it."""

    label: float
    weight: float | None
    at: int


def pane_of(requested_at_milliseconds: int) -> int:
    """Return the pane in which requests of that time of their own, and their labels, are filed."""
    return requested_at_milliseconds // PANE_MILLISECONDS


def blocks(reading: Reading) -> Iterator[Block]:
    """Cut an observation's scored rows into blocks, arm by arm.

    The window is that of event time, the pane that of the request's own time; they differ only where a sender's
    clock is ahead. Groups without outputs, and rejected rows, have no score and give no block.
    """
    observation = reading.observation
    for each in reading.answered:
        group, told = each.group, each.columns
        if not group.rows or not group.output_names:
            continue
        lengths = np.frombuffer(group.request_id_lengths, dtype="<u4")
        ids = Ragged.joined(group.request_ids, lengths.astype(np.int64))
        for start, inside in each.windows:
            for pane, places in alike(told.requested_at[inside] // PANE_MILLISECONDS):
                rows = within(inside, places)
                yield Block(
                    observation.endpoint,
                    reading.window_milliseconds,
                    start,
                    pane,
                    observation.topic,
                    observation.partition,
                    observation.from_offset,
                    group.arm,
                    group.model,
                    group.version,
                    group.digest,
                    reading.scored_at,
                    bytes(ids.some(rows).content),
                    lengths[rows].tobytes(),
                    told.requested_at[rows].tobytes(),
                    told.offsets[rows].tobytes(),
                    told.outputs[rows, 0].tobytes(),
                )


def join(
    parts: Sequence[Block], labels: Mapping[tuple[int, bytes], Row]
) -> tuple[int, Labelled, set[tuple[int, bytes]]]:
    """Give each row of the blocks the label of its request, if there is one.

    `labels` are by (requested_at, request id). Returns the number of rows, the labelled ones in the order of blocks
    and offsets, and the labels that found a request. A request that was sent twice is two rows, with one truth; one
    whose id is not told has none.
    """
    rows = 0
    found: set[tuple[int, bytes]] = set()
    scores: list[NDArray[np.float64]] = []
    lags: list[NDArray[np.float64]] = []
    truths: list[Row] = []
    for part in parts:
        requested = np.frombuffer(part.requested_at, dtype="<i8")
        rows += len(requested)
        keys = list(zip(requested.tolist(), _names(part), strict=True))
        hits = [row for row, key in enumerate(keys) if key in labels]
        if not hits:
            continue
        matched = [labels[keys[row]] for row in hits]
        found.update(keys[row] for row in hits)
        truths += matched
        scores.append(np.frombuffer(part.scores, dtype="<f8")[hits])
        learnt = np.array([truth.at for truth in matched], dtype=np.int64)
        asked = np.asarray(event_time(requested[hits], part.scored_at), dtype=np.int64)
        lags.append(np.maximum(learnt - asked, 0) / 1000.0)
    labelled = Labelled(
        np.concatenate([np.empty(0), *scores]),
        np.array([truth.label for truth in truths], dtype=np.float64),
        np.array([1.0 if truth.weight is None else truth.weight for truth in truths], dtype=np.float64),
        np.concatenate([np.empty(0), *lags]),
    )
    return rows, labelled, found


def _names(part: Block) -> list[bytes]:
    """Return the request ids of a block, in the order of its rows."""
    lengths = np.frombuffer(part.request_id_lengths, dtype="<u4")
    ends = np.cumsum(lengths, dtype=np.int64).tolist()
    return [part.request_ids[end - length : end] for end, length in zip(ends, lengths.tolist(), strict=True)]
