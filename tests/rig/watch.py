"""What a caller notices: when committed results arrive, partition by partition."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Final, Self

import numpy as np
from confluent_kafka import OFFSET_END, Consumer, TopicPartition

ROWS_MAX: Final = 5_000
LOOK_SECONDS: Final = 0.05
WAIT_MILLISECONDS: Final = 20


class Watch:
    """Reads the results of an endpoint as they come, in a thread of its own, `read_committed`."""

    def __init__(self, bootstrap: str, topic: str, partitions: int) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "watch",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": WAIT_MILLISECONDS,
                "log_level": 0,
            }
        )
        self._consumer.assign([TopicPartition(topic, each, OFFSET_END) for each in range(partitions)])
        self._arrivals: list[list[float]] = [[] for _ in range(partitions)]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self.results = 0

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._stopping.set()
        self._thread.join()
        self._consumer.close()

    def flows(self, since: float) -> bool:
        """Say whether every partition has had a result since a moment (of `time.monotonic`)."""
        return all(arrivals and arrivals[-1] > since for arrivals in self._arrivals)

    def silence(self, since: float, until: float) -> list[float]:
        """Return for each partition the longest time without a result between two moments, in seconds."""
        return [float(np.diff(_between(arrivals, since, until)).max()) for arrivals in self._arrivals]

    def _read(self) -> None:
        while not self._stopping.is_set():
            messages = self._consumer.consume(ROWS_MAX, LOOK_SECONDS)
            now = time.monotonic()
            for message in messages:
                if message.error() is None:
                    self._arrivals[message.partition() or 0].append(now)
                    self.results += 1


def _between(arrivals: Sequence[float], since: float, until: float) -> list[float]:
    """Return the moments of arrivals between two others, and those two."""
    return [since, *(each for each in list(arrivals) if since < each < until), until]


def percentiles(values: Sequence[float]) -> str:
    """Return p50, p95 and the largest, for a report."""
    p50, p95 = np.percentile(values, [50, 95])
    return f"p50 {p50:.2f} s, p95 {p95:.2f} s, max {max(values):.2f} s"
