from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

SPANS = 30_000
SAMPLED = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
UNSAMPLED = SAMPLED[:-2] + "00"
PROGRAM = f"""
import json, sys, time
from interlock import metrics, telemetry
from prometheus_client import REGISTRY
telemetry.setup_traces("toy")
slowest, began = 0.0, time.perf_counter()
for number in range({SPANS}):
    at = time.perf_counter()
    with telemetry.span("work", number=number):
        pass
    slowest = max(slowest, time.perf_counter() - at)
spent, began = time.perf_counter() - began, time.perf_counter()
telemetry.shutdown()
def figure(name, **labels):
    return REGISTRY.get_sample_value(name, labels) or 0
print(json.dumps({{
    "spent": spent, "slowest": slowest, "shutdown": time.perf_counter() - began,
    "exported": figure("interlock_spans_exported_total"),
    "dropped": sum(figure("interlock_spans_dropped_total", cause=c) for c in ("queue_full", "not_taken", "shutdown")),
    "full": figure("interlock_spans_dropped_total", cause="queue_full"),
}}))
"""
HEAD = f"""
import json
from interlock import telemetry
telemetry.setup_traces("toy")
def recorded(links=(), traceparent=None):
    with telemetry.span("work", traceparent=traceparent, links=links) as span:
        return span.is_recording()
print(json.dumps([
    sum(recorded() for _ in range(2000)),
    recorded(links=["{SAMPLED}"]), recorded(links=["{UNSAMPLED}"]),
    recorded(traceparent="{SAMPLED}"), recorded(traceparent="{UNSAMPLED}"),
    recorded(links=["{SAMPLED}"], traceparent="{UNSAMPLED}"),
]))
"""


def _run(program: str, **environment: str) -> Any:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=plain | environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("answering", [False, True], ids=["nobody listens", "it never answers"])
def test_a_dead_collector_costs_spans_and_no_time(*, answering: bool) -> None:
    """Thirty thousand spans are as fast as any, the end of the process waits 3 s at most, and each drop is counted."""
    with socket.socket() as collector:
        collector.bind(("127.0.0.1", 0))
        if answering:
            collector.listen(64)
        address = f"http://127.0.0.1:{collector.getsockname()[1]}"
        told = _run(PROGRAM, OTEL_EXPORTER_OTLP_ENDPOINT=address)
    assert told["exported"] == 0
    assert told["dropped"] == SPANS
    assert told["full"] >= SPANS - 2 * 8192
    assert told["shutdown"] < 4.5
    assert told["spent"] / SPANS < 0.001
    assert told["slowest"] < 0.5


def test_every_span_reaches_a_collector_that_listens() -> None:
    """What is exported and what is counted agree; batches hold 512 spans at most, with the process's resource."""
    with _collector() as (address, batches):
        told = _run(PROGRAM, OTEL_EXPORTER_OTLP_ENDPOINT=address, OTEL_BSP_MAX_QUEUE_SIZE="65536")
    counts = [sum(len(scope.spans) for each in batch.resource_spans for scope in each.scope_spans) for batch in batches]
    assert sum(counts) == told["exported"]
    assert told["exported"] + told["dropped"] == SPANS
    assert max(counts) <= 512
    resource = {each.key: each.value.string_value for each in batches[0].resource_spans[0].resource.attributes}
    assert (resource["service.name"], resource["service.namespace"]) == ("interlock-toy", "interlock")
    assert resource["service.instance.id"]


def test_the_standard_variables_decide_what_is_recorded() -> None:
    """A ratio of 0.01 records about one root in a hundred; a caller's flag decides for its children."""
    nowhere = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    ratio = nowhere | {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}
    roots, sampled_link, other_link, sampled_parent, other_parent, both = _run(HEAD, **ratio)
    assert 3 <= roots <= 60
    assert (sampled_link, other_link) == (True, False)
    assert (sampled_parent, other_parent, both) == (True, False, False)
    assert _run(HEAD, **nowhere)[0] == 2000
    assert _run(HEAD, **nowhere, OTEL_TRACES_SAMPLER="always_off")[:2] == [0, False]


def test_without_a_collector_nothing_is_recorded_unless_the_caller_asks() -> None:
    """No address, or traces switched off: roots are not recorded, and a caller's flag is handed on."""
    assert _run(HEAD)[:4] == [0, False, False, True]
    off = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"}
    assert _run(HEAD, **off)[0] == 0


@contextmanager
def _collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """A collector of OTLP over HTTP that keeps what it is sent."""
    batches: list[ExportTraceServiceRequest] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the name that the base class calls
            body = self.rfile.read(int(self.headers["Content-Length"]))
            batches.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", batches
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def test_the_headers_last_flag_says_whether_it_is_sampled() -> None:
    """Bit 0 of the flags, in text or bytes; anything else is not sampled."""
    from interlock.telemetry import is_sampled

    assert is_sampled(SAMPLED)
    assert is_sampled(SAMPLED.encode())
    assert is_sampled(SAMPLED[:-2] + "03")
    assert not any(map(is_sampled, [UNSAMPLED, SAMPLED[:-2] + "02", SAMPLED[:-2], "rubbish", "", None, b"\xff" * 55]))


def test_looking_for_sampled_requests_is_cheap() -> None:
    """A lane looks at the headers of every request: far below a microsecond each where none is sampled."""
    from interlock.kafka.partition import Taken, TopicPartition
    from interlock_router.trace import sampled

    class Record:
        offset = 7
        headers = (("traceparent", UNSAMPLED.encode()),)

    def taken(*records: Any) -> list[Taken]:
        return [Taken(TopicPartition("fraud.requests", 3), records, 8, 0)]

    records = [Record()] * 100_000
    began = time.perf_counter()
    assert sampled(taken(*records), 8) == []
    assert (time.perf_counter() - began) / len(records) < 2e-6

    class Sampled(Record):
        headers = (("traceparent", SAMPLED.encode()),)

    assert sampled(taken(Record(), *[Sampled()] * 20), 8) == [(3, 7, SAMPLED)] * 8
    assert sampled(taken(Sampled()), 0) == []
