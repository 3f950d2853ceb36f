"""A peer on a real Kafka for a short while: whether it answers each request once and with the model's own score.

The rate here is of one short drain and only says that nothing is broken; `tests.bench` measures.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import psutil
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # it is there all the same

from tests.bench import work
from tests.bench.peers import contenders
from tests.bench.peers.contenders import Contender

READY_SECONDS_MAX = 180
DRAIN_SECONDS_MAX = 180
SILENCE_SECONDS_MAX = 20
"""Without a result for so long, a peer is done, or lost the rest."""
STOP_SECONDS_MAX = 30
LINGER_SECONDS = 2
"""How long is listened for duplicates after the last result."""
SCORE_ERROR_MAX = 1e-6
LATE_SHARE = 0.2
"""The share of results after which the clock starts: the first ones come while the peer warms up."""
LOG_CHARACTERS_MAX = 4000


class NotReady(Exception):
    """A peer did not come to the point where it consumes; the message ends with what it wrote."""


@dataclass
class Seen:
    """What a peer answered."""

    requests: int
    scores: dict[str, float] = field(default_factory=dict)
    repeated: Counter[str] = field(default_factory=Counter)
    marks: list[tuple[float, float, int]] = field(default_factory=list)
    """When, CPU seconds of the process tree by then, results by then."""
    exit_code: int | None = None
    log: str = ""

    def add(self, request_id: str, score: float) -> None:
        """Note a result."""
        if request_id in self.scores:
            self.repeated[request_id] += 1
        self.scores[request_id] = score

    @property
    def lost(self) -> int:
        """Return how many requests have no result."""
        return sum(work.name(number) not in self.scores for number in range(self.requests))

    @property
    def wrong(self) -> int:
        """Return how many results bear another score than the model gives, or an id that nobody sent."""
        expected = work.expected()
        right = {work.name(number): expected[number % work.ROWS] for number in range(self.requests)}
        return sum(
            name not in right or not np.isclose(score, right[name], rtol=0, atol=SCORE_ERROR_MAX)
            for name, score in self.scores.items()
        )

    def rate(self) -> tuple[float, float]:
        """Return results a second and CPU microseconds a result, after the first LATE_SHARE; NaN where too few."""
        late = [mark for mark in self.marks if mark[2] >= self.requests * LATE_SHARE]
        if len(late) < 2:
            return float("nan"), float("nan")
        (started, before, first), (ended, after, last) = late[0], late[-1]
        return (last - first) / (ended - started), (after - before) / (last - first) * 1e6

    def verdict(self) -> str:
        """Return one line."""
        faults = {"lost": self.lost, "repeated": self.repeated.total(), "wrong": self.wrong}
        told = ", ".join(f"{count} {what}" for what, count in faults.items() if count) or "each answered once, rightly"
        rate, cpu = self.rate()
        return f"{len(self.scores)} of {self.requests}: {told}; {rate:,.0f}/s, {cpu:.0f} us CPU; exit {self.exit_code}"


def run(contender: Contender, bootstrap: str, requests: int, more: tuple[str, ...] = ()) -> Seen:
    """Let a prepared peer answer that many requests, and stop it."""
    topics = _topics(bootstrap, contender.name)
    seen = Seen(requests)
    with tempfile.TemporaryDirectory() as kept:
        schema = Path(kept) / "requests.avsc"
        schema.write_text(json.dumps(work.SCHEMA))
        if contender.reads_from == "earliest":
            _produce(contender, bootstrap, topics[0], range(requests))
        command = contenders.command(
            contender.name,
            bootstrap=bootstrap,
            requests=topics[0],
            results=topics[1],
            group=topics[0] + ".group",
            model=work.model_file(),
            schema=schema,
            partitions=work.PARTITIONS,
            more=more,
        )
        with (Path(kept) / "log").open("w+") as log:
            with _running(command, log, seen) as process:
                _drain(contender, bootstrap, topics, process, seen)
            log.seek(0)
            seen.log = log.read()[-LOG_CHARACTERS_MAX:]
    return seen


def _drain(contender: Contender, bootstrap: str, topics: tuple[str, str], process: psutil.Process, seen: Seen) -> None:
    with _reader(bootstrap, topics[1]) as reader:
        ends = time.monotonic() + DRAIN_SECONDS_MAX
        heard = time.monotonic()
        sent = seen.requests if contender.reads_from == "earliest" else 0
        while time.monotonic() < min(ends, heard + SILENCE_SECONDS_MAX):
            burst = (contender.unanswered_max or 2 * seen.requests) // 2
            if sent < seen.requests and sent - len(seen.scores) <= burst:
                following = min(sent + burst, seen.requests)
                _produce(contender, bootstrap, topics[0], range(sent, following))
                sent = following
            messages = reader.consume(2000, 0.05)
            for message in messages:
                assert message.error() is None, message.error()
                seen.add(*contenders.read_result(contender.name, message.value()))
            if messages:
                heard = time.monotonic()
                seen.marks.append((heard, _cpu_seconds(process), len(seen.scores)))
            elif len(seen.scores) >= seen.requests and time.monotonic() > heard + LINGER_SECONDS:
                return


@contextmanager
def _running(command: list[str], log: IO[str], seen: Seen) -> Iterator[psutil.Process]:
    process = subprocess.Popen(
        command, cwd=contenders.ROOT, env=contenders.environment(), stdout=subprocess.PIPE, stderr=log, text=True
    )
    try:
        assert process.stdout is not None
        ready = threading.Event()
        threading.Thread(target=_listen, args=(process.stdout, log, ready), daemon=True).start()
        if not ready.wait(READY_SECONDS_MAX):
            log.seek(0)
            raise NotReady(f"not ready in {READY_SECONDS_MAX} s: {log.read()[-LOG_CHARACTERS_MAX:]}")
        yield psutil.Process(process.pid)
        process.send_signal(signal.SIGTERM)
        seen.exit_code = process.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        seen.exit_code = None
    finally:
        for each in _tree(psutil.Process(process.pid)) if process.poll() is None else ():
            each.kill()
        process.wait(STOP_SECONDS_MAX)


def _listen(out: IO[str], log: IO[str], ready: threading.Event) -> None:
    for line in out:
        if line.strip() == "ready":
            ready.set()
        else:
            log.write(line)


def _tree(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return []


def _cpu_seconds(process: psutil.Process) -> float:
    total = 0.0
    for each in _tree(process):
        try:
            total += sum(each.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue
    return total


def _topics(bootstrap: str, name: str) -> tuple[str, str]:
    stem = f"peer.{name}.{os.getpid()}.{time.monotonic_ns()}"
    topics = (stem + ".requests", stem + ".results")
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for made in admin.create_topics([NewTopic(topic, work.PARTITIONS, 1) for topic in topics]).values():
        made.result(30)
    return topics


def _produce(contender: Contender, bootstrap: str, topic: str, numbers: range) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, "queue.buffering.max.messages": 1_000_000})
    keys = work.keys(numbers.stop)
    rows = work.rows()
    for number in numbers:
        if contender.encoding == "avro":
            producer.produce(topic, work.request(number), keys[number])
        else:
            row = rows[number % work.ROWS].tolist()
            value = contenders.encode_v2(work.name(number), 0, row)
            producer.produce(topic, value, partition=number % work.PARTITIONS, headers=contenders.V2_HEADERS)
    assert producer.flush(60) == 0


@contextmanager
def _reader(bootstrap: str, topic: str) -> Iterator[Any]:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": topic + ".reader",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 20,
        }
    )
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(work.PARTITIONS)])
    try:
        yield consumer
    finally:
        consumer.close()
