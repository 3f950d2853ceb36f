"""What traces and metrics cost a lane: CPU of the router for an event, with both and with neither, in turns.

`python -m tests.bench.bench_tracing --home DIR` runs against the servers of a running stack; without `--home` it starts
its own. With: a real OTLP endpoint, 1 % of roots sampled, every request with a `traceparent` of which 1 % are sampled,
all metrics. Without: no spans, no look at the requests' headers, and metrics that count nothing. The requests are the
same, one lane of one process answers them, and the variants take turns of some batches (`tests.bench.slices`); what is
exported in the background is sent off before a turn ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import uvloop
from opentelemetry import trace

from interlock import memory, metrics, telemetry
from interlock.codec.contract import request_schema
from interlock.ids import uuid7
from interlock.telemetry import spans
from interlock_router.settings import Settings
from tests.bench.bench_lane import SIGNATURE, BenchRig, servers
from tests.bench.slices import Slice, Turns, compared, percent_more
from tests.integration.router import rig as rigs

SAMPLED_EVERY = 100
PASS_SECONDS_MAX = 120.0
VALUES = 5_000
BATCHES, SETTLE = 6, 2
VARIANTS = ("without", "with")
PARTS = ("both", "metrics", "traces")
METRICS = tuple(name for name in vars(metrics) if name.isupper() and not name.startswith("_"))


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
    parser.add_argument("--requests", type=int, default=400_000)
    parser.add_argument("--passes", type=int, default=24)
    parser.add_argument("--rows", type=int, default=4096, help="the most rows of a batch: small ones cost more spans")
    parser.add_argument("--parts", choices=PARTS, default="both", help="what is measured against neither")
    options = parser.parse_args()
    with (
        servers(options.home) as environment,
        rigs.schema_registry({rigs.REQUEST_SCHEMA_ID: request_schema("bench", SIGNATURE)}) as url,
        _collector() as (collector, taken),
    ):
        os.environ["INTERLOCK_SCHEMA_REGISTRY_URL"] = url
        settings = Settings(
            kafka_bootstrap_servers=environment["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"],
            schema_registry_url=url,
            batch_rows_max=options.rows,
        )
        endpoint = asyncio.run(_preload(settings, options.requests))
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(
            target=_route, args=(settings.model_dump_json(), endpoint, vars(options), collector, there)
        )
        process.start()
        slices = [Slice(*each) for each in here.recv()]
        process.join(20)
        collected = taken.value
    figures = compared(slices, "without", {"router": 0.0})
    each = [round(more, 2) for more in percent_more(slices, "without", "with")]
    told = {**figures, "bytes_of_spans_collected": collected, "router_percent_more_of_each_slice": each}
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


async def _preload(settings: Settings, count: int) -> str:
    """Write what applications send that trace one request in a hundred: the others have a context too."""
    rig = BenchRig(settings, 1, SIGNATURE)
    await rig.create()
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
    return rig.endpoint


def _route(settings: str, endpoint: str, options: dict[str, Any], collector: str, pipe: Any) -> None:
    """Be the router's process."""
    memory.settle()
    logging.getLogger("aiokafka").setLevel("ERROR")
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector
    os.environ["OTEL_TRACES_SAMPLER"] = "parentbased_traceidratio"
    os.environ["OTEL_TRACES_SAMPLER_ARG"] = str(1 / SAMPLED_EVERY)
    telemetry.setup_traces("router")
    with telemetry.span("first", traceparent=f"00-{'a' * 32}-{'b' * 16}-01"):
        pass
    values = {name: value for name, value in json.loads(settings).items() if value != "**********"}
    pipe.send(uvloop.run(_serve(values, endpoint, options)))


async def _serve(values: dict[str, Any], endpoint: str, options: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Answer the backlog once in each pass, by a new group; return the slices."""
    slices: list[tuple[Any, ...]] = []
    switch = _Switch(options["parts"])
    for number in range(options["passes"]):
        rig = BenchRig(Settings(**{**values, "group": "bench-" + uuid7()}), 1, SIGNATURE)
        rig.endpoint = endpoint
        rig.serving.add("m", 1)
        rig.route((1, 10_000))
        turns = Turns(
            VARIANTS, number, BATCHES, options["requests"], settle=SETTLE, begin=switch.to, settled=switch.send_off
        )
        with turns.counting():
            async with rigs.RunningRouter(rig), asyncio.timeout(PASS_SECONDS_MAX):
                await turns.done.wait()
        slices += turns.slices
    return slices


class _Switch:
    """Turns traces and metrics of this process on and off."""

    def __init__(self, parts: str) -> None:
        self._traces, self._metrics = parts in ("both", "traces"), parts in ("both", "metrics")
        self._tracer, self._has_collector = spans._TRACER, telemetry.has_collector
        self._real = {name: getattr(metrics, name) for name in METRICS}

    def to(self, variant: str) -> None:
        """Give a variant what it may tell."""
        told = variant == "with"
        traces, counts = told and self._traces, told and self._metrics
        spans._TRACER = self._tracer if traces else trace.NoOpTracer()
        telemetry.has_collector = self._has_collector if traces else lambda: False
        for name, real in self._real.items():
            setattr(metrics, name, real if counts else Nothing())

    def send_off(self) -> None:
        """Export what was told so far, at the cost of the turn that told it."""
        provider: Any = trace.get_tracer_provider()
        provider.force_flush()


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
