"""A router that dies or ends as planned at half load: for how long its partitions, and the other's, are silent."""

from __future__ import annotations

import os
import signal
import time
import zlib
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from interlock.ids import uuid7
from tests.bench import latency, pace, work
from tests.bench.bench import Bench
from tests.bench.processes import Child, Failed
from tests.bench.rounds import Contender

STEADY_SECONDS: Final = 8.0
"""How long both routers answer before one is struck."""
AFTER_SECONDS: Final = 15.0
"""How long requests go on coming after that: more than anything may take."""
LOOK_SECONDS: Final = 0.1


@dataclass
class Struck:
    """What one strike did; seconds."""

    signal: str
    round: int
    rate: float
    silent: float
    """The longest time without a result of any one partition, after the strike."""
    requests: int
    load: float

    def summary(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


def strike(bench: Bench, router: Contender, rate: float, number: signal.Signals, at: int) -> Struck:
    """Let two routers answer, end one of them by a signal, and see when results of every partition go on.

    Raises Failed where a request has no result in time, or two.
    """
    kafka, requests = bench.kafka, latency.endpoint(bench)
    assert router.results is not None
    kafka.truncate(requests, work.PARTITIONS)
    logs = bench.options.out / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    group = f"{router.name}-{uuid7()[-12:]}"
    sent_file, read_file = logs / f"{group}-sent.npy", logs / f"{group}-read.npy"
    seconds, seed = STEADY_SECONDS + AFTER_SECONDS, work.SEED + at
    sending = pace.command("stream", kafka, requests, sent_file, rate=rate, seconds=seconds, seed=seed)
    begins = kafka.ends(router.results, work.PARTITIONS)
    command = router.command(kafka, requests, router.results, group)
    with (
        Child(command, router.environment, logs / f"{group}-victim.log") as victim,
        Child(command, router.environment, logs / f"{group}-survivor.log"),
        Child(pace.command("read", kafka, router.results, read_file), os.environ, logs / f"{group}-read.log"),
    ):
        with Child(sending, os.environ, logs / f"{group}-send.log") as sender:
            time.sleep(STEADY_SECONDS)
            struck = time.monotonic()
            os.kill(victim.tree()[0], number)
            while sender.alive:
                time.sleep(LOOK_SECONDS)
        latency.settle(kafka, router.results, begins, max(1, int(rate * seconds)))
    dues, came = np.load(sent_file)[0], np.load(read_file)
    for file in (sent_file, read_file):
        file.unlink()
    kafka.truncate(router.results, work.PARTITIONS)
    answers = np.bincount(came[1].astype(np.int64), minlength=dues.size)
    if answers.min() != 1 or answers.max() != 1:
        raise Failed(f"{(answers == 0).sum()} of {dues.size} requests have no result, {(answers > 1).sum()} several")
    silent = _silence(came, work.keys(dues.size, seed), struck, float(dues[-1]))
    return Struck(number.name, at, rate, silent, int(dues.size), os.getloadavg()[0])


def _silence(came: npt.NDArray[np.float64], keys: list[bytes], begin: float, end: float) -> float:
    """Return the longest time without a result of any one partition between two moments."""
    partitions = np.array([zlib.crc32(key) % work.PARTITIONS for key in keys])[came[1].astype(np.int64)]
    longest = 0.0
    for partition in range(work.PARTITIONS):
        at = np.sort(came[0][partitions == partition])
        seen = np.concatenate([[begin], at[(at > begin) & (at < end)], [end]])
        longest = max(longest, float(np.diff(seen).max()))
    return longest
