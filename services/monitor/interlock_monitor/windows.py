"""Windows of event time: what every arm of an endpoint did in each, folded from observations of committed batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple, Protocol, Self

import msgspec
import numpy as np

from interlock.clock import instant_of
from interlock.schemas.events import ObservedGroup, ObservedRejection, StageLatency, WindowClosed
from interlock.sketches import InvalidSketch, LogHistogram
from interlock_monitor.windows_columns import Columns, Grid
from interlock_monitor.windows_reading import Reading

STAGES: Final = ("queue", "score", "total")

_FORMAT: Final = "interlock.window.v1"


class WindowKey(NamedTuple):
    """Whose window it is, and the first moment of it, in milliseconds since 1970.

    Requests for which no version was asked stand under the empty model, version 0 and the empty digest and arm.
    """

    endpoint: str
    model: str
    version: int
    digest: str
    arm: str
    start_milliseconds: int


class Grids(Protocol):
    """What a window has to know of a reference: the grids that its columns are counted on."""

    @property
    def feature_grid(self) -> Grid:
        """The grid of the features."""
        ...

    @property
    def output_grid(self) -> Grid:
        """The grid of the outputs."""
        ...


class Judged(Protocol):
    """What a closed window tells of its verdict."""

    @property
    def evidence(self) -> str:
        """`enough`, `too_few_rows` or `no_reference`."""
        ...

    @property
    def drifted(self) -> tuple[str, ...]:
        """The features and outputs that drifted, worst first."""
        ...


class _Kept(msgspec.Struct, array_like=True):
    format: str
    rows: int
    rejected: int
    late_rows: int
    reasons: dict[str, int]
    latency: dict[str, bytes]
    outputs: bytes
    features: bytes


def _histograms() -> dict[str, LogHistogram]:
    return {stage: LogHistogram() for stage in STAGES}


@dataclass
class WindowState:
    """What one window holds: exact counts, latencies by stage in milliseconds, and how every column is spread.

    Folding and merging give the same counts in whatever order batches come. A request stamped behind the moment it was
    taken or scored counts as a latency of 0.
    """

    rows: int = 0
    rejected: int = 0
    late_rows: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    latency: dict[str, LogHistogram] = field(default_factory=_histograms)
    outputs: Columns = field(default_factory=Columns)
    features: Columns = field(default_factory=Columns)

    @property
    def approximate(self) -> bool:
        """Whether sketches came in place of columns, so that cells are within the sketches' error."""
        return self.features.approximate

    @property
    def score_mean(self) -> float | None:
        """The mean of the first output; None where there is none."""
        return next((self.outputs[name].mean for name in self.outputs), None)

    def merge(self, other: WindowState) -> None:
        """Add what the other one holds. Raises ValueError if it has other columns."""
        self.rows += other.rows
        self.rejected += other.rejected
        self.late_rows += other.late_rows
        for reason, count in other.reasons.items():
            self.reasons[reason] = self.reasons.get(reason, 0) + count
        for stage, histogram in other.latency.items():
            self.latency[stage].merge(histogram)
        self.outputs.merge(other.outputs)
        self.features.merge(other.features)

    def to_bytes(self) -> bytes:
        """Return the state as bytes, mostly sketches that do not compress: some 7 kB per column."""
        kept = _Kept(
            format=_FORMAT,
            rows=self.rows,
            rejected=self.rejected,
            late_rows=self.late_rows,
            reasons=self.reasons,
            latency={stage: histogram.to_bytes() for stage, histogram in self.latency.items()},
            outputs=self.outputs.to_bytes(),
            features=self.features.to_bytes(),
        )
        return msgspec.msgpack.encode(kept)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote. Raises InvalidSketch."""
        try:
            kept = msgspec.msgpack.decode(data, type=_Kept)
        except msgspec.MsgspecError as error:
            raise InvalidSketch(f"a window's state: {error}") from error
        if kept.format != _FORMAT or set(kept.latency) != set(STAGES):
            raise InvalidSketch(f"a window's state of the format {kept.format[:40]!r} with {len(kept.latency)} stages")
        if min(kept.rows, kept.rejected, kept.late_rows, *kept.reasons.values(), 0) < 0:
            raise InvalidSketch("a window's state has counts below 0")
        latency = {stage: LogHistogram.from_bytes(histogram) for stage, histogram in kept.latency.items()}
        outputs, features = Columns.from_bytes(kept.outputs), Columns.from_bytes(kept.features)
        if any(each.names and each.rows != kept.rows for each in (outputs, features)):
            raise InvalidSketch(f"a window's state counts {kept.rows} rows, its columns other ones")
        return cls(kept.rows, kept.rejected, kept.late_rows, kept.reasons, latency, outputs, features)


def touched(reading: Reading) -> set[WindowKey]:
    """Return the windows that an observation adds to."""
    return {key for key, _ in _keyed(reading)}


def fold(
    reading: Reading,
    states: MutableMapping[WindowKey, WindowState],
    references: Mapping[tuple[str, int], Grids | None],
    closed: Callable[[WindowKey], bool],
) -> None:
    """Add an observation to the windows that it touches; states that are not there yet are made.

    `references` gives by (model, version) the grids that cells are counted on; `closed` says whether a window had
    closed, so that its rows are late. Raises ValueError where a window has other columns, after which the states are
    not to be kept.
    """
    taken_at, scored_at = reading.taken_at, reading.scored_at
    for each in reading.answered:
        group, features = each.group, each.columns.features
        reference = references.get((group.model, group.version))
        for start, rows in each.windows:
            key = _key(reading, group, start)
            state = _state(states, key)
            times = each.times[rows]
            state.rows += times.size
            state.late_rows += times.size if closed(key) else 0
            state.latency["queue"].add(np.maximum(taken_at - times, 0))
            state.latency["score"].add(max(scored_at - taken_at, 0), times.size)
            state.latency["total"].add(np.maximum(scored_at - times, 0))
            state.outputs.adopt(group.output_names, None if reference is None else reference.output_grid)
            state.outputs.add(each.columns.outputs[rows].T)
            state.features.adopt(group.feature_names, None if reference is None else reference.feature_grid)
            if features is not None:
                state.features.add(features[:, rows] if isinstance(rows, slice) else features.take(rows, axis=1))
            for pane in each.panes.get(start, ()):
                state.features.add_sketches(pane)
    for refused in reading.rejected:
        reason = refused.rejection.reason
        for start, count in refused.counts:
            state = _state(states, _key(reading, refused.rejection, start))
            state.rejected += count
            state.reasons[reason] = state.reasons.get(reason, 0) + count


def _keyed(reading: Reading) -> Iterator[tuple[WindowKey, ObservedGroup | ObservedRejection]]:
    for each in reading.answered:
        for start, _ in each.windows:
            yield _key(reading, each.group, start), each.group
    for refused in reading.rejected:
        for start, _ in refused.counts:
            yield _key(reading, refused.rejection, start), refused.rejection


def _key(reading: Reading, who: ObservedGroup | ObservedRejection, start: int) -> WindowKey:
    return WindowKey(reading.observation.endpoint, who.model, who.version, who.digest, who.arm, start)


def misfits(reading: Reading, states: Mapping[WindowKey, WindowState]) -> WindowKey | None:
    """Return a window that has other columns than the observation would bring, if there is one."""
    for key, who in _keyed(reading):
        state = states.get(key)
        if state is None or not state.rows or not isinstance(who, ObservedGroup):
            continue
        if (state.features.names, state.outputs.names) != (who.feature_names, who.output_names):
            return key
    return None


def _state(states: MutableMapping[WindowKey, WindowState], key: WindowKey) -> WindowState:
    state = states.get(key)
    if state is None:
        state = states[key] = WindowState()
    return state


def window_closed(
    key: WindowKey,
    state: WindowState,
    revision: int,
    verdict: Judged,
    at: datetime,
    window_milliseconds: int,
) -> WindowClosed:
    """Return the event that tells of a window, in its first or a later revision."""
    return WindowClosed(
        endpoint=key.endpoint,
        model=key.model,
        version=key.version,
        digest=key.digest,
        arm=key.arm,
        window_start=instant_of(key.start_milliseconds),
        window_end=instant_of(key.start_milliseconds + window_milliseconds),
        revision=revision,
        rows=state.rows,
        rejected=state.rejected,
        late_rows=state.late_rows,
        events_per_second=(state.rows + state.rejected) / (window_milliseconds / 1000),
        latency_milliseconds=latencies(state),
        score_mean=state.score_mean,
        evidence=verdict.evidence,
        drifted=verdict.drifted,
        at=at,
    )


def latencies(state: WindowState) -> tuple[StageLatency, ...]:
    """Return the quantiles of each stage, within 1 %; nothing where no request was scored."""
    return tuple(
        StageLatency(
            stage=stage,
            p50=histogram.quantile(0.5),
            p90=histogram.quantile(0.9),
            p99=histogram.quantile(0.99),
            maximum=histogram.maximum,
        )
        for stage, histogram in state.latency.items()
        if histogram.count
    )
