"""The load of the kill tests: a steady producer and an independent checker, each a process with a plain Kafka client.

A request is named by its number, which is also its only feature; version V of the model answers `V * 10^9 + number`.
So every score says by itself which request it answers and which version gave it, whatever the metadata claim.
"""

from __future__ import annotations

import argparse
import io
import json
import queue
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, Final

import fastavro
import numpy as np
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from examples.fraud.checker import schema_source
from examples.fraud.orders import listen, say

VERSION_STEP: Final = 1_000_000_000
KEYS: Final = 200
FRAME_BYTES: Final = 5
TICK_SECONDS: Final = 0.02
REPORT_SECONDS: Final = 0.2
FLUSH_SECONDS_MAX: Final = 90.0
QUIET_SECONDS: Final = 2.0
ASK_SECONDS_MAX: Final = 30.0
POLL_ROWS_MAX: Final = 1_000


def key_of(number: int) -> bytes:
    """Return the key of a request: the same for every `KEYS`th."""
    return b"card-%d" % (number % KEYS)


class Sender:
    """Sends numbered requests at an even rate and keeps the coordinates of those that Kafka acknowledged."""

    def __init__(self, bootstrap: str, topic: str, schema: Any, schema_id: int) -> None:
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 5,
                "reconnect.backoff.max.ms": 500,
                "queue.buffering.max.messages": 500_000,
                "message.timeout.ms": 300_000,
            }
        )
        self._topic = topic
        self._schema = fastavro.parse_schema(schema)
        self._frame = b"\0" + schema_id.to_bytes(4, "big")
        self.sent = 0
        self.failed: Counter[str] = Counter()
        self.acknowledged: list[tuple[int, int, int]] = []

    def send(self) -> None:
        """Hand the next request to the client library."""
        number = self.sent
        body = io.BytesIO()
        body.write(self._frame)
        request = {"request_id": f"r{number}", "requested_at": round(time.time() * 1000), "number": float(number)}
        fastavro.schemaless_writer(body, self._schema, request)
        self._producer.produce(
            self._topic, body.getvalue(), key_of(number), on_delivery=partial(self._delivered, number)
        )
        self.sent += 1

    def poll(self, seconds: float) -> None:
        """Let the client library say what was delivered."""
        self._producer.poll(seconds)

    def flush(self) -> int:
        """Wait until everything is acknowledged or given up; return what is neither."""
        return int(self._producer.flush(FLUSH_SECONDS_MAX))

    def _delivered(self, number: int, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self.acknowledged.append((number, message.partition() or 0, message.offset() or 0))
        else:
            self.failed[error.name()] += 1


def run_sender(sender: Sender, per_second: float, acknowledged: Path, orders: queue.SimpleQueue[Any]) -> None:
    """Send until ordered to stop, then write down what was acknowledged."""
    began, reported = time.monotonic(), 0.0
    say("ready")
    while orders.empty():
        now = time.monotonic()
        for _ in range(int((now - began) * per_second) - sender.sent):
            sender.send()
        sender.poll(TICK_SECONDS)
        if now - reported >= REPORT_SECONDS:
            reported = now
            say("sent", sent=sender.sent, acknowledged=len(sender.acknowledged))
    left = sender.flush()
    np.save(acknowledged, np.array(sender.acknowledged, dtype=np.int64).reshape(-1, 3))
    say("stopped", sent=sender.sent, acknowledged=len(sender.acknowledged), failed=dict(sender.failed), left=left)


class Checker:
    """Reads requests, results and dead letters as a `read_committed` stranger does, and compares them at the end."""

    def __init__(self, bootstrap: str, endpoint: str, schema_registry: str) -> None:
        self._requests_topic = f"{endpoint}.requests"
        self._results_topic = f"{endpoint}.results"
        self._dead_letters_topic = f"{endpoint}.dead-letters"
        self._fetch = schema_source(schema_registry)
        self._schemas: dict[int, Any] = {}
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "kill-check",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                # A broker that lost its place must not make us read anything a second time.
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": 50,
                "reconnect.backoff.max.ms": 500,
            }
        )
        self.requests: dict[tuple[int, int], int] = {}
        self.answers: list[tuple[int, int, int, float, int, int]] = []
        """Of each result: request partition, request offset, version, score, epoch, result offset."""
        self.digests: dict[int, set[str]] = {}
        self.names: list[str] = []
        self.times: list[tuple[float, float]] = []
        """Of each result: when it was seen and when it was asked for, in seconds of the wall clock."""
        self.rejections: Counter[str] = Counter()
        self.dead_letters = 0
        self.newest_asked: dict[int, float] = {}

    def start(self) -> None:
        """Take every partition of the three topics, from the beginning."""
        wanted = (self._requests_topic, self._results_topic, self._dead_letters_topic)
        known = self._consumer.list_topics(timeout=ASK_SECONDS_MAX).topics
        self.newest_asked = dict.fromkeys(known[self._requests_topic].partitions, 0.0)
        self._consumer.assign(
            [TopicPartition(topic, each, OFFSET_BEGINNING) for topic in wanted for each in known[topic].partitions]
        )

    def step(self) -> int:
        """Read what is there; return how many records came."""
        messages = self._consumer.consume(num_messages=POLL_ROWS_MAX, timeout=TICK_SECONDS)
        now = time.time()
        for message in messages:
            error = message.error()
            if error is None:
                self._take(message, now)
            elif not error.retriable() and error.code() not in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
                raise KafkaException(error)
        return len(messages)

    def _take(self, message: Message, now: float) -> None:
        value, topic = message.value() or b"", message.topic()
        if topic == self._requests_topic:
            number = int(self._decode(value)["number"])
            self.requests[message.partition() or 0, message.offset() or 0] = number
        elif topic == self._dead_letters_topic:
            self.dead_letters += 1
        else:
            record = self._decode(value)
            if record["rejection"] is not None:
                self.rejections[record["rejection"]] += 1
            score = -1.0 if record["score"] is None else record["score"]
            version = record["version"]
            self.digests.setdefault(version, set()).add(record["digest"])
            self.answers.append(
                (record["partition"], record["offset"], version, score, record["epoch"], message.offset() or 0)
            )
            self.names.append(record["request_id"])
            asked = record["requested_at"].timestamp()
            self.times.append((now, asked))
            self.newest_asked[record["partition"]] = max(self.newest_asked[record["partition"]], asked)

    def _decode(self, value: bytes) -> dict[str, Any]:
        schema_id = int.from_bytes(value[1:FRAME_BYTES], "big")
        schema = self._schemas.get(schema_id)
        deadline = time.monotonic() + ASK_SECONDS_MAX
        while schema is None:
            try:
                schema = self._schemas[schema_id] = fastavro.parse_schema(self._fetch(schema_id))
            except OSError:
                # The schema registry is one of those that are killed.
                if time.monotonic() > deadline:
                    raise
                time.sleep(REPORT_SECONDS)
        record: Any = fastavro.schemaless_reader(io.BytesIO(value[FRAME_BYTES:]), schema, None)
        return dict(record)


def run_checker(checker: Checker, acknowledged: Path, orders: queue.SimpleQueue[Any], wait_seconds: float) -> None:
    """Read until ordered to finish and nothing more comes, compare, report."""
    say("ready")
    reported, deadline, order = 0.0, float("inf"), None
    quiet_since = time.monotonic()
    while True:
        if checker.step():
            quiet_since = time.monotonic()
        now = time.monotonic()
        if now - reported >= REPORT_SECONDS:
            reported = now
            say("seen", **seen(checker))
        if order is None and not orders.empty():
            order, deadline = orders.get(), now + wait_seconds
        if order is not None:
            complete = len(checker.answers) >= len(checker.requests)
            if now > deadline or (complete and now - quiet_since > QUIET_SECONDS):
                break
    say("report", **compare(checker, np.load(acknowledged)), windows=windows(checker.times, order["windows"]))


def seen(checker: Checker) -> dict[str, Any]:
    """Return how far the results are.

    `newest_asked` is when the newest answered request was made, in the partition that is worst off.
    """
    return {
        "at": time.time(),
        "requests": len(checker.requests),
        "results": len(checker.answers),
        "newest_asked": min(checker.newest_asked.values(), default=0.0),
        "version": checker.answers[-1][2] if checker.answers else 0,
    }


def compare(checker: Checker, acknowledged: np.ndarray[Any, np.dtype[np.int64]]) -> dict[str, Any]:
    """Compare everything with everything; figures only, the judgement is the test's."""
    answered = Counter((partition, offset) for partition, offset, *_ in checker.answers)
    numbers = Counter(checker.requests.values())
    versions: Counter[int] = Counter()
    version_of_epoch: dict[int, set[int]] = {}
    newest: dict[tuple[int, int], int] = {}
    misattributed = mismatched = out_of_order = 0
    ordered = sorted(zip(checker.answers, checker.names, strict=True), key=lambda each: (each[0][0], each[0][5]))
    for (partition, offset, version, score, epoch, _), name in ordered:
        number = checker.requests.get((partition, offset), -1)
        versions[version] += 1
        version_of_epoch.setdefault(epoch, set()).add(version)
        misattributed += int(score // VERSION_STEP) != version
        mismatched += name != f"r{number}" or score % VERSION_STEP != number
        of_key = (partition, number % KEYS)
        out_of_order += newest.get(of_key, -1) >= offset
        newest[of_key] = offset
    return {
        "requests": len(checker.requests),
        "results": len(checker.answers),
        "acknowledged": len(acknowledged),
        "acknowledged_lost": sum(
            answered[int(partition), int(offset)] == 0 or checker.requests.get((int(partition), int(offset))) != number
            for number, partition, offset in acknowledged.tolist()
        ),
        "requests_doubled": sum(count - 1 for count in numbers.values()),
        "lost": sum(1 for place in checker.requests if place not in answered),
        "duplicated": sum(count - 1 for count in answered.values()),
        "unasked": sum(1 for place in answered if place not in checker.requests),
        "misattributed": misattributed,
        "mismatched": mismatched,
        "out_of_order": out_of_order,
        "epochs_of_two_versions": sum(len(each) > 1 for each in version_of_epoch.values()),
        "rejected": dict(checker.rejections),
        "dead_letters": checker.dead_letters,
        "versions": {str(version): count for version, count in sorted(versions.items())},
        "digests": {str(version): sorted(each) for version, each in sorted(checker.digests.items())},
    }


def windows(times: list[tuple[float, float]], asked: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Return what callers noticed between two moments (seconds of the wall clock), for each named window.

    `silence`: the longest time without any result; `slowest`: the longest wait for one; `late_until`: how long after
    the window began the last result came that had been waited for by more than a second.
    """
    seen_at = np.array([seen for seen, _ in times])
    waited = seen_at - np.array([request for _, request in times])
    found: dict[str, dict[str, float]] = {}
    for name, (begin, end) in asked.items():
        inside = (seen_at >= begin) & (seen_at <= end)
        moments = np.concatenate(([begin], seen_at[inside], [end]))
        late = seen_at[inside & (waited > 1.0)]
        found[name] = {
            "results": int(inside.sum()),
            "silence": float(np.diff(moments).max()),
            "slowest": float(waited[inside].max(initial=0.0)),
            "late_until": float(late.max(initial=begin) - begin),
        }
    return found


def main() -> None:
    """Read the command line; send or check as ordered on standard input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=("send", "check"))
    parser.add_argument("settings", type=json.loads)
    given = parser.parse_args()
    settings = given.settings
    acknowledged = Path(settings["acknowledged"])
    orders: queue.SimpleQueue[Any] = queue.SimpleQueue()
    if given.role == "send":
        sender = Sender(settings["bootstrap"], settings["topic"], settings["schema"], settings["schema_id"])
        threading.Thread(target=listen, args=(orders,), daemon=True).start()
        run_sender(sender, settings["per_second"], acknowledged, orders)
    else:
        checker = Checker(settings["bootstrap"], settings["endpoint"], settings["schema_registry"])
        checker.start()
        threading.Thread(target=listen, args=(orders,), daemon=True).start()
        run_checker(checker, acknowledged, orders, settings["wait_seconds"])


if __name__ == "__main__":
    main()
