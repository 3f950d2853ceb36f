"""Latency at a fixed rate: from when a request was due until its committed result was read."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from interlock.ids import uuid7
from interlock.schemas import endpoint_topic
from interlock.schemas.topics import ENDPOINT_REQUESTS
from tests.bench import pace, work
from tests.bench.bench import Bench
from tests.bench.processes import Child, Failed, machine_seconds
from tests.bench.rounds import Contender
from tests.bench.topics import Ends, Kafka

ENDPOINT: Final = "pace"
"""Its requests are dropped before each round: every group begins with an empty topic."""
STREAM_RATE: Final = 1_000.0
"""From here on requests are sent a tick at a time, as clients with their usual linger of 5 ms do.

Sent one by one they would take cores, the sender's and the broker's, that those measured need.
"""
WARM_SECONDS: Final = 5.0
"""What is due so soon after the start is sent, but not counted."""
SETTLE_SECONDS: Final = 0.3
LOOK_SECONDS: Final = 0.1
WAIT_SECONDS_MAX: Final = 30.0
LATE_SENDER_MILLISECONDS: Final = 20.0
"""A sender whose 99th percentile is later than this is the bottleneck itself."""
QUANTILES: Final = (0.5, 0.9, 0.99, 0.999)


@dataclass
class Paced:
    """What one contender did at one rate in one round; milliseconds."""

    contender: str
    round: int
    rate: float
    p50: float
    p90: float
    p99: float
    p999: float
    longest: float
    requests: int
    answered: int
    duplicated: int
    own_cores: float
    foreign_cores: float
    sender_p99: float
    """How late the sender itself handed requests over."""
    load: float

    def summary(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(self).items()}


def endpoint(bench: Bench) -> str:
    """Return the topic of requests, made once for a run."""
    topic = endpoint_topic(ENDPOINT_REQUESTS, ENDPOINT)
    if "pace" not in bench.made:
        bench.endpoint(ENDPOINT)
        bench.made.add("pace")
    return topic


def paced(
    bench: Bench, contender: Contender, rate: float, seconds: float, number: int, *, spaced: bool = False
) -> Paced:
    """Run one contender at one rate for a while; what came while it warmed up is left out."""
    kafka, requests = bench.kafka, endpoint(bench)
    group = f"{contender.name}-{uuid7()[-12:]}"
    results = contender.results or f"{group}.results"
    kafka.truncate(requests, work.PARTITIONS)
    kafka.create([results], work.PARTITIONS)
    logs = bench.options.out / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    sent_file, read_file = logs / f"{group}-sent.npy", logs / f"{group}-read.npy"
    role = "stream" if rate >= STREAM_RATE else "send"
    sending = pace.command(
        role, kafka, requests, sent_file, rate=rate, seconds=WARM_SECONDS + seconds,
        seed=work.SEED + number, spaced=int(spaced),
    )  # fmt: skip
    reading = pace.command("read", kafka, results, read_file)
    begins = kafka.ends(results, work.PARTITIONS)
    command = contender.command(kafka, requests, results, group)
    with (
        Child(command, contender.environment, logs / f"{group}.log") as child,
        Child(reading, os.environ, logs / f"{group}-read.log") as reader,
    ):
        with Child(sending, os.environ, logs / f"{group}-send.log") as sender:
            bench.arena.surroundings.look()
            before = _used(bench, child, reader, sender)
            after = before
            while sender.alive:
                after = _used(bench, child, reader, sender)
                time.sleep(LOOK_SECONDS)
        count = max(1, int(rate * (WARM_SECONDS + seconds)))
        settle(kafka, results, begins, count)
    found = _figures(np.load(sent_file), np.load(read_file))
    (began, own, _, _), (ended, own_after, _, _) = before, after
    seconds_seen = ended - began
    foreign = (after[3] - before[3] - (after[2] - before[2])) / seconds_seen
    if contender.results is None:
        kafka.delete([results])
    else:
        kafka.truncate(results, work.PARTITIONS)
    for file in (sent_file, read_file):
        file.unlink()
    return Paced(
        contender=contender.name, round=number, rate=rate, own_cores=(own_after - own) / seconds_seen,
        foreign_cores=foreign, load=os.getloadavg()[0], **found,
    )  # fmt: skip


def _used(bench: Bench, child: Child, *others: Child) -> tuple[float, float, float, float]:
    """Return the time, and processor seconds of the contender, of everything measured, and of the machine."""
    own = child.cpu_seconds()
    return time.monotonic(), own, own + measured_seconds(bench, *others), machine_seconds()[0]


def measured_seconds(bench: Bench, *children: Child) -> float:
    """Return the processor seconds of these, of the servers around them and of the bench itself."""
    around = sum(bench.arena.surroundings.cpu_seconds(part) for part in ("kafka", "ray"))
    return around + sum(each.cpu_seconds() for each in children) + sum(os.times()[:2])


def settle(kafka: Kafka, results: str, begins: Ends, count: int) -> None:
    """Wait, with a bound, until so many results are committed, and until they can have been read."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while int((kafka.ends(results, work.PARTITIONS) - begins).sum()) < count and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    time.sleep(SETTLE_SECONDS)


def _figures(sent: Any, came: Any) -> dict[str, Any]:
    """Return quantiles of the latency of all requests behind the warming ones; one without a result is infinite."""
    due, handed = sent
    at, numbers = came[0], came[1].astype(np.int64)
    first = np.full(due.size, np.inf)
    np.minimum.at(first, numbers, at)
    answered = np.bincount(numbers, minlength=due.size)
    begin = int(np.searchsorted(due, due[0] + WARM_SECONDS))
    milliseconds = (first - due)[begin:] * 1000
    quantiles = np.quantile(milliseconds, QUANTILES, method="higher").tolist()
    return {
        **dict(zip(("p50", "p90", "p99", "p999"), quantiles, strict=True)),
        "longest": float(milliseconds.max()),
        "requests": int(due.size),
        "answered": int((answered > 0).sum()),
        "duplicated": int((answered - 1).clip(0).sum()),
        "sender_p99": float(np.quantile((handed - due)[begin:], 0.99) * 1000),
    }


def interleaved(
    bench: Bench, scenario: str, contenders: Sequence[Contender], rate: float, seconds: float, *, spaced: bool = False
) -> list[Paced]:
    """Run rounds of all contenders at one rate, every second one backwards; note them in the report."""
    found: list[Paced] = []
    for number in range(bench.options.rounds):
        for contender in contenders if number % 2 == 0 else reversed(contenders):
            try:
                each = paced(bench, contender, rate, seconds, number, spaced=spaced)
            except Failed as failure:
                bench.failed(scenario)(contender.name, number, failure)
                continue
            late = ", SENDER LATE" if each.sender_p99 > LATE_SENDER_MILLISECONDS else ""
            bench.say(
                f"{scenario} {number}: {each.contender:8} at {rate:,.4g}/s p50 {each.p50:.1f} p99 {each.p99:.1f} "
                f"p99.9 {each.p999:.1f} ms; {each.answered} of {each.requests}, {each.duplicated} double; "
                f"{each.own_cores:.2f} cores own, {each.foreign_cores:.2f} foreign{late}"
            )
            found.append(each)
    late_rounds = sum(each.sender_p99 > LATE_SENDER_MILLISECONDS for each in found)
    if late_rounds:
        bench.notes[scenario] = (
            f"in {late_rounds} of {len(found)} runs the sender itself was late: the machine was busy"
        )
    bench.figures[scenario] = [each.summary() for each in found]
    return found


def ratios(found: Sequence[Paced], above: str, below: str, quantile: str) -> tuple[float, ...]:
    """Return, round by round, one contender's quantile over another's."""
    by_round = {(each.contender, each.round): float(getattr(each, quantile)) for each in found}
    numbers = [each.round for each in found if each.contender == above and (below, each.round) in by_round]
    return tuple(by_round[above, number] / by_round[below, number] for number in sorted(numbers))
