"""An open loop: requests sent when they are due whether or not the last are answered, results read as they commit.

Sender and reader are processes of their own, so that neither waits for the other or for the bench. Times are
CLOCK_MONOTONIC, which all processes of a machine share. A latency runs from when a request was due, not from when it
could be sent: so a service that stalls cannot hide it (no coordinated omission).
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from confluent_kafka import TopicPartition

from tests.bench import work
from tests.bench.topics import Kafka, take

LEAD_SECONDS: Final = 0.3
NAP_SECONDS: Final = 0.0003
WAIT_SECONDS: Final = 0.01
FLUSH_SECONDS_MAX: Final = 60.0
READ_ROWS: Final = 2_000
TICK_SECONDS: Final = 0.005
FLOOD_NAMES: Final = 65_536
LINGER_MILLISECONDS: Final = 1
SPACED_LEAST: Final = 0.7
"""Lone requests are spaced by 70 to 130 % of the even interval, so that none falls into step with a timer."""
_NAME_AT: Final = 7
_NAME_BYTES: Final = 9

Times = npt.NDArray[np.float64]


def due_times(rate: float, seconds: float, seed: int, *, spaced: bool) -> Times:
    """Return when requests are due, in seconds from the start: Poisson arrivals, or spaced so that each is alone."""
    random = np.random.default_rng(seed)
    count = max(1, int(rate * seconds))
    gaps = random.uniform(SPACED_LEAST, 2 - SPACED_LEAST, count) if spaced else random.exponential(1.0, count)
    return np.cumsum(gaps) / rate


def send(given: argparse.Namespace) -> None:
    """Send, then write down when each request was due and when it was handed over."""
    kafka = Kafka(given.bootstrap)
    times = due_times(given.rate, given.seconds, given.seed, spaced=given.spaced)
    values, keys = [work.request(number) for number in range(times.size)], work.keys(times.size, given.seed)
    producer = kafka.producer(**{"linger.ms": LINGER_MILLISECONDS})
    producer.list_topics(given.topic, timeout=FLUSH_SECONDS_MAX)
    _say_ready()
    start = time.monotonic() + LEAD_SECONDS
    dues = (times + start).tolist()
    sent = np.empty(times.size)
    for number, due in enumerate(dues):
        while (now := time.monotonic()) < due:
            producer.poll(0)
            time.sleep(min(NAP_SECONDS, max(0.0, due - now)))
        producer.produce(given.topic, value=values[number], key=keys[number])
        sent[number] = now
        if number % 64 == 0:
            producer.poll(0)
    assert producer.flush(FLUSH_SECONDS_MAX) == 0
    np.save(given.file, np.stack([np.array(dues), sent]))


def flood(given: argparse.Namespace) -> None:
    """Send at a rate in ticks, whatever becomes of it; write down how many were sent. Names repeat after a while."""
    kafka = Kafka(given.bootstrap)
    values, keys = [work.request(number) for number in range(FLOOD_NAMES)], work.keys(FLOOD_NAMES, given.seed)
    producer = kafka.producer()
    producer.list_topics(given.topic, timeout=FLUSH_SECONDS_MAX)
    _say_ready()
    start, total, sent = time.monotonic(), int(given.rate * given.seconds), 0
    while sent < total:
        wanted = min(total, int((time.monotonic() - start) * given.rate))
        while sent < wanted:
            place = sent % FLOOD_NAMES
            try:
                producer.produce(given.topic, value=values[place], key=keys[place])
                sent += 1
            except BufferError:
                producer.poll(TICK_SECONDS)
        producer.poll(TICK_SECONDS)
    assert producer.flush(FLUSH_SECONDS_MAX) == 0
    np.save(given.file, np.array([sent, time.monotonic() - start]))


def read(given: argparse.Namespace) -> None:
    """Read results until SIGTERM, then write down when each came."""
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    kafka = Kafka(given.bootstrap)
    begins = kafka.ends(given.topic, work.PARTITIONS)
    consumer = kafka.consumer()
    consumer.assign([TopicPartition(given.topic, index, int(begin)) for index, begin in enumerate(begins)])
    consumer.consume(1, WAIT_SECONDS)
    _say_ready()
    times: list[float] = []
    numbers: list[int] = []
    while not stopping.is_set():
        records = take(consumer, READ_ROWS, WAIT_SECONDS)
        now = time.monotonic()
        values = [record.value() or b"" for record in records if record.error() is None]
        times += [now] * len(values)
        numbers += [int(value[_NAME_AT : _NAME_AT + _NAME_BYTES]) for value in values]
    consumer.close()
    np.save(given.file, np.stack([np.array(times), np.array(numbers, dtype=np.float64)]))


def _say_ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


def command(role: str, kafka: Kafka, topic: str, file: Path, **more: float | str) -> list[str]:
    """Return the command of a sender or a reader."""
    words = {"bootstrap": kafka.bootstrap, "topic": topic, "file": str(file)} | {n: str(v) for n, v in more.items()}
    return [sys.executable, "-m", "tests.bench.pace", role, *(w for n, v in words.items() for w in ("--" + n, v) if w)]


ROLES: Final[dict[str, Callable[[argparse.Namespace], None]]] = {"send": send, "flood": flood, "read": read}


def main() -> int:
    """Read the command line and send or read."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=tuple(ROLES))
    for name in ("bootstrap", "topic"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--rate", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=work.SEED)
    parser.add_argument("--spaced", type=int, default=0)
    given = parser.parse_args()
    ROLES[given.role](given)
    return 0


if __name__ == "__main__":
    sys.exit(main())
