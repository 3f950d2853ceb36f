"""Overload: requests come faster than they can be answered, for minutes; what is answered, and at what memory."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from interlock.ids import uuid7
from interlock.schemas import endpoint_topic
from interlock.schemas.topics import ENDPOINT_BATCHES, ENDPOINT_OBSERVATIONS, ENDPOINT_RESULTS
from tests.bench import latency, pace, work
from tests.bench.bench import Bench
from tests.bench.processes import Child, machine_seconds
from tests.bench.rounds import Contender

LOOK_SECONDS: Final = 0.25
ROOM_LOOK_SECONDS: Final = 5.0
BEGIN_SECONDS: Final = 5.0
TIDY_SECONDS: Final = 10.0
WINDOWS: Final = 10
WRITTEN: Final = (ENDPOINT_RESULTS, ENDPOINT_OBSERVATIONS, ENDPOINT_BATCHES)
DRAIN_SECONDS_MAX: Final = 600.0


@dataclass
class Overloaded:
    """What the lanes did while too much came; rates in events a second, memory of the router in MiB."""

    round: int
    offered: float
    sent: int
    goodput: float
    """Requests answered a second while the overload lasted."""
    windows: tuple[float, ...]
    """The same in each tenth of that time."""
    after: float
    """The rate at which the backlog was drained when nothing more came: what is possible without a sender beside it."""
    backlog: int
    """Requests that waited when the last was sent."""
    memory_before: float
    memory_peak: float
    answered: int
    foreign_cores: float
    load: float

    def summary(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(self).items()}


class _Looks:
    """What is seen of a router under load, look by look: requests answered, and memory in MiB."""

    def __init__(self, bench: Bench, requests: str, group: str) -> None:
        self._kafka = bench.kafka
        self._requests = requests
        self._begins = int(bench.kafka.ends(requests, work.PARTITIONS).sum())
        # Read committed, the broker would not say how far the group is while a transaction is open, as one always is.
        self._group = bench.kafka.consumer(**{"group.id": group, "isolation.level": "read_uncommitted"})
        self._tidied_at = time.monotonic()
        self.at: list[float] = []
        self.answered: list[int] = []
        self.memory: list[float] = []

    def look(self, child: Child) -> int:
        """Look once; return how many are answered: the offsets that the group has committed with its results."""
        answered = self._kafka.committed(self._group, self._requests, work.PARTITIONS) - self._begins
        self.at.append(time.monotonic())
        self.answered.append(max(answered, 0))
        self.memory.append(child.pss_bytes() / 2**20)
        if self.at[-1] - self._tidied_at > TIDY_SECONDS:
            self._tidied_at = self.at[-1]
            for kind in WRITTEN:  # minutes of results would fill the disk
                self._kafka.truncate(endpoint_topic(kind, latency.ENDPOINT), work.PARTITIONS)
        time.sleep(LOOK_SECONDS)
        return self.answered[-1]

    def close(self) -> None:
        """Disconnect."""
        self._group.close()


def overloaded(
    bench: Bench, contender: Contender, rate: float, seconds: float, number: int, *, with_reader: bool = False
) -> Overloaded:
    """Send at a rate for a while, whatever is answered; then let the lanes drain what is left.

    `with_reader` has the results read meanwhile, as where latency is measured: that needs its share of the cores too.
    """
    kafka, requests = bench.kafka, latency.endpoint(bench)
    assert contender.results is not None
    group = f"{contender.name}-{uuid7()[-12:]}"
    kafka.truncate(requests, work.PARTITIONS)
    logs = bench.options.out / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    told, heard = logs / f"{group}.npy", logs / f"{group}-read.npy"
    sending = pace.command("flood", kafka, requests, told, rate=rate, seconds=seconds)
    looks = _Looks(bench, requests, group)
    reading = pace.command("read", kafka, contender.results, heard)
    command = contender.command(kafka, requests, contender.results, group)
    with ExitStack() as beside, Child(command, contender.environment, logs / f"{group}.log") as child:
        measured = [child]
        if with_reader:
            measured.append(beside.enter_context(Child(reading, os.environ, logs / f"{group}-read.log")))
        with Child(sending, os.environ, logs / f"{group}-send.log") as sender:
            measured.append(sender)
            before = machine_seconds()[0], latency.measured_seconds(bench, *measured)
            used = (0.0, 0.0)
            while sender.alive:
                looks.look(child)
                used = machine_seconds()[0] - before[0], latency.measured_seconds(bench, *measured) - before[1]
            ended = len(looks.at) - 1
        sent = int(np.load(told)[0])
        deadline = time.monotonic() + DRAIN_SECONDS_MAX
        while looks.look(child) < sent and time.monotonic() < deadline:
            pass
    looks.close()
    told.unlink()
    heard.unlink(missing_ok=True)
    kafka.truncate(requests, work.PARTITIONS)
    at, answered, memory = (np.array(column) for column in (looks.at, looks.answered, looks.memory))
    first = int(np.searchsorted(at, at[0] + BEGIN_SECONDS))
    last = int(np.searchsorted(answered, answered[-1]))
    return Overloaded(
        round=number,
        offered=rate,
        sent=sent,
        goodput=float((answered[ended] - answered[first]) / (at[ended] - at[first])),
        windows=_windows(at[first : ended + 1], answered[first : ended + 1]),
        after=float((answered[last] - answered[ended]) / max(at[last] - at[ended], LOOK_SECONDS)),
        backlog=sent - int(answered[ended]),
        memory_before=float(memory[first]),
        memory_peak=float(memory[first:].max()),
        answered=int(answered[-1]),
        foreign_cores=float((used[0] - used[1]) / (at[ended] - at[0])),
        load=os.getloadavg()[0],
    )


def wait_for_room(folder: Path, needed: float, seconds_max: float) -> int:
    """Wait, with a bound, until a folder's disk has room for so many bytes; return how many it has room for."""
    deadline = time.monotonic() + seconds_max
    while (room := shutil.disk_usage(folder).free) < needed and time.monotonic() < deadline:
        time.sleep(ROOM_LOOK_SECONDS)
    return room


def _windows(at: npt.NDArray[np.float64], answered: npt.NDArray[np.int64]) -> tuple[float, ...]:
    """Return the rate in each of WINDOWS equal stretches of time."""
    edges = np.linspace(at[0], at[-1], WINDOWS + 1)
    return tuple((np.diff(np.interp(edges, at, answered)) / np.diff(edges)).tolist())
