"""Observations: what a lane saw in one batch, as columns, written without work per row and read in place.

A byte column is one little-endian number per row, in the order of offsets. Which moment a request belongs to is
decided here once, for the lane, the monitor and everybody who recomputes what they say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import pairwise
from typing import TypeVar, cast, overload

import numpy as np
import numpy.typing as npt

from interlock.clock import milliseconds
from interlock.codec.ragged import Ragged
from interlock.schemas.events import FeatureSketch, Observation, ObservedGroup, ObservedRejection
from interlock.sketches import Kll

Rows = TypeVar("Rows", "Answered", "Refused")
Floats = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
Offsets = npt.NDArray[np.uint32]

CLOCK_AHEAD_MILLISECONDS = 2000
"""A request that claims to have been made so long after it was scored was stamped by a wrong clock."""

PANE_SECONDS = 1
"""The event time that one sketch covers; windows are whole multiples of it."""

REQUEST_ID_BYTES_MAX = 256
"""A longer request id stands in an observation as an empty one: such a request is counted, but no label finds it."""

OFFSETS_MAX = 2**32
"""How far the offsets of one observation may lie apart."""

SKETCH_BYTES_MAX = 8192
"""The most bytes of one sketch, names included."""

_PANE_MILLISECONDS = 1000 * PANE_SECONDS
_NUMBER_BYTES = 8
_NO_BOUND = 2**63
_ROW_BYTES = 4 + _NUMBER_BYTES + 4  # offset, requested_at, length of the request id


@overload
def event_time(requested_at: int, scored_at: int) -> int: ...


@overload
def event_time(requested_at: Longs, scored_at: int | Longs) -> Longs: ...


def event_time(requested_at: int | Longs, scored_at: int | Longs) -> int | Longs:
    """Return when a request happened, in milliseconds since 1970: its own time, unless that cannot be true.

    Both arguments stand in every result. A time more than CLOCK_AHEAD_MILLISECONDS after the score's, or before 1970,
    is the mark of a wrong clock: the score's own time is taken. Any other is believed: the request is only late.
    """
    if isinstance(requested_at, int) and isinstance(scored_at, int):
        return requested_at if 0 <= requested_at <= scored_at + CLOCK_AHEAD_MILLISECONDS else scored_at
    asked, scored = np.asarray(requested_at, dtype=np.int64), np.asarray(scored_at, dtype=np.int64)
    return np.where((asked >= 0) & (asked <= scored + CLOCK_AHEAD_MILLISECONDS), asked, scored)


@dataclass(frozen=True)
class Answered:
    """What one arm answered: arrays with an entry per request, in the order of offsets; one per arm and batch."""

    arm: str
    model: str
    version: int
    digest: str
    offsets: Longs
    requested_at: Longs  # milliseconds since 1970
    request_ids: Ragged  # UTF-8
    output_names: tuple[str, ...]
    outputs: Floats  # (rows, outputs)
    feature_names: tuple[str, ...]
    features: Floats  # (rows, features), NaN where missing

    @property
    def row_bytes_max(self) -> int:
        """The most bytes that one row takes as columns."""
        cells = len(self.output_names) + len(self.feature_names)
        return _ROW_BYTES + REQUEST_ID_BYTES_MAX + _NUMBER_BYTES * cells

    def part(self, rows: slice) -> Answered:
        """Return some of the rows."""
        return replace(
            self,
            offsets=self.offsets[rows],
            requested_at=self.requested_at[rows],
            request_ids=self.request_ids.some(rows),
            outputs=self.outputs[rows],
            features=self.features[rows],
        )


@dataclass(frozen=True)
class Refused:
    """The requests that got no score for one reason; arm and model are empty where no version was asked."""

    arm: str
    model: str
    version: int
    digest: str
    reason: str
    offsets: Longs
    requested_at: Longs  # milliseconds since 1970

    def part(self, rows: slice) -> Refused:
        """Return some of the rows."""
        return replace(self, offsets=self.offsets[rows], requested_at=self.requested_at[rows])


@dataclass(frozen=True)
class Seen:
    """Everything a lane saw in a batch, between `from_offset` and `next_offset` of one partition of requests."""

    endpoint: str
    topic: str
    partition: int
    from_offset: int
    next_offset: int
    epoch: int
    taken_at: datetime
    at: datetime  # scored_at of the results
    answered: tuple[Answered, ...]
    refused: tuple[Refused, ...]

    @property
    def rows(self) -> int:
        """How many requests the batch had."""
        return sum(each.size for each in self._offsets)

    @property
    def feature_bytes(self) -> int:
        """How many bytes the features take as columns."""
        return sum(each.features.size for each in self.answered) * _NUMBER_BYTES

    @property
    def sketched_bytes_max(self) -> int:
        """The most bytes that the batch takes with sketches in place of features."""
        scored_at, size = milliseconds(self.at), 0
        for each in self.answered:
            panes = np.unique(event_time(each.requested_at, scored_at) // _PANE_MILLISECONDS).size
            features = len(each.feature_names)
            size += panes * features * SKETCH_BYTES_MAX + each.offsets.size * (
                each.row_bytes_max - features * _NUMBER_BYTES
            )
        return size

    @property
    def _offsets(self) -> list[Longs]:
        return [each.offsets for each in self.answered] + [each.offsets for each in self.refused]

    def stretches(self, bytes_max: int) -> Iterator[Seen]:
        """Cut the batch into stretches that take at most `bytes_max` as columns, one behind the other without a gap."""
        row_bytes = max((each.row_bytes_max for each in self.answered), default=_NUMBER_BYTES)
        rows_max = max(1, bytes_max // row_bytes)
        if self.rows <= rows_max:
            yield self
            return
        first, *others = self._offsets
        offsets = np.sort(np.concatenate((first, *others))) if others else first
        bounds = [self.from_offset, *offsets[rows_max::rows_max].tolist(), self.next_offset]
        for start, end in pairwise(bounds):
            yield replace(
                self,
                from_offset=start,
                next_offset=end,
                answered=_parts(self.answered, start, end),
                refused=_parts(self.refused, start, end),
            )


def _parts(every: tuple[Rows, ...], start: int, end: int) -> tuple[Rows, ...]:
    """Return what each has of the offsets from `start` up to `end`, without those that have nothing."""
    found = []
    for each in every:
        first, last = np.searchsorted(each.offsets, (start, end)).tolist()
        if first < last:
            found.append(each.part(slice(first, last)))
    return tuple(found)


def observe_all(seen: Seen, columns_bytes_max: int, record_bytes_max: int) -> list[Observation]:
    """Return the observations of a batch, each of which fits a record of `record_bytes_max` bytes.

    One, if need be with sketches; where even those might not fit (a wide model, event times far apart), several with
    columns, one behind the other without a gap.
    """
    if seen.feature_bytes > columns_bytes_max and seen.sketched_bytes_max <= record_bytes_max:
        return [observe(seen, columns_bytes_max)]
    return [observe(each, _NO_BOUND) for each in seen.stretches(record_bytes_max)]


def observe(seen: Seen, columns_bytes_max: int) -> Observation:
    """Return the observation of what was seen.

    Features are columns, or, where those of the batch would take more than `columns_bytes_max`, sketches of each
    feature and pane: less exact, a tenth of the bytes, and many times the work.
    """
    sketched = seen.feature_bytes > columns_bytes_max
    return Observation(
        endpoint=seen.endpoint,
        topic=seen.topic,
        partition=seen.partition,
        from_offset=seen.from_offset,
        next_offset=seen.next_offset,
        rows=seen.rows,
        epoch=seen.epoch,
        taken_at=seen.taken_at,
        groups=tuple(_group(seen, each, sketched=sketched) for each in seen.answered),
        rejected=tuple(
            ObservedRejection(
                arm=each.arm,
                model=each.model,
                version=each.version,
                digest=each.digest,
                reason=each.reason,
                rows=each.offsets.size,
                requested_at=each.requested_at.astype("<i8", copy=False).tobytes(),
            )
            for each in seen.refused
        ),
        at=seen.at,
    )


def _group(seen: Seen, answered: Answered, *, sketched: bool) -> ObservedGroup:
    ids = answered.request_ids
    if int(ids.lengths.max(initial=0)) > REQUEST_ID_BYTES_MAX:
        ids = Ragged(ids.buffer, ids.starts, np.where(ids.lengths <= REQUEST_ID_BYTES_MAX, ids.lengths, 0))
    return ObservedGroup(
        arm=answered.arm,
        model=answered.model,
        version=answered.version,
        digest=answered.digest,
        rows=answered.offsets.size,
        offsets=(answered.offsets - seen.from_offset).astype("<u4").tobytes(),
        requested_at=answered.requested_at.astype("<i8", copy=False).tobytes(),
        request_ids=bytes(ids.content),
        request_id_lengths=ids.lengths.astype("<u4").tobytes(),
        output_names=answered.output_names,
        outputs=answered.outputs.astype("<f8", copy=False).tobytes(),
        feature_names=answered.feature_names,
        features=b"" if sketched else _lent(answered.features),
        sketches=tuple(_sketches(answered, milliseconds(seen.at))) if sketched else (),
    )


def _lent(numbers: Floats) -> bytes:
    """Return the bytes of an array, row after row, where they lie: they are most of an observation."""
    lie = np.ascontiguousarray(numbers, dtype="<f8")
    return cast("bytes", lie.reshape(-1).view(np.uint8).data.toreadonly())


def _sketches(answered: Answered, scored_at: int) -> Iterator[FeatureSketch]:
    """Sketch every feature of every pane of event time that the rows fall into."""
    panes = event_time(answered.requested_at, scored_at) // _PANE_MILLISECONDS
    for pane in np.unique(panes).tolist():
        columns = np.ascontiguousarray(answered.features[panes == pane].T)
        for name, column in zip(answered.feature_names, columns, strict=True):
            present = column[np.isfinite(column)]  # an infinite value has no place in a distribution
            kll = Kll()
            kll.add(present)
            yield FeatureSketch(
                name=name,
                pane=datetime.fromtimestamp(pane * PANE_SECONDS, UTC),
                rows=column.size,
                missing=column.size - present.size,
                minimum=kll.minimum if kll.count else None,
                maximum=kll.maximum if kll.count else None,
                kll=kll.to_bytes(),
            )


@dataclass(frozen=True)
class GroupColumns:
    """The columns of a group, as views of its bytes."""

    group: ObservedGroup
    offsets: Offsets
    """uint32 (rows): less the observation's `from_offset`."""
    requested_at: Longs
    """int64 (rows), milliseconds since 1970."""
    outputs: Floats
    """float64 (rows, outputs)."""
    features: Floats | None
    """float64 (features, rows), seen across the rows as they lie; None where there are sketches instead."""

    @property
    def sketches(self) -> tuple[FeatureSketch, ...]:
        """The sketches that stand in place of features."""
        return self.group.sketches

    @cached_property
    def request_ids(self) -> list[str]:
        """The request ids; empty where one was longer than REQUEST_ID_BYTES_MAX."""
        ends = np.cumsum(np.frombuffer(self.group.request_id_lengths, dtype="<u4"), dtype=np.int64).tolist()
        joined = self.group.request_ids
        if joined.isascii():
            text = joined.decode()
            return [text[start:end] for start, end in pairwise([0, *ends])]
        return [joined[start:end].decode() for start, end in pairwise([0, *ends])]


def columns(group: ObservedGroup) -> GroupColumns:
    """Return a group's columns; raises ValueError where their lengths are not what its rows and names ask for."""
    rows, outputs, features = group.rows, len(group.output_names), len(group.feature_names)
    lengths = np.frombuffer(group.request_id_lengths, dtype="<u4")
    if lengths.size != rows or int(lengths.sum(dtype=np.int64)) != len(group.request_ids):
        raise ValueError(f"a group of {rows} rows has {lengths.size} request ids in {len(group.request_ids)} bytes")
    told = not group.sketches and (bool(group.features) or not rows or not features)
    return GroupColumns(
        group=group,
        offsets=np.frombuffer(group.offsets, dtype="<u4").reshape(rows),
        requested_at=np.frombuffer(group.requested_at, dtype="<i8").reshape(rows),
        outputs=np.frombuffer(group.outputs, dtype="<f8").reshape(rows, outputs),
        features=np.frombuffer(group.features, dtype="<f8").reshape(rows, features).T if told else None,
    )
