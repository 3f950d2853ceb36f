"""A real Jaeger on loopback: built by `make jaeger`, started on free ports, asked over its query API."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parents[3]
BUILD_SECONDS_MAX = 900
START_SECONDS_MAX = 20.0
LOOK_SECONDS = 0.2
TRACES_MAX = 20_000
ADDRESSES = (
    "admin.http",
    "collector.grpc-server",
    "collector.http-server",
    "collector.otlp.grpc",
    "collector.otlp.http",
    "query.grpc-server",
    "query.http-server",
)


@dataclass(frozen=True)
class Span:
    """One span as Jaeger tells it; `parent` and `links` are (trace id, span id)."""

    trace: str
    id: str
    service: str
    name: str
    parent: tuple[str, str] | None
    links: tuple[tuple[str, str], ...]
    tags: Mapping[str, Any]


class Jaeger:
    """The query side of one Jaeger, and where its collector listens."""

    def __init__(self, query: str, collector: str) -> None:
        self.collector = collector
        self._http = httpx.Client(base_url=query, trust_env=False, timeout=10)

    def services(self) -> set[str]:
        """Return the names of the services that sent a span."""
        return set(self._http.get("/api/services").raise_for_status().json()["data"] or ())

    def trace(self, trace_id: str) -> list[Span]:
        """Return the spans of one trace, none if it is not known."""
        answer = self._http.get(f"/api/traces/{trace_id}")
        return _spans(answer.json()["data"]) if answer.is_success else []

    def find(self, service: str, operation: str) -> list[Span]:
        """Return the spans of every trace that has this operation of this service."""
        asked: dict[str, str | int] = {"service": service, "operation": operation, "limit": 1000, "lookback": "1h"}
        return _spans(self._http.get("/api/traces", params=asked).raise_for_status().json()["data"])

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


def binary() -> Path:
    """Return Jaeger's binary, built if Go is here; skips the test where neither is."""
    place = (
        Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "interlock" / "jaeger" / "jaeger-all-in-one"
    )
    if not place.is_file():
        if shutil.which("go") is None:
            pytest.skip("no Jaeger is built, and there is no Go to build it with (make jaeger)")
        done = subprocess.run(
            ["make", "jaeger"], cwd=ROOT, capture_output=True, text=True, timeout=BUILD_SECONDS_MAX, check=False
        )
        if done.returncode or not place.is_file():
            pytest.skip(f"make jaeger failed: {done.stderr[-300:]}")
    return place


@contextmanager
def running(program: Path) -> Iterator[Jaeger]:
    """Run a Jaeger that keeps its traces in memory."""
    ports = dict(zip(ADDRESSES, _free_ports(len(ADDRESSES)), strict=True))
    words = [f"--{name}.host-port=127.0.0.1:{port}" for name, port in ports.items()]
    with subprocess.Popen(
        [program, *words, f"--memory.max-traces={TRACES_MAX}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        jaeger = Jaeger(
            f"http://127.0.0.1:{ports['query.http-server']}", f"http://127.0.0.1:{ports['collector.otlp.http']}"
        )
        try:
            _wait(jaeger, process)
            yield jaeger
        finally:
            jaeger.close()
            process.kill()  # its traces are in memory, and told to end it waits for its connections first


def _wait(jaeger: Jaeger, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while True:
        try:
            jaeger.services()
        except httpx.HTTPError:
            assert process.poll() is None, "Jaeger ended"
            assert time.monotonic() < deadline, "Jaeger did not answer"
            time.sleep(LOOK_SECONDS)
        else:
            return


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _spans(traces: list[dict[str, Any]]) -> list[Span]:
    return [_span(span, trace["processes"]) for trace in traces or [] for span in trace["spans"]]


def _span(span: dict[str, Any], processes: dict[str, Any]) -> Span:
    """Return a span; of its references CHILD_OF is the parent, and FOLLOWS_FROM is how Jaeger writes a link."""
    places = [(each["refType"], (each["traceID"], each["spanID"])) for each in span["references"]]
    return Span(
        trace=span["traceID"],
        id=span["spanID"],
        service=processes[span["processID"]]["serviceName"],
        name=span["operationName"],
        parent=next((place for kind, place in places if kind == "CHILD_OF"), None),
        links=tuple(place for kind, place in places if kind == "FOLLOWS_FROM"),
        tags={tag["key"]: tag["value"] for tag in span["tags"]},
    )
