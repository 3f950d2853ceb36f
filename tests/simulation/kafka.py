"""A Kafka in memory, as far as transactions go: logs with markers, coordinators, groups, and a network that fails.

What it models, and the contract suite (tests/contract/test_simulated_kafka.py) holds against a real broker: a
producer id and epoch per transactional id, InitProducerId that fences and ends what was begun, records and offsets
that join a transaction by themselves, a new epoch with each end of one, markers that come after the decision and make
it visible, the last stable offset, offsets committed in a transaction, requests and answers that are lost, late or
repeated by nobody, and a broker that comes back having given markers up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from interlock.kafka.transaction_state import Standing
from tests.simulation.loop import VirtualLoop
from tests.simulation.network import Server, Told

Place = tuple[str, int]
"""Topic and partition."""
GROUP: Place = ("__consumer_offsets", 0)

MARKER_SECONDS_MAX = 0.02


class Again(Told):
    """The coordinator still ends the transaction before; ask again."""


class Stale(Told):
    """The producer was fenced."""


class Refused(Told):
    """The request makes no sense in this state."""


@dataclass(eq=False)
class Fate:
    """What becomes of the records of one transaction in one partition."""

    first: int
    state: str = "open"


class Record(NamedTuple):
    """A record, or a marker, as it lies in a log."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    fate: Fate | None
    is_marker: bool = False

    @property
    def visible(self) -> bool:
        """Say whether a reader of committed records gets it; meant for offsets below the last stable one."""
        return not self.is_marker and (self.fate is None or self.fate.state == "committed")


class Log:
    """One partition."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.records: list[Record] = []
        self.open: dict[int, Fate] = {}
        self.waiting: list[asyncio.Future[None]] = []

    @property
    def last_stable(self) -> int:
        """The offset of the first record whose transaction is open."""
        return min((fate.first for fate in self.open.values()), default=len(self.records))

    def append(self, rows: Iterable[tuple[bytes | None, bytes | None, Any]], at: int, producer: int | None) -> None:
        """Write records, as part of the producer's transaction if there is one."""
        fate = None
        if producer is not None:
            fate = self.open.setdefault(producer, Fate(len(self.records)))
        for key, value, headers in rows:
            self.records.append(Record(len(self.records), at, key, value, list(headers), fate))
        self._moved()

    def mark(self, producer: int, committed: bool) -> None:
        """Write a marker: it decides about everything that the producer has open here."""
        fate = self.open.pop(producer, None)
        if fate is not None:
            fate.state = "committed" if committed else "aborted"
        self.records.append(Record(len(self.records), 0, None, None, [], None, is_marker=True))
        self._moved()

    def _moved(self) -> None:
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            if not each.done():
                each.set_result(None)


@dataclass(eq=False)
class Transactional:
    """What the coordinator knows of one transactional id."""

    producer: int
    epoch: int = -1
    state: str = "Empty"
    places: set[Place] = field(default_factory=set)
    outstanding: dict[Place, asyncio.TimerHandle | None] = field(default_factory=dict)
    commits: bool = False
    began: int = 0
    timeout_seconds: float = 0.0


class Cluster(Server):
    """One broker with everything it coordinates. Its methods are what requests do when they arrive."""

    def __init__(self, loop: VirtualLoop, topics: dict[str, int]) -> None:
        super().__init__(loop, "kafka")
        self.logs = {(name, number): Log(loop) for name, count in topics.items() for number in range(count)}
        self.offsets: dict[tuple[str, Place], int] = {}
        self.said: dict[tuple[str, Place], Any] = {}  # the metadata of offsets committed outside of transactions
        self.pending: dict[int, dict[tuple[str, Place], int]] = {}
        self.ids: dict[str, Transactional] = {}
        self.gives_markers_up = 0.0
        self._transactions = 0

    @property
    def is_marking(self) -> bool:
        """Say whether a decision is not visible everywhere yet."""
        return any(each.outstanding for each in self.ids.values())

    @property
    def is_taken_over(self) -> bool:
        """Say whether somebody has just taken over a transactional id, and has begun nothing with it yet."""
        return any(each.state == "Empty" and each.places for each in self.ids.values())

    def restart(self, seconds: float) -> None:
        """Kill the broker and bring it back: connections break; of outstanding markers some may be given up."""
        super().restart(seconds)
        for name, each in sorted(self.ids.items()):
            for place in sorted(each.outstanding):
                timer = each.outstanding[place]
                if timer is not None:
                    timer.cancel()
                if self.loop.chance.random() < self.gives_markers_up:
                    self.loop.note("kafka", "gives up a marker", name, *place)
                    each.outstanding[place] = self.later(seconds, self._unmarked, name, place)
                else:
                    each.outstanding[place] = self.later(seconds + 0.01, self._marked, name, place)

    def describe(self, name: str) -> Standing | None:
        """DescribeTransactions."""
        known = self.ids.get(name)
        return Standing(known.state, known.producer, known.epoch) if known else None

    def committed(self, group: str, source: Place) -> tuple[int, Any] | None:
        """OffsetFetch: an offset and its metadata."""
        offset = self.offsets.get((group, source))
        return None if offset is None else (offset, self.said.get((group, source)))

    def commit_alone(self, group: str, source: Place, offset: int, said: Any) -> None:
        """OffsetCommit, outside of any transaction, by nobody's member."""
        self.offsets[(group, source)], self.said[(group, source)] = offset, said

    def init_producer(self, name: str, timeout_milliseconds: int) -> tuple[int, int]:
        """InitProducerId: fence whoever had the name, and end what he had begun; Again until that is done."""
        known = self.ids.get(name)
        if known is None:
            known = self.ids[name] = Transactional(len(self.ids) + 1)
        if known.state == "Ongoing":
            known.epoch += 1
            self._decide(name, commit=False)
        if known.outstanding:
            raise Again
        known.epoch += 1
        known.state, known.timeout_seconds = "Empty", timeout_milliseconds / 1000
        self.loop.note("kafka", "producer", name, f"epoch={known.epoch}")
        return known.producer, known.epoch

    def join(self, name: str, epoch: int, places: Iterable[Place]) -> None:
        """AddPartitionsToTxn and AddOffsetsToTxn; Produce and TxnOffsetCommit do the same by themselves."""
        known = self._current(name, epoch)
        if known.outstanding:
            raise Again
        missing = [place for place in places if place != GROUP and place not in self.logs]
        if missing:
            raise Refused(f"no partition {missing[0]}")
        if known.state != "Ongoing":
            known.state, known.places = "Ongoing", set()
            self._transactions += 1
            known.began = self._transactions
            self.later(known.timeout_seconds, self._time_out, name, known.began)
        known.places.update(places)

    def produce(self, name: str, epoch: int, place: Place, rows: list[Any], at: int) -> None:
        """Produce, within a transaction."""
        self.join(name, epoch, [place])
        self.logs[place].append(rows, at, self.ids[name].producer)

    def write(self, place: Place, rows: list[tuple[bytes | None, bytes | None, Any]], at: int) -> None:
        """Produce, outside of any transaction."""
        self.logs[place].append(rows, at, None)

    def commit_offsets(self, name: str, epoch: int, group: str, offsets: Mapping[Place, int]) -> None:
        """TxnOffsetCommit."""
        self.join(name, epoch, [GROUP])
        pending = self.pending.setdefault(self.ids[name].producer, {})
        pending |= {(group, source): offset for source, offset in offsets.items()}

    def end(self, name: str, epoch: int, commit: bool = True) -> int:
        """EndTxn; returns the epoch of the next transaction, also where it is asked once more."""
        known = self.ids[name]
        done = ("PrepareCommit", "CompleteCommit") if commit else ("PrepareAbort", "CompleteAbort")
        if epoch == known.epoch - 1 and known.state in done:
            return known.epoch
        known = self._current(name, epoch)
        if known.state != "Ongoing":
            raise Refused(f"{known.state} cannot be ended")
        self._decide(name, commit=commit)
        known.epoch += 1
        return known.epoch

    def fetch(
        self, place: Place, position: int, rows_max: int, committed: bool = True
    ) -> tuple[list[Record], int, int]:
        """Fetch: records, the position behind them, and the last stable offset (or the end)."""
        log = self.logs[place]
        end = log.last_stable if committed else len(log.records)
        found: list[Record] = []
        while position < end and len(found) < rows_max:
            record = log.records[position]
            if record.visible or (not committed and not record.is_marker):
                found.append(record)
            position += 1
        while position < end and (log.records[position].is_marker or (committed and not log.records[position].visible)):
            position += 1
        return found, position, end

    def _current(self, name: str, epoch: int) -> Transactional:
        known = self.ids[name]
        if epoch != known.epoch:
            raise Stale(f"epoch {epoch}, now {known.epoch}")
        return known

    def _decide(self, name: str, *, commit: bool) -> None:
        known = self.ids[name]
        known.commits, known.state = commit, "PrepareCommit" if commit else "PrepareAbort"
        self.loop.note("kafka", "commits" if commit else "aborts", name, f"epoch={known.epoch}")
        for place in sorted(known.places):
            seconds = self.loop.chance.random() * MARKER_SECONDS_MAX
            known.outstanding[place] = self.later(seconds, self._marked, name, place)
        if not known.outstanding:
            known.state = known.state.replace("Prepare", "Complete")

    def _marked(self, name: str, place: Place) -> None:
        known = self.ids[name]
        if place == GROUP:
            offsets = self.pending.pop(known.producer, {})
            if known.commits:
                self.offsets.update(offsets)
        else:
            self.logs[place].mark(known.producer, known.commits)
        self._unmarked(name, place)

    def _unmarked(self, name: str, place: Place) -> None:
        known = self.ids[name]
        del known.outstanding[place]
        if not known.outstanding:
            known.state = known.state.replace("Prepare", "Complete")

    def _time_out(self, name: str, began: int) -> None:
        known = self.ids[name]
        if known.state == "Ongoing" and known.began == began:
            known.epoch += 1
            self._decide(name, commit=False)
