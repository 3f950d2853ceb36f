"""The stream: a process of its own that sends card transactions to the endpoint's request topic.

It reads orders on standard input, one JSON document a line, and says on standard output, in the same way, what it
has done. `{"do": "schema", "id": 1042}` says what the requests are framed with; `{"do": "rate", "per_second": 2000,
"phase": "s"}` sends at an even rate until the next order; `{"do": "burst", "count": 100000, "phase": "b"}` sends as
fast as Kafka takes them; `{"do": "shift"}` goes on where the world has changed; `{"do": "label", "phase": "s"}` says
the truth about all that was sent under a letter; `{"do": "stop"}` ends it. Requests are dated with the moment they
were due, so that a slow sender cannot hide a slow answer.
"""

from __future__ import annotations

import argparse
import queue
import threading
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
from confluent_kafka import KafkaError, Message, Producer

from examples.fraud.labels import Labels, Sent
from examples.fraud.orders import listen, say
from examples.fraud.requests import Requests

TICK_SECONDS: Final = 0.01
REPORT_SECONDS: Final = 0.5
BURST_ROWS: Final = 2_000
BEHIND_ROWS_MAX: Final = 4_000
LABEL_ROWS: Final = 1_000


class Stream:
    """Sends the prepared requests in order, each once."""

    def __init__(self, bootstrap: str, endpoint: str, requests: Requests, keys: list[bytes], labels: Labels) -> None:
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "linger.ms": 2,
                "queue.buffering.max.messages": 200_000,
                "on_delivery": self._delivered,
            }
        )
        self._topic = f"{endpoint}.requests"
        self._labels_topic = f"{endpoint}.labels"
        self._labels = labels
        self._requests = requests
        self._keys = keys
        self._journal: list[Sent] = []
        self.next_row = 0
        self.sent = 0
        self.acknowledged = 0
        self.labelled = 0
        self.failed = 0

    @property
    def left(self) -> int:
        """How many requests have not been sent yet."""
        return len(self._requests) - self.next_row

    def send(self, count: int, phase: str, due_milliseconds: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        """Hand the next `count` requests to the client library, which sends them behind our back."""
        start, stop = self.next_row, self.next_row + count
        values = self._requests.bytes_of(start, stop, phase, due_milliseconds)
        produce, topic = self._producer.produce, self._topic
        for value, key in zip(values, self._keys[start:stop], strict=True):
            while True:
                try:
                    produce(topic, value, key)
                    break
                except BufferError:
                    self._producer.poll(0.05)
        self._journal.append(Sent(start, phase, due_milliseconds))
        self.next_row = stop
        self.sent += count
        self._producer.poll(0)

    def label(self, phase: str) -> Iterator[int]:
        """Say the truth about what was sent under a letter, some thousand at a time; yield how many labels so far."""
        parts = [part for part in self._journal if part.phase == phase]
        count = 0
        for key, value in self._labels.of(parts, int(time.time() * 1000)):
            while True:
                try:
                    self._producer.produce(self._labels_topic, value, key, on_delivery=self._labelled)
                    break
                except BufferError:
                    self._producer.poll(0.05)
            count += 1
            if count % LABEL_ROWS == 0:
                yield count
        yield count

    def _labelled(self, error: KafkaError | None, _message: Message) -> None:
        self.labelled += error is None
        self.failed += error is not None

    def frame(self, schema_id: int) -> None:
        """Put the schema's id into every request's frame."""
        self._requests.frame(schema_id)

    def poll(self) -> None:
        """Let the client library say what was delivered."""
        self._producer.poll(0)

    def flush(self) -> None:
        """Wait until everything that was handed over is acknowledged."""
        self._producer.flush(30)

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        if error is None:
            self.acknowledged += 1
        else:
            self.failed += 1


class Pace:
    """What the stream is doing: an even rate since a moment, or nothing."""

    def __init__(self, per_second: float, phase: str, began: float) -> None:
        self.per_second = per_second
        self.phase = phase
        self.began = began
        self.sent = 0

    def due(self, now: float) -> int:
        """How many requests are due now and not sent yet."""
        return int((now - self.began) * self.per_second) - self.sent

    def dates(self, count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The moments the next `count` requests are due, in milliseconds of the wall clock."""
        numbers = np.arange(self.sent + 1, self.sent + count + 1)
        return ((self.began + numbers / self.per_second) * 1000).astype(np.int64)


def run(stream: Stream, orders: queue.SimpleQueue[dict[str, Any]], shifted: int) -> None:
    """Carry out orders until one says stop; `shifted` is the row from which on the world has changed."""
    pace: Pace | None = None
    labelling: Iterator[int] = iter(())
    reported = 0.0
    while True:
        order = _next(orders, TICK_SECONDS)
        if order is not None:
            if order["do"] == "stop":
                break
            if order["do"] == "schema":
                stream.frame(int(order["id"]))
            elif order["do"] == "rate":
                pace = Pace(order["per_second"], order["phase"], time.time()) if order["per_second"] else None
            elif order["do"] == "shift":
                stream.next_row = max(stream.next_row, shifted)
            elif order["do"] == "label":
                labelling = chain(labelling, stream.label(order["phase"]), _said_labelled(stream))
            else:
                _burst(stream, int(order["count"]), order["phase"])
        now = time.time()
        if pace is not None and (count := min(pace.due(now), stream.left)) > 0:
            # A stall of our own must not turn into a burst that nobody ordered.
            count = min(count, BEHIND_ROWS_MAX)
            stream.send(count, pace.phase, pace.dates(count))
            pace.sent += count
        next(labelling, None)
        stream.poll()
        if now - reported >= REPORT_SECONDS:
            reported = now
            say("sent", sent=stream.sent, acknowledged=stream.acknowledged, left=stream.left)
    stream.flush()
    say("stopped", sent=stream.sent, labelled=stream.labelled, acknowledged=stream.acknowledged, failed=stream.failed)


def _said_labelled(stream: Stream) -> Iterator[int]:
    """Report, when everything before it has been handed over, how many labels that is in all."""
    stream.flush()
    say("labelled", labels=stream.labelled)
    yield 0


def _burst(stream: Stream, count: int, phase: str) -> None:
    began = time.time()
    last = stream.next_row + min(count, stream.left)
    while stream.next_row < last:
        rows = min(BURST_ROWS, last - stream.next_row)
        stream.send(rows, phase, np.full(rows, int(time.time() * 1000)))
    stream.flush()
    say("burst", began=began, ended=time.time(), count=count, sent=stream.sent)


def _next(orders: queue.SimpleQueue[dict[str, Any]], seconds: float) -> dict[str, Any] | None:
    try:
        return orders.get(timeout=seconds)
    except queue.Empty:
        return None


def main() -> None:
    """Read the command line, encode the stream, carry out orders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="stream.npz, as `examples.fraud.train` writes it")
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--endpoint", required=True)
    arguments = parser.parse_args()
    with np.load(arguments.file) as content:
        customers, columns, fraud = content["customer"], content["columns"], content["fraud"]
        shifted = int(content["shifted"])
    keys = [b"card-%d" % customer for customer in customers.tolist()]
    labels = Labels(arguments.endpoint, fraud, columns)
    stream = Stream(arguments.bootstrap, arguments.endpoint, Requests(columns), keys, labels)
    say("ready", requests=stream.left)
    orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=listen, args=(orders,), daemon=True).start()
    run(stream, orders, shifted)


if __name__ == "__main__":
    main()
