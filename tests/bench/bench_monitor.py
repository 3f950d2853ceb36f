"""What the monitor costs: its CPU for every feature of every event, beside the scoring of the same events.

`python -m tests.bench.bench_monitor --home DIR` runs against the servers of a running stack; without `--home` it starts
its own. Scoring is the lanes in one process and a Ray Serve replica with 100 trees of depth 6 over thirty doubles in
another; the monitor is a third. A round is a new endpoint, router and monitor: after a warm-up that nobody counts, a
burst is answered and counted at the same time, and every process's CPU between the two is held against the events.
Rounds with and without a reference profile take turns. The servers' own work (Postgres for the monitor, Ray beside the
replica) is told apart.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import psutil
import structlog
import uvloop
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import HistGradientBoostingClassifier

from interlock import embedded, memory
from interlock.blobs import Blobs
from interlock.clock import milliseconds
from interlock.codec.contract import request_schema
from interlock.embedded.home import Home
from interlock.ids import uuid7
from interlock.schemas.events import BuildSucceeded
from interlock.settings import tell_libraries
from interlock.signature import Matrix
from interlock_builder.profile import profile
from interlock_router.settings import Settings
from tests.bench.bench_lane import SIGNATURE
from tests.bench.replica import Served, replica_of
from tests.integration.monitor.rig import Feed, Room, opened, until
from tests.integration.router import rig as rigs

MODEL: Final = "trees"
TREES: Final = 100
DEPTH: Final = 6
TRAINING_ROWS: Final = 20_000
VARIANTS: Final = {"with_reference": True, "without_reference": False}
SECONDS_MAX: Final = 300.0
UP_SECONDS_MAX: Final = 90.0
BOUND_PERCENT: Final = 15.0
"""What the monitor may cost of the scoring's CPU."""


class Used(NamedTuple):
    """CPU seconds of every party so far."""

    router: float
    replica: float
    serve: float  # controller and proxies
    ray: float  # raylet, GCS, agents
    monitor: float
    postgres: float  # the monitor's own backends


def main() -> int:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=None)
    parser.add_argument("--requests", type=int, default=800_000, help="some ten seconds: windows close meanwhile")
    parser.add_argument("--warm", type=int, default=40_000, help="requests before, which are not counted")
    parser.add_argument("--rounds", type=int, default=5, help="of each variant")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--only", choices=tuple(VARIANTS), help="one variant alone, to be profiled")
    options = parser.parse_args()
    tell_libraries()
    with (
        _servers(options.home) as environment,
        tempfile.TemporaryDirectory() as folder,
        replica_of(MODEL, [each.name for each in SIGNATURE.inputs], trees()) as ray_at,
    ):
        figures = asyncio.run(_measure(environment, Path(folder), ray_at, options))
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0


@contextmanager
def _servers(home: Path | None) -> Iterator[dict[str, str]]:
    record = Home(home).record() if home is not None else None
    if record is not None:
        yield record["env"]
        return
    with tempfile.TemporaryDirectory() as folder, embedded.running(Path(folder) / "home", embedded.SERVERS) as given:
        yield given


def features(seed: int, rows: int) -> Matrix:
    """Return rows of thirty features of three kinds: bells, amounts with a long tail, and small whole numbers."""
    random, each = np.random.default_rng(seed), len(SIGNATURE.inputs) // 3
    kinds = (
        random.normal(size=(rows, each)) * np.linspace(1, 50, each),
        random.lognormal(3.0, 1.0, (rows, each)),
        random.integers(0, 24, (rows, each)).astype(np.float64),
    )
    return np.concatenate(kinds, axis=1)


def trees() -> bytes:
    """Return a classifier of boosted trees as ONNX."""
    matrix = features(1, TRAINING_ROWS)
    noise = np.random.default_rng(2).normal(size=TRAINING_ROWS)
    truth = matrix[:, 0] + np.log(matrix[:, 10]) * matrix[:, 3] / 10 + (matrix[:, 20] > 12) + noise > 1
    made = HistGradientBoostingClassifier(
        max_iter=TREES, max_depth=DEPTH, max_leaf_nodes=None, min_samples_leaf=5, early_stopping=False, random_state=3
    )
    made.fit(matrix.astype(np.float32), truth)
    graph = to_onnx(
        made,
        initial_types=[("x", FloatTensorType([None, matrix.shape[1]]))],
        options={"zipmap": False},
        target_opset={"": 17, "ai.onnx.ml": 3},
    )
    return bytes(graph.SerializeToString())


async def _measure(
    environment: dict[str, str], folder: Path, ray_at: str, options: argparse.Namespace
) -> dict[str, Any]:
    values = _values(options.warm + options.requests)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    for _ in range(options.rounds):
        for name, referenced in VARIANTS.items():
            if options.only in (None, name):
                async with opened(environment, folder, stream_flush_seconds=1.0, window_seconds=60) as room:
                    found[name].append(await _round(room, environment, ray_at, options, values, referenced=referenced))
    return {
        "requests_a_round": options.requests,
        "bound_percent": BOUND_PERCENT,
        "load": [round(each, 2) for each in os.getloadavg()],
        **{name: _quartiles(rounds) for name, rounds in found.items() if rounds},
    }


def _values(count: int) -> list[bytes]:
    """Return framed requests, one for each millisecond up to now."""
    rig = rigs.Rig(Settings(kafka_bootstrap_servers="127.0.0.1:1"), 1, SIGNATURE)
    names, began = [each.name for each in SIGNATURE.inputs], milliseconds(datetime.now(UTC)) - count
    return [
        rig.write(dict(zip(names, row, strict=True)) | {"request_id": f"r{number}", "requested_at": began + number})
        for number, row in enumerate(features(4, count).tolist())
    ]


async def _round(
    room: Room,
    environment: dict[str, str],
    ray_at: str,
    options: argparse.Namespace,
    values: list[bytes],
    *,
    referenced: bool,
) -> dict[str, float]:
    """Answer and count the requests once; return microseconds an event of everybody, and the rate."""
    with rigs.schema_registry({rigs.REQUEST_SCHEMA_ID: request_schema("bench", SIGNATURE)}) as url:
        settings = Settings(
            kafka_bootstrap_servers=environment["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"],
            schema_registry_url=url,
            group="bench-" + uuid7(),
        )
        rig = rigs.Rig(settings, options.partitions, SIGNATURE)
        await rig.create()
        async with Feed(room.settings, rig.endpoint, options.partitions) as feed:
            await feed.route()
            if referenced:
                await feed.say(_built(room))
            monitor = await room.start()
            try:
                with _router(rig, ray_at) as router:
                    used = _meter(router, monitor.process.pid, room)
                    await _answered(room, rig, values[: options.warm], options.warm)
                    before, began = used(), time.perf_counter()
                    await _answered(room, rig, values[options.warm :], len(values))
                    after, seconds = used(), time.perf_counter() - began
                    (told,) = await room.fetch(
                        "SELECT count(DISTINCT (partition, from_offset)) AS batches FROM quality_scores "
                        "WHERE endpoint = $1",
                        rig.endpoint,
                    )
            finally:
                await monitor.stop()
    each = {
        name: (late - early) / options.requests * 1e6
        for name, early, late in zip(Used._fields, before, after, strict=True)
    }
    share = 100 * each["monitor"] / (each["router"] + each["replica"])
    return each | {
        "monitor_percent_of_scoring": share,
        "events_per_second": options.requests / seconds,
        "events_per_batch": len(values) / told["batches"],
    }


async def _answered(room: Room, rig: rigs.Rig, values: list[bytes], total: int) -> None:
    """Write requests and wait until the monitor has counted so many in all: Postgres is asked, at nobody's cost."""
    await asyncio.to_thread(rig.produce, values, lambda index: f"k{index % 5000}")

    async def counted() -> bool:
        (row,) = await room.fetch(
            "SELECT coalesce(sum(rows), 0) AS rows FROM coverage WHERE endpoint = $1", rig.endpoint
        )
        return bool(row["rows"] >= total)

    await until(counted, SECONDS_MAX)


def _meter(router: int, monitor: int, room: Room) -> Callable[[], Used]:
    """Return what tells the CPU of everybody, found once while all are up; of replicas with what they started."""
    parties: dict[str, list[psutil.Process]] = {name: [] for name in Used._fields}
    parties["router"] = [psutil.Process(router), *psutil.Process(router).children(recursive=True)]
    parties["monitor"] = [psutil.Process(monitor), *psutil.Process(monitor).children(recursive=True)]
    taken = {each.pid for each in (*parties["router"], *parties["monitor"])}
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            line = " ".join(child.cmdline())
            if child.pid in taken:
                continue
            if "ServeReplica" in line:
                parties["replica"] += [child, *child.children(recursive=True)]
            elif "Serve" in line or "Proxy" in line:
                parties["serve"].append(child)
            elif "ray" in line:
                parties["ray"].append(child)
    role = urlsplit(room.dsn).username or ""
    assert parties["replica"], "no replica among our processes"

    def used() -> Used:
        backends = [each for each in psutil.process_iter() if role in " ".join(_line(each))]
        return Used(*(_seconds(backends if name == "postgres" else parties[name]) for name in Used._fields))

    return used


def _line(process: psutil.Process) -> list[str]:
    try:
        line: list[str] = process.cmdline()
    except psutil.Error:
        return []
    return line if line[:1] and line[0].startswith("postgres:") else []


def _seconds(processes: list[psutil.Process]) -> float:
    total = 0.0
    for each in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(each.cpu_times()[:2])
    return total


@contextmanager
def _router(rig: rigs.Rig, ray_at: str) -> Iterator[int]:
    """Run the lanes in a process of their own, until they can ask the version; yields its id."""
    context = multiprocessing.get_context("spawn")
    ready, stop = context.Event(), context.Event()
    os.environ["INTERLOCK_SCHEMA_REGISTRY_URL"] = rig.settings.schema_registry_url.get_secret_value()
    given = (rig.settings.model_dump_json(), rig.endpoint, rig.partitions, ray_at, ready, stop)
    process = context.Process(target=_route, args=given)
    process.start()
    try:
        assert ready.wait(UP_SECONDS_MAX), "the router did not come up"
        assert process.pid is not None
        yield process.pid
    finally:
        stop.set()
        process.join(20)


def _route(settings: str, endpoint: str, partitions: int, ray_at: str, ready: Any, stop: Any) -> None:
    """Be the router's process."""
    memory.settle()
    for name in ("aiokafka", "ray"):
        logging.getLogger(name).setLevel("ERROR")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    values = {name: value for name, value in json.loads(settings).items() if value != "**********"}
    uvloop.run(_serve(values, endpoint, partitions, ray_at, ready, stop))


async def _serve(values: dict[str, Any], endpoint: str, partitions: int, ray_at: str, ready: Any, stop: Any) -> None:
    rig = rigs.Rig(Settings(**values), partitions, SIGNATURE)
    rig.endpoint = endpoint
    rig.serving = Served(ray_at, MODEL)
    await rig.serving.call("", np.zeros((1, len(SIGNATURE.inputs))), 30.0)
    rig.route((1, 10_000))
    async with rigs.RunningRouter(rig):
        ready.set()
        await asyncio.to_thread(stop.wait)


def _built(room: Room) -> BuildSucceeded:
    """Keep a profile of what the requests look like, and return the news of its build."""
    matrix = features(1, TRAINING_ROWS)
    made = profile(SIGNATURE, matrix, np.random.default_rng(5).uniform(size=(TRAINING_ROWS, 1)), "bench")
    digest = Blobs(room.settings.blob_folder).put(json.dumps(made).encode())
    return BuildSucceeded(
        model="m", version=1, digest=rigs.version_digest(1), attempt=1, evidence_digest=digest, profile_digest=digest,
        vectors=1, gates=(), seconds=1.0, at=datetime.now(UTC),
    )  # fmt: skip


def _quartiles(rounds: list[dict[str, float]]) -> dict[str, Any]:
    """Return lower quartile, median and upper quartile of every figure; of a single round, three times its own."""
    figures: dict[str, Any] = {}
    for name in rounds[0]:
        values = [each[name] for each in rounds]
        title = f"{name}_microseconds" if name in Used._fields else name
        quartiles = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
        figures[title] = [round(each, 2) for each in quartiles]
    return figures


if __name__ == "__main__":
    sys.exit(main())
