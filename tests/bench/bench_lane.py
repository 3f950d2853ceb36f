"""How fast the lanes are: a preloaded burst in events a second, and the latency of a steady stream.

`python -m tests.bench.bench_lane --home DIR` runs against the servers of a running stack; without `--home` it starts
its own. The version answers in this process, so that the figures are those of the lanes and of Kafka alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import uvloop
from confluent_kafka import TIMESTAMP_CREATE_TIME, Consumer, TopicPartition

from interlock import embedded
from interlock.codec.contract import request_schema
from interlock.embedded.home import Home
from interlock.ids import uuid7
from interlock.signature import Input, Output, Signature
from interlock_router.settings import Settings
from tests.integration.router import rig as rigs

SIGNATURE = Signature(inputs=tuple(Input(f"f{index}", "double") for index in range(30)), outputs=(Output("score"),))


class BenchRig(rigs.Rig):
    """The rig with thirty features."""

    def value(self, number: int, **features: float | None) -> bytes:
        """Return a framed request."""
        row = {f"f{index}": number + index / 10 for index in range(30)}
        return super().value(number, **row)


def main() -> int:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=None)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--rate", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--set", action="append", default=[], help="a setting of the router, name=value")
    options = parser.parse_args()
    with (
        servers(options.home) as environment,
        rigs.schema_registry({rigs.REQUEST_SCHEMA_ID: request_schema("bench", SIGNATURE)}) as url,
    ):
        changes = {name: json.loads(value) for name, _, value in (each.partition("=") for each in options.set)}
        settings = Settings(
            kafka_bootstrap_servers=environment["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"],
            schema_registry_url=url,
            group="bench-" + uuid7(),
            **changes,
        )
        figures = asyncio.run(_measure(settings, options))
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0


@contextmanager
def servers(home: Path | None) -> Iterator[dict[str, str]]:
    record = Home(home).record() if home is not None else None
    if record is not None:
        yield record["env"]
        return
    with tempfile.TemporaryDirectory() as folder, embedded.running(folder, ("kafka",)) as environment:
        yield environment


async def _measure(settings: Settings, options: argparse.Namespace) -> dict[str, Any]:
    burst, burst_cpu = await _burst(settings, options)
    return {
        "burst_events_per_second": round(burst),
        "router_cpu_microseconds_per_event": round(burst_cpu, 1),
    } | await _steady(settings, options)


async def _burst(settings: Settings, options: argparse.Namespace) -> tuple[float, float]:
    """Preload requests, then answer them all; return events a second and the router's CPU microseconds an event."""
    rig = await _rig(settings, options.partitions)
    rig.produce([rig.value(number) for number in range(options.requests)], lambda index: f"k{index % 5000}")
    seen = _Watcher(settings, rig, options.requests)
    with _router(rig) as (cpu, _):
        before, started = cpu(), time.perf_counter()
        seen.done.wait(120)
        elapsed, used = seen.last_at - started, cpu() - before
    seen.close()
    return options.requests / elapsed, used / options.requests * 1e6


async def _steady(settings: Settings, options: argparse.Namespace) -> dict[str, Any]:
    """Send at a rate; return quantiles of the time from when a request was due to when its result could be read."""
    rig = await _rig(settings, options.partitions)
    total = int(options.rate * options.seconds)
    values = [rig.value(number) for number in range(total)]
    with _router(rig) as (cpu, _):
        warm = _Watcher(settings, rig, options.partitions)
        rig.produce(values[:1000], lambda index: f"k{index}")
        warm.done.wait(30)
        warm.close()
        await asyncio.sleep(1)
        seen, before = _Watcher(settings, rig, total + 1000), cpu()
        _send(rig, values, options.rate)
        seen.done.wait(60)
        used = cpu() - before
    seen.close()
    latency = np.sort(seen.latencies[1000 + int(total * 0.1) :])
    return {
        "rate": options.rate,
        "answered": len(seen.latencies),
        **{f"p{share}_ms": round(float(np.percentile(latency, share)), 1) for share in (50, 90, 99)},
        "router_cores": round(used / options.seconds, 2),
    }


@contextmanager
def _router(rig: rigs.Rig) -> Iterator[tuple[Any, Any]]:
    """Run the lanes in a process of their own; yields what tells its CPU seconds."""
    context = multiprocessing.get_context("spawn")
    ready, stop = context.Event(), context.Event()
    process = context.Process(
        target=_route, args=(rig.settings.model_dump_json(), rig.endpoint, rig.partitions, ready, stop)
    )
    url = rig.settings.schema_registry_url.get_secret_value()
    os.environ["INTERLOCK_SCHEMA_REGISTRY_URL"] = url
    process.start()
    ready.wait(30)
    seen = psutil.Process(process.pid)
    try:
        yield lambda: sum(seen.cpu_times()[:2]), process
    finally:
        stop.set()
        process.join(20)


def _route(settings: str, endpoint: str, partitions: int, ready: Any, stop: Any) -> None:
    logging.getLogger("aiokafka").setLevel("ERROR")
    values = {name: value for name, value in json.loads(settings).items() if value != "**********"}
    profile = os.environ.get("BENCH_PROFILE")
    if profile:
        import cProfile

        cProfile.runctx("uvloop.run(_serve(values, endpoint, partitions, ready, stop))", globals(), locals(), profile)
    else:
        uvloop.run(_serve(values, endpoint, partitions, ready, stop))


async def _serve(values: dict[str, Any], endpoint: str, partitions: int, ready: Any, stop: Any) -> None:
    rig = BenchRig(Settings(**values), partitions, SIGNATURE)
    rig.endpoint = endpoint
    rig.serving.add("m", 1)
    rig.route((1, 10_000))
    async with rigs.RunningRouter(rig):
        ready.set()
        await asyncio.to_thread(stop.wait)


def _send(rig: rigs.Rig, values: list[bytes], rate: int) -> None:
    producer, start, wall = rig._producer, time.perf_counter() + 0.1, time.time() + 0.1
    for index, value in enumerate(values):
        due = start + index / rate
        while (wait := due - time.perf_counter()) > 0:
            producer.poll(0)
            time.sleep(min(wait, 0.002))
        producer.produce(
            rig.topic("requests"),
            key=f"k{index % 5000}",
            value=value,
            timestamp=int((wall + index / rate) * 1000),
            headers=None,
        )
    producer.flush(30)


class _Watcher:
    """Reads committed results in a thread, by librdkafka, and notes when each came."""

    def __init__(self, settings: Settings, rig: rigs.Rig, total: int) -> None:
        self.done = threading.Event()
        self.last_at = 0.0
        self.latencies: list[float] = []
        self._total = total
        self._stop = False
        self._consumer = Consumer(
            {
                "bootstrap.servers": settings.kafka_bootstrap_servers,
                "group.id": uuid7(),
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 10,
            }
        )
        self._requests: dict[tuple[int, int], float] = {}
        self._consumer.assign([TopicPartition(rig.topic("results"), each, 0) for each in range(rig.partitions)])
        self._sent = Consumer(
            {"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": uuid7(), "enable.auto.commit": False}
        )
        self._sent.assign([TopicPartition(rig.topic("requests"), each, 0) for each in range(rig.partitions)])
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        arrivals: list[tuple[float, Any]] = []
        count = 0
        while count < self._total and not self._stop:
            records = self._consumer.consume(2000, 0.01)
            if not records:
                continue
            now = time.time()
            self.last_at = time.perf_counter()
            count += len(records)
            arrivals.extend((now, record) for record in records)
        dues: dict[int, list[float]] = {}
        while sum(map(len, dues.values())) < count and not self._stop:
            for record in self._sent.consume(5000, 0.2):
                kind, stamp = record.timestamp()
                assert kind == TIMESTAMP_CREATE_TIME
                dues.setdefault(record.partition() or 0, []).append(stamp / 1000)
        places: dict[int, int] = {}
        for now, record in arrivals:  # results of a partition come in the order of its requests
            place = places.get(record.partition(), 0)
            places[record.partition()] = place + 1
            self.latencies.append((now - dues[record.partition()][place]) * 1000)
        self.done.set()

    def close(self) -> None:
        """Stop reading."""
        self._stop = True
        self._thread.join(5)
        self._consumer.close()
        self._sent.close()


async def _rig(settings: Settings, partitions: int) -> rigs.Rig:
    rig = BenchRig(settings, partitions, SIGNATURE)
    await rig.create()
    return rig


if __name__ == "__main__":
    sys.exit(main())
