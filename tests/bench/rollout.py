"""Promotions and rollbacks on the whole embedded stack, under load: how soon the next version answers, and the last.

A promotion is timed from the append of its VersionPromoted event (the time that Kafka keeps with it) to the moment at
which a `read_committed` reader saw the first result by the new version; a rollback from the command to the moment at
which that reader saw the last result by the bad one.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import fastavro
from confluent_kafka import TopicPartition

from examples.fraud.processes import Child
from interlock import embedded
from interlock.codec import rows
from interlock.codec.framing import HEADER_BYTES
from interlock.embedded.home import Home
from interlock.errors import Poison
from interlock.schemas.events import VersionPromoted
from interlock.schemas.topics import MODEL_EVENTS
from tests.bench.topics import Kafka, take
from tests.fault import numbered
from tests.integration.client.journey import People, people

MODEL: Final = "switch"
PER_SECOND: Final = 500
PARTITIONS: Final = 2
SEEN_SECONDS_MAX: Final = 30.0
STEADY_SECONDS: Final = 1.0
"""Between two changes all results come from one version for so long."""
LOOK_SECONDS: Final = 0.02
POLL_SECONDS: Final = 0.05
START_SECONDS_MAX: Final = 30.0
READ_ROWS: Final = 500


@dataclass
class Switches:
    """What the changes took, in seconds."""

    promotions: list[float] = field(default_factory=list)
    rollbacks: list[float] = field(default_factory=list)


class Watch:
    """A reader in a thread of its own: when it saw which version answer, and when a promotion was appended."""

    def __init__(self, bootstrap: str, details: dict[str, Any]) -> None:
        kafka = Kafka(bootstrap)
        results = details["topics"]["results"]
        self._schema = fastavro.parse_schema(details["result_schema"])
        self._results = results
        self._consumer = kafka.consumer(**{"fetch.wait.max.ms": 5})
        places = [(results, index) for index in range(PARTITIONS)] + [(MODEL_EVENTS, 0)]
        ends = {name: kafka.ends(name, count) for name, count in ((results, PARTITIONS), (MODEL_EVENTS, 1))}
        self._consumer.assign([TopicPartition(name, index, int(ends[name][index])) for name, index in places])
        self.seen: list[tuple[float, int]] = []
        """When each result was seen (seconds of the wall clock), and the version that gave it."""
        self.promoted: list[tuple[float, int]] = []
        """When each promotion was appended, and to which version."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            records = take(self._consumer, READ_ROWS, POLL_SECONDS)
            now = time.time()
            for record in records:
                if record.error() is not None:
                    continue
                if record.topic() == self._results:
                    self.seen.append((now, self._version(record.value() or b"")))
                else:
                    self._note(record)

    def _version(self, value: bytes) -> int:
        record: Any = fastavro.schemaless_reader(io.BytesIO(value[HEADER_BYTES:]), self._schema, None)
        return int(record["version"])

    def _note(self, record: Any) -> None:
        with contextlib.suppress(Poison):
            event = rows.decode(record.value())
            if isinstance(event, VersionPromoted) and event.endpoint == MODEL:
                self.promoted.append((record.timestamp()[1] / 1000, event.version))

    def steady(self, version: int) -> bool:
        """Say whether all results of the last moment were by one version."""
        horizon = time.time() - STEADY_SECONDS
        late = [by for at, by in self.seen[-READ_ROWS * 4 :] if at > horizon]
        return len(late) > PER_SECOND * STEADY_SECONDS / 4 and set(late) == {version}

    def close(self) -> None:
        """Stop reading."""
        self._stop.set()
        self._thread.join()
        self._consumer.close()


async def switches(environment: dict[str, str], folder: Path, times: int, say: Callable[[str], None]) -> Switches:
    """Promote version 2 and roll back to version 1, so many times; raises where a change does not show in time."""
    found = Switches()
    async with people(environment) as crew:
        details = await numbered.two_versions(environment, crew, folder, MODEL)
        async with _load(environment, details, folder):
            watch = Watch(environment["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"], details)
            try:
                await _until(lambda: watch.steady(1), "answers by version 1")
                for number in range(times):
                    found.promotions.append(await _promote(crew, watch))
                    found.rollbacks.append(await _roll_back(crew, watch))
                    say(f"rollout {number}: {found.promotions[-1]:.3f} s to promote, {found.rollbacks[-1]:.3f} s back")
            finally:
                watch.close()
    return found


async def _promote(crew: People, watch: Watch) -> float:
    began = time.time()
    await crew.olga.promote(MODEL, 2)
    await _until(lambda: watch.steady(2), "answers by version 2")
    appended = next(at for at, version in reversed(watch.promoted) if version == 2)
    first = next(at for at, version in watch.seen if version == 2 and at >= began)
    return first - appended


async def _roll_back(crew: People, watch: Watch) -> float:
    commanded = time.time()
    await crew.olga.rollback(MODEL, "measured")
    await _until(lambda: watch.steady(1), "answers by version 1 again")
    last = max(at for at, version in watch.seen if version == 2)
    return last - commanded


async def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SEEN_SECONDS_MAX
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {SEEN_SECONDS_MAX:.0f} s: {what}")
        await asyncio.sleep(LOOK_SECONDS)


@contextlib.asynccontextmanager
async def _load(environment: dict[str, str], details: dict[str, Any], folder: Path) -> AsyncIterator[None]:
    settings = {
        "bootstrap": environment["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"],
        "topic": details["topics"]["requests"],
        "schema": details["request_schema"],
        "schema_id": details["request_schema_id"],
        "per_second": PER_SECOND,
        "acknowledged": str(folder / "acknowledged.npy"),
        "wait_seconds": SEEN_SECONDS_MAX,
    }
    sender = await Child.start("tests.fault.load", ["send", json.dumps(settings)], folder / "send.log")
    try:
        await sender.hear("ready", START_SECONDS_MAX)
        yield
    finally:
        await sender.stop()


def measure(home: Path | None, times: int, say: Callable[[str], None]) -> Switches:
    """Run the changes on a whole stack: on that of a home where one runs with all parts, else on one of its own."""
    record = Home(home).record() if home is not None else None
    with tempfile.TemporaryDirectory(prefix="il-rollout-") as folder:
        if record is not None and set(embedded.EVERYTHING) <= set(record["processes"]):
            return asyncio.run(switches(record["env"], Path(folder), times, say))
        with embedded.running(Path(folder) / "home") as environment:
            return asyncio.run(switches(environment, Path(folder), times, say))
