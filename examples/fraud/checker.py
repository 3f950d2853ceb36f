"""The independent check: a process of its own, with a plain Kafka client that reads committed records only.

It reads the endpoint's requests, results and dead letters from their beginning, and the model events for the
moments of promotion. Every half second it says on standard output what it has seen; when its standard input says
`finish`, it waits for the results still missing and prints the report.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
import threading
import time
import urllib.request
from collections import deque
from typing import Any, Final
from urllib.parse import urlsplit

from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

from examples.fraud.comparison import Comparison
from examples.fraud.orders import say

REPORT_SECONDS: Final = 0.5
POLL_ROWS_MAX: Final = 2_000
POLL_SECONDS: Final = 0.01
BUSY_ROWS: Final = 500
DECODE_ROWS: Final = 500
DECODE_ROWS_WHEN_BUSY: Final = 100
TOPICS_SECONDS_MAX: Final = 300.0
PROMOTED: Final = "io.interlock.version_promoted.v1"
ORDERED_BACK: Final = "io.interlock.rollback_ordered.v1"


class Checker:
    """Reads the topics and feeds the comparison; when much arrives at once, decoding waits for a quieter moment."""

    def __init__(self, bootstrap: str, endpoint: str, comparison: Comparison) -> None:
        self._comparison = comparison
        self._requests = f"{endpoint}.requests"
        self._results = f"{endpoint}.results"
        self._dead_letters = f"{endpoint}.dead-letters"
        self._events = "interlock.model.events"
        self._waiting: deque[tuple[bytes, bytes, float]] = deque()
        self.results_read = 0
        self.moments: list[dict[str, Any]] = []
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "independent-check",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 20,
                "fetch.error.backoff.ms": 20,
                "queued.max.messages.kbytes": 65_536,
            }
        )

    def start(self) -> None:
        """Take every partition of the four topics, from the beginning; wait for those that are not there yet."""
        wanted = (self._requests, self._results, self._dead_letters, self._events)
        deadline = time.time() + TOPICS_SECONDS_MAX
        while not set(wanted) <= set(known := self._consumer.list_topics(timeout=20).topics):
            if time.time() > deadline:
                raise SystemExit(f"No topics {', '.join(sorted(set(wanted) - set(known)))}.")
            time.sleep(0.3)
        places = [
            TopicPartition(topic, partition, OFFSET_BEGINNING)
            for topic in wanted
            for partition in known[topic].partitions
        ]
        self._consumer.assign(places)

    @property
    def behind(self) -> bool:
        """Whether results were read that are not decoded yet."""
        return bool(self._waiting)

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close()

    def step(self) -> None:
        """Read what is there, and decode as much as the moment allows."""
        messages = self._consumer.consume(num_messages=POLL_ROWS_MAX, timeout=POLL_SECONDS)
        now = time.time() * 1000
        for message in messages:
            if message.error() is None:
                self._take(message, now)
        ready = DECODE_ROWS_WHEN_BUSY if len(messages) > BUSY_ROWS else DECODE_ROWS
        for _ in range(min(ready, len(self._waiting))):
            self._comparison.take_result(*self._waiting.popleft())

    def _take(self, message: Message, now: float) -> None:
        topic = message.topic()
        if topic == self._results:
            self._waiting.append((message.key() or b"", message.value() or b"", now))
            self.results_read += 1
        elif topic == self._requests:
            self._comparison.take_request(message.partition() or 0, message.offset() or 0, message.value() or b"")
        elif topic == self._dead_letters:
            self._comparison.dead_letters += 1
        else:
            kind = dict(message.headers() or []).get("ce_type", b"")
            name = kind.decode() if isinstance(kind, bytes) else kind
            if name in (PROMOTED, ORDERED_BACK):
                self.moments.append({"type": name, "appended": message.timestamp()[1]})


def schema_source(url: str) -> Any:
    """Return a function from schema id to schema, asking a Confluent schema registry."""
    parts = urlsplit(url)
    base = f"{parts.scheme}://{parts.hostname}:{parts.port}{parts.path}".rstrip("/")
    credentials = base64.b64encode(f"{parts.username}:{parts.password}".encode()).decode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def fetch(schema_id: int) -> Any:
        request = urllib.request.Request(  # noqa: S310 - the address is the one that `interlock env` prints
            f"{base}/schemas/ids/{schema_id}", headers={"Authorization": f"Basic {credentials}"}
        )
        with opener.open(request, timeout=10) as response:
            return json.loads(json.load(response)["schema"])

    return fetch


def watch(checker: Checker, comparison: Comparison, finish: threading.Event, wait_seconds: float) -> None:
    """Read until told to finish and every request has its result, or until the wait is over."""
    reported, count_then, read_then = time.time(), 0, 0
    deadline = float("inf")
    while True:
        checker.step()
        now = time.time()
        if now - reported >= REPORT_SECONDS:
            rate = (checker.results_read - read_then) / (now - reported)
            say("seen", events_per_second=rate, read=checker.results_read, **comparison.recent(count_then))
            reported, count_then, read_then = now, len(comparison.results.version), checker.results_read
        if finish.is_set():
            deadline = min(deadline, now + wait_seconds)
            everything = checker.results_read >= comparison.requests and not checker.behind
            if now > deadline or (everything and _quiet(checker, comparison)):
                return


def _quiet(checker: Checker, comparison: Comparison) -> bool:
    """Whether nothing more comes for a second: a duplicate would come late."""
    before = (checker.results_read, comparison.requests)
    end = time.time() + 1.0
    while time.time() < end:
        checker.step()
    return before == (checker.results_read, comparison.requests)


def main() -> None:
    """Read the command line, watch, report.

    INTERLOCK_SCHEMA_REGISTRY_URL carries a token, so it comes by the environment, which `ps` does not show to others.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--wait-seconds", type=float, default=30.0)
    arguments = parser.parse_args()
    comparison = Comparison(schema_source(os.environ["INTERLOCK_SCHEMA_REGISTRY_URL"]))
    checker = Checker(arguments.bootstrap, arguments.endpoint, comparison)
    checker.start()
    say("ready")
    finish = threading.Event()

    def listen() -> None:
        sys.stdin.readline()
        finish.set()

    threading.Thread(target=listen, daemon=True).start()
    watch(checker, comparison, finish, arguments.wait_seconds)
    checker.close()
    say("report", **comparison.report(), moments=checker.moments)


if __name__ == "__main__":
    main()
