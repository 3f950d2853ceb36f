"""Windows of event time: what every arm of an endpoint did in each, folded from observations of committed batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple, Protocol, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from interlock.clock import instant_of, milliseconds
from interlock.codec.observations import PANE_SECONDS, GroupColumns, columns, event_time
from interlock.schemas.events import (
    FeatureSketch,
    Observation,
    ObservedGroup,
    ObservedRejection,
    StageLatency,
    WindowClosed,
)
from interlock.sketches import InvalidSketch, LogHistogram
from interlock_monitor.windows_columns import Columns, Grid, Pane

STAGES: Final = ("queue", "score", "total")

_FORMAT: Final = "interlock.window.v1"
_PANE_MILLISECONDS: Final = PANE_SECONDS * 1000

Times = NDArray[np.int64]


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


def touched(observation: Observation, window_milliseconds: int) -> set[WindowKey]:
    """Return the windows that the observation adds to. Raises ValueError if its bytes are no times."""
    scored_at = milliseconds(observation.at)
    return {
        WindowKey(observation.endpoint, each.model, each.version, each.digest, each.arm, start)
        for each in _parts(observation)
        for start, _ in _windows(_times(each, scored_at), window_milliseconds)
    }


def fold(
    observation: Observation,
    window_milliseconds: int,
    states: MutableMapping[WindowKey, WindowState],
    references: Mapping[tuple[str, int], Grids | None],
    closed: Callable[[WindowKey], bool],
) -> None:
    """Add an observation to the windows that it touches; states that are not there yet are made.

    `references` gives by (model, version) the grids that cells are counted on; `closed` says whether a window had
    closed, so that its rows are late. Raises ValueError if the observation's columns or sketches do not fit its rows,
    before anything is folded, and where a window has other columns, after which the states are not to be kept.
    """
    scored_at = milliseconds(observation.at)
    groups = [_read(group, scored_at, window_milliseconds) for group in observation.groups]
    rejected = [(each, _times(each, scored_at)) for each in observation.rejected]
    taken_at = milliseconds(observation.taken_at)
    for each in groups:
        group = each.read.group
        reference = references.get((group.model, group.version))
        for start, rows in _windows(each.times, window_milliseconds):
            key = WindowKey(observation.endpoint, group.model, group.version, group.digest, group.arm, start)
            state = _state(states, key)
            times = each.times[rows]
            state.rows += times.size
            state.late_rows += times.size if closed(key) else 0
            state.latency["queue"].add(np.maximum(taken_at - times, 0))
            state.latency["score"].add(max(scored_at - taken_at, 0), times.size)
            state.latency["total"].add(np.maximum(scored_at - times, 0))
            state.outputs.adopt(group.output_names, None if reference is None else reference.output_grid)
            state.outputs.add(each.read.outputs[rows].T)
            state.features.adopt(group.feature_names, None if reference is None else reference.feature_grid)
            if each.read.features is not None:
                features = each.read.features
                state.features.add(features[:, rows] if isinstance(rows, slice) else features.take(rows, axis=1))
            for pane in each.panes.get(start, ()):
                state.features.add_sketches(pane)
    for rejection, times in rejected:
        for start, rows in _windows(times, window_milliseconds):
            key = WindowKey(
                observation.endpoint, rejection.model, rejection.version, rejection.digest, rejection.arm, start
            )
            state = _state(states, key)
            count = int(times[rows].size)
            state.rejected += count
            state.reasons[rejection.reason] = state.reasons.get(rejection.reason, 0) + count


def event_time_max(observation: Observation) -> int:
    """Return the latest event time of an observation, in milliseconds; its own time where it has no rows."""
    scored_at = milliseconds(observation.at)
    times = [_times(each, scored_at) for each in _parts(observation)]
    return max((int(each.max()) for each in times if each.size), default=scored_at)


@dataclass(frozen=True)
class _Group:
    """A group's columns, its event times, and the panes of each window where it has sketches."""

    read: GroupColumns
    times: Times
    panes: dict[int, list[Pane]]


def _read(group: ObservedGroup, scored_at: int, window_milliseconds: int) -> _Group:
    read = columns(group)
    times = _times(group, scored_at)
    if read.features is not None:
        return _Group(read, times, {})
    if window_milliseconds % _PANE_MILLISECONDS:
        raise ValueError(f"windows of {window_milliseconds} ms cannot take sketches of {_PANE_MILLISECONDS} ms")
    sketches: dict[int, list[FeatureSketch]] = {}
    for sketch in group.sketches:
        sketches.setdefault(milliseconds(sketch.pane), []).append(sketch)
    panes = {start: Pane.of(group.feature_names, each) for start, each in sketches.items()}
    counted = {start: times[rows].size for start, rows in _windows(times, _PANE_MILLISECONDS)}
    if counted != {start: pane.rows for start, pane in panes.items()}:
        raise ValueError("a group's sketches are of other panes, or of more or fewer rows, than its times say")
    windows: dict[int, list[Pane]] = {}
    for start, pane in panes.items():
        windows.setdefault(start - start % window_milliseconds, []).append(pane)
    return _Group(read, times, windows)


def _parts(observation: Observation) -> list[ObservedGroup | ObservedRejection]:
    return [*observation.groups, *observation.rejected]


def _times(rows: ObservedGroup | ObservedRejection, scored_at: int) -> Times:
    times = np.frombuffer(rows.requested_at, dtype="<i8")
    if times.size != rows.rows:
        raise ValueError(f"{rows.rows} requests of {rows.model or 'no version'} have {times.size} times")
    return event_time(times, scored_at)


def _state(states: MutableMapping[WindowKey, WindowState], key: WindowKey) -> WindowState:
    state = states.get(key)
    if state is None:
        state = states[key] = WindowState()
    return state


def _windows(times: Times, window_milliseconds: int) -> Iterator[tuple[int, slice | NDArray[np.intp]]]:
    """Yield the start of each window that the times fall into, and which of them do."""
    if not times.size:
        return
    first = int(times.min()) // window_milliseconds
    last = int(times.max()) // window_milliseconds
    if first == last:
        yield first * window_milliseconds, slice(None)
        return
    numbers = times // window_milliseconds
    for number in np.unique(numbers).tolist():
        rows = np.flatnonzero(numbers == number)
        low, high = int(rows[0]), int(rows[-1]) + 1
        yield number * window_milliseconds, slice(low, high) if high - low == rows.size else rows


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
