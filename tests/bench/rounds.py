"""Rounds: every contender in turn drains the same preloaded requests, alone, and what it committed is counted.

Nothing reads the results meanwhile: how far they can be read is asked of the broker every few milliseconds, beside the
processor time used so far; afterwards all of them are read and compared with the requests.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from interlock.ids import uuid7
from tests.bench import work
from tests.bench.processes import Child, Failed, Surroundings, machine_seconds
from tests.bench.topics import Ends, Kafka, Read

LOOK_SECONDS: Final = 0.02
CPU_SECONDS: Final = 0.1
"""Processor times are looked at less often, as that takes longer, and interpolated."""
QUIET_SECONDS: Final = 0.6
"""All is there and nothing more came for so long: the round is over."""
STALL_SECONDS_MAX: Final = 30.0
"""Something is missing and nothing came for so long: it will not come."""
ROUND_SECONDS_MAX: Final = 300.0
BEGIN: Final = 0.15
END: Final = 0.95
"""The share of requests between which rate and processor time are measured: start and tail are everybody's own."""
SCORES_CHECKED: Final = 200
SCORE_TOLERANCE: Final = 1e-5

_NAME: Final = re.compile(rb"r(\d{9})")


@dataclass(frozen=True)
class Contender:
    """Somebody who answers the requests of a topic."""

    name: str
    guarantee: str
    command: Callable[[Kafka, str, str, str], Sequence[str]]
    """Kafka, topic of requests, topic of results, group: what to run."""
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    results: str | None = None
    """The topic of its results, where it cannot be told."""
    score: Callable[[bytes], float] | None = None
    """Reads a score out of a result; None where there is none."""
    feed: Callable[[Kafka, str, int, int], int] | None = None
    """Kafka, topic, how many were sent and how many are answered: sends more, and returns how many were sent in all.

    For those who read from the end of a topic, and lose what comes too fast; None where requests lie there before.
    """


@dataclass(frozen=True)
class Entry:
    """A contender, the topic that it drains, and how many requests that holds."""

    contender: Contender
    requests: str
    count: int


@dataclass
class Drained:
    """What one contender did in one round; processor times in microseconds for an event."""

    contender: str
    round: int
    events_per_second: float
    cpu_microseconds: float
    kafka_cpu_microseconds: float
    ray_cpu_microseconds: float
    foreign_cores: float
    """Processors that worked for nobody measured: the neighbours."""
    bench_cores: float
    """What the bench itself took to look on."""
    stolen_cores: float
    pss_mebibytes: float
    seconds: float
    requests: int
    results: int
    lost: int
    duplicated: int
    wrong_scores: int
    load: float

    def summary(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(self).items()}


@dataclass
class _Timeline:
    """What was seen during a round, look by look."""

    at: list[float] = field(default_factory=list)
    ends: list[Ends] = field(default_factory=list)
    cpu: list[tuple[float, ...]] = field(default_factory=list)
    """Time, then processor seconds of the contender, Kafka, Ray, the bench and the machine, and those stolen."""

    def cpu_between(self, first: int, last: int) -> list[float]:
        """Return the processor seconds used between two looks, one for each column behind the time."""
        times, *columns = np.array(self.cpu).T
        return [float(np.diff(np.interp((self.at[first], self.at[last]), times, each))[0]) for each in columns]


class Arena:
    """Where rounds take place: one broker, its surroundings, and a folder for logs."""

    def __init__(self, kafka: Kafka, surroundings: Surroundings, logs: Path) -> None:
        self.kafka = kafka
        self.surroundings = surroundings
        self._logs = logs
        logs.mkdir(parents=True, exist_ok=True)

    def drain(self, entry: Entry, number: int) -> Drained:
        """Let a contender answer all requests of its topic, under a group of its own."""
        contender, requests, count = entry.contender, entry.requests, entry.count
        group = f"{contender.name}-{uuid7()[-12:]}"
        results = contender.results or f"{group}.results"
        self.kafka.create([results], work.PARTITIONS)
        begins = self.kafka.ends(results, work.PARTITIONS)
        self.surroundings.look()
        command = contender.command(self.kafka, requests, results, group)
        with Child(command, contender.environment, self._logs / f"{contender.name}-{number}.log") as child:
            seen = self._watch(child, entry, results, begins)
            memory = child.pss_bytes() / 2**20
        read = self.kafka.read(results, begins, seen.ends[-1])
        drained = _measured(contender, number, seen, begins, read, count, memory)
        if contender.results is None:
            self.kafka.delete([results])
        else:
            self.kafka.truncate(results, work.PARTITIONS)
        return drained

    def _watch(self, child: Child, entry: Entry, results: str, begins: Ends) -> _Timeline:
        """Look until everything is answered, or nothing more comes; where that is needed, send requests meanwhile."""
        seen, count, feed, sent = _Timeline(), entry.count, entry.contender.feed, 0
        began = moved_at = time.monotonic()
        committed = -1
        while True:
            now = time.monotonic()
            ends = self.kafka.ends(results, work.PARTITIONS)
            seen.at.append(now)
            seen.ends.append(ends)
            if not seen.cpu or now - seen.cpu[-1][0] > CPU_SECONDS:
                seen.cpu.append(self._cpu(child))
            total = int((ends - begins).sum())
            if total != committed:
                committed, moved_at = total, now
            if feed is not None and sent < count:
                sent = feed(self.kafka, entry.requests, sent, total)
            quiet = now - moved_at
            if (total >= count and quiet > QUIET_SECONDS) or quiet > STALL_SECONDS_MAX or not child.alive:
                seen.cpu.append(self._cpu(child))
                return seen
            if now - began > ROUND_SECONDS_MAX:
                raise Failed(f"{committed} of {count} after {ROUND_SECONDS_MAX:.0f} s")
            time.sleep(LOOK_SECONDS)

    def _cpu(self, child: Child) -> tuple[float, ...]:
        around = (self.surroundings.cpu_seconds(part) for part in ("kafka", "ray"))
        return time.monotonic(), child.cpu_seconds(), *around, sum(os.times()[:2]), *machine_seconds()


def _measured(
    contender: Contender, number: int, seen: _Timeline, begins: Ends, read: Read, count: int, memory: float
) -> Drained:
    """Turn looks into figures: at each look exactly those records were readable that lie before its ends."""
    ends = np.array(seen.ends)
    readable = np.zeros(len(ends), dtype=np.int64)
    for partition in range(ends.shape[1]):
        offsets = np.sort(read.offsets[read.partitions == partition])
        readable += np.searchsorted(offsets, ends[:, partition])
    numbers, wrong = _checked(contender, read)
    lost, duplicated = _compared(numbers, count)
    if readable[-1] == 0:
        raise Failed("it answered nothing")
    first = int(np.searchsorted(readable, BEGIN * readable[-1]))
    last = int(np.searchsorted(readable, END * readable[-1]))
    events = int(readable[last] - readable[first])
    seconds = seen.at[last] - seen.at[first]
    own, kafka, ray, bench, machine, stolen = seen.cpu_between(first, last)
    return Drained(
        contender=contender.name,
        round=number,
        events_per_second=events / seconds,
        cpu_microseconds=own / events * 1e6,
        kafka_cpu_microseconds=kafka / events * 1e6,
        ray_cpu_microseconds=ray / events * 1e6,
        foreign_cores=(machine - own - kafka - ray - bench) / seconds,
        bench_cores=bench / seconds,
        stolen_cores=stolen / seconds,
        pss_mebibytes=memory,
        seconds=seconds,
        requests=count,
        results=len(read.values),
        lost=lost,
        duplicated=duplicated,
        wrong_scores=wrong,
        load=os.getloadavg()[0],
    )


def _checked(contender: Contender, read: Read) -> tuple[npt.NDArray[np.int64], int]:
    """Return the numbers of the requests that are answered, and how many of some scores are not the model's."""
    names = [found.group(1) if (found := _NAME.search(value)) else b"-1" for value in read.values]
    numbers = np.array(names, dtype="S9").astype(np.int64)
    if contender.score is None:
        return numbers, 0
    step = max(1, len(names) // SCORES_CHECKED)
    wrong = 0
    for index in range(0, len(names), step):
        expected = work.expected()[numbers[index] % work.ROWS]
        wrong += not abs(contender.score(read.values[index]) - expected) <= SCORE_TOLERANCE
    return numbers, wrong


def _compared(numbers: npt.NDArray[np.int64], count: int) -> tuple[int, int]:
    """Return how many of `count` requests have no answer, and how many answers are one too many."""
    known = numbers[(numbers >= 0) & (numbers < count)]
    answers = np.bincount(known, minlength=count)
    return int((answers == 0).sum()), int((answers - 1).clip(0).sum()) + int(numbers.size - known.size)


def interleaved(
    arena: Arena,
    entries: Sequence[Entry],
    rounds: int,
    note: Callable[[Drained], None],
    failed: Callable[[str, int, Failed], None],
) -> list[Drained]:
    """Run rounds of all contenders, every second one backwards, so that nobody always follows the same one.

    One that fails is told to `failed`, and the others go on.
    """
    found: list[Drained] = []
    for number in range(rounds):
        for entry in entries if number % 2 == 0 else reversed(entries):
            try:
                drained = arena.drain(entry, number)
            except Failed as failure:
                failed(entry.contender.name, number, failure)
                continue
            note(drained)
            found.append(drained)
    return found
