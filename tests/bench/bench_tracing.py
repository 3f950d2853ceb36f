"""What traces and metrics cost a lane: CPU of the router for an event, with both and with neither, in turns.

`python -m tests.bench.bench_tracing --home DIR` runs against the servers of a running stack; without `--home` it starts
its own. With: a real OTLP endpoint, 1 % of roots sampled, every request with a `traceparent` of which 1 % are sampled,
all metrics. Without: no SDK of OpenTelemetry, and metrics that count nothing. The requests are the same.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psutil
import uvloop
from confluent_kafka import Consumer, TopicPartition
from opentelemetry import trace

from interlock import metrics, telemetry
from interlock.codec.contract import request_schema
from interlock.ids import uuid7
from interlock_router.settings import Settings
from tests.bench.bench_lane import SIGNATURE, BenchRig, _serve, servers
from tests.integration.router import rig as rigs

SAMPLED_EVERY = 100
ROUND_SECONDS_MAX = 120
PARTITIONS = 4
WARM = 0.2
VALUES = 5_000
LOOK_SECONDS = 0.02
MODES = ("without", "with")
PARTS = ("both", "metrics", "traces", "neither")


class Nothing:
    """A metric that counts nothing, whatever is asked of it."""

    def __getattr__(self, _: str) -> Any:
        return lambda *_, **__: self

    def __enter__(self) -> None:
        """Begin to measure nothing."""

    def __exit__(self, *_: object) -> None:
        """And end."""


def main() -> int:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=None)
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--parts", choices=PARTS, default="both", help="what is measured against neither")
    options = parser.parse_args()
    with (
        servers(options.home) as environment,
        rigs.schema_registry({rigs.REQUEST_SCHEMA_ID: request_schema("bench", SIGNATURE)}) as url,
        _collector() as (collector, taken),
    ):
        os.environ["INTERLOCK_SCHEMA_REGISTRY_URL"] = url
        measured: dict[str, list[float]] = {mode: [] for mode in MODES}
        for number in range(options.rounds):
            for mode in MODES if number % 2 else reversed(MODES):
                settings = Settings(
                    kafka_bootstrap_servers=environment["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"],
                    schema_registry_url=url,
                    group="bench-" + uuid7(),
                )
                measured[mode].append(
                    asyncio.run(
                        _round(settings, options.requests, options.parts if mode == "with" else "neither", collector)
                    )
                )
        spans = taken.value
    ratios = [on / off for off, on in zip(*(measured[mode] for mode in MODES), strict=True)]
    figures = {
        "router_cpu_microseconds_per_event": {mode: round(statistics.median(measured[mode]), 2) for mode in MODES},
        "cost_percent": round((statistics.median(ratios) - 1) * 100, 2),
        "cost_percent_of_each_round": [round((ratio - 1) * 100, 1) for ratio in ratios],
        "bytes_of_spans_collected": spans,
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0


async def _round(settings: Settings, requests: int, parts: str, collector: str) -> float:
    """Preload requests, have a router of its own process answer them; return its CPU microseconds an event.

    What a process does once is not what an event costs: the first WARM of all requests are not counted.
    """
    rig = BenchRig(settings, PARTITIONS, SIGNATURE)
    await rig.create()
    _produce(rig, requests)
    progress = _Progress(settings, rig)
    progress.wait(0)  # from here on it knows whom to ask
    with _router(rig, parts, collector) as process:
        warm = progress.wait(int(requests * WARM))
        before = sum(process.cpu_times()[:2])
        progress.wait(requests)
        used: float = sum(process.cpu_times()[:2]) - before
    progress.close()
    return used / (requests - warm) * 1e6


class _Progress:
    """How many requests are answered: the group's committed offsets."""

    def __init__(self, settings: Settings, rig: BenchRig) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": settings.kafka_bootstrap_servers,
                "group.id": settings.group,
                "isolation.level": "read_uncommitted",  # the other would wait until no transaction is open
            }
        )
        self._places = [TopicPartition(rig.topic("requests"), each) for each in range(PARTITIONS)]

    def wait(self, count: int) -> int:
        """Return how many there are as soon as there are `count`."""
        deadline = time.monotonic() + ROUND_SECONDS_MAX
        while True:
            answered = sum(max(0, place.offset) for place in self._consumer.committed(self._places, timeout=60))
            if answered >= count:
                return answered
            assert time.monotonic() < deadline, f"{answered} of {count} are answered"
            time.sleep(LOOK_SECONDS)

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close()


def _produce(rig: BenchRig, count: int) -> None:
    """Send what applications send that trace one request in a hundred: the others have a context too."""
    values = [rig.value(number) for number in range(VALUES)]
    for number in range(count):
        sampled = number % SAMPLED_EVERY == 0
        traceparent = f"00-{number + 1:032x}-{number + 1:016x}-{'01' if sampled else '00'}"
        while True:
            try:
                rig._producer.produce(
                    rig.topic("requests"),
                    key=f"k{number % 5000}",
                    value=values[number % VALUES],
                    headers=[("traceparent", traceparent.encode())],
                )
                break
            except BufferError:
                rig._producer.poll(0.1)
    assert rig._producer.flush(30) == 0


@contextmanager
def _router(rig: BenchRig, parts: str, collector: str) -> Iterator[psutil.Process]:
    context = multiprocessing.get_context("spawn")
    ready, stop = context.Event(), context.Event()
    process = context.Process(
        target=_route, args=(rig.settings.model_dump_json(), rig.endpoint, parts, collector, ready, stop)
    )
    process.start()
    assert ready.wait(60)
    try:
        yield psutil.Process(process.pid)
    finally:
        stop.set()
        process.join(20)


def _route(settings: str, endpoint: str, parts: str, collector: str, ready: Any, stop: Any) -> None:
    logging.getLogger("aiokafka").setLevel("ERROR")
    if parts in ("both", "traces"):
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector
        os.environ["OTEL_TRACES_SAMPLER"] = "parentbased_traceidratio"
        os.environ["OTEL_TRACES_SAMPLER_ARG"] = str(1 / SAMPLED_EVERY)
        telemetry.setup_traces("router")
        with telemetry.span("first", traceparent=f"00-{'a' * 32}-{'b' * 16}-01"):
            pass
        provider: Any = trace.get_tracer_provider()
        provider.force_flush()  # so that the connection is there, and what a first export imports
    if parts in ("neither", "traces"):
        for name in [name for name in vars(metrics) if name.isupper() and not name.startswith("_")]:
            setattr(metrics, name, Nothing())
    values = {name: value for name, value in json.loads(settings).items() if value != "**********"}
    uvloop.run(_serve(values, endpoint, PARTITIONS, ready, stop))


@contextmanager
def _collector() -> Iterator[tuple[str, Any]]:
    """A process that takes spans and counts their bytes; its CPU is not the router's."""
    context = multiprocessing.get_context("spawn")
    port, taken = context.Value("i", 0), context.Value("q", 0)
    process = context.Process(target=_collect, args=(port, taken), daemon=True)
    process.start()
    deadline = time.monotonic() + 30
    while not port.value:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    try:
        yield f"http://127.0.0.1:{port.value}", taken
    finally:
        process.terminate()
        process.join(5)


def _collect(port: Any, taken: Any) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # the name that the base class calls
            length = int(self.headers["Content-Length"])
            self.rfile.read(length)
            taken.value += length
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    port.value = server.server_port
    server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
