"""What watching costs a lane: observations and audited batches switched on and off, slice by slice, in one process.

`python -m tests.bench.bench_watching --home DIR` runs against the servers of a running stack; without `--home` it
starts its own. One lane answers a preloaded backlog again and again, and after every few batches it changes what it
tells of them, so that whatever else the machine does falls on all variants alike. The version is the bench's model of
100 trees behind Ray Serve, as in the product, and what a variant costs the router more is held against the CPU of
router and replica, which are the lane; beside it stands the share of the router alone. With `--here` a version that
costs nothing answers in the router's own process.
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
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import psutil
import structlog
import uvloop

from interlock import memory
from interlock.codec.contract import request_schema
from interlock.ids import uuid7
from interlock.kafka.transaction import PartitionTransactions
from interlock.settings import tell_libraries
from interlock.signature import Input, Output, Signature
from interlock_router import observe
from interlock_router.settings import Settings
from tests.bench import work
from tests.bench.bench_lane import servers
from tests.bench.replica import Served, replica_of
from tests.integration.router import rig as rigs
from tests.integration.serving import graphs

MODEL = "linear"
VARIANTS = {
    "off": (False, False, False),
    "observations": (True, False, False),
    "results": (False, True, False),
    "batches": (False, True, True),
    "both": (True, True, True),
}
"""Whether a variant writes observations, whether batches, and whether those hold a digest of the requests too."""
PASS_SECONDS_MAX = 120.0
BOOTSTRAP_SAMPLES = 4000


class Slice(NamedTuple):
    """A stretch of batches that were told of in one way: what it cost."""

    variant: str
    rows: int
    cpu_seconds: float
    wall_seconds: float


def signature(features: int) -> Signature:
    """Return a signature of so many doubles."""
    inputs = tuple(Input(f"f{index}", "double") for index in range(features))
    return Signature(inputs=inputs, outputs=(Output("score"),))


def main() -> int:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=None)
    parser.add_argument("--requests", type=int, default=400_000)
    parser.add_argument("--features", type=int, default=30)
    parser.add_argument("--passes", type=int, default=8)
    parser.add_argument("--slice", type=int, default=2, help="batches until the next variant's turn")
    parser.add_argument("--here", action="store_true", help="score in the router's own process")
    parser.add_argument("--only", choices=tuple(VARIANTS), help="one variant alone, to be profiled")
    options = parser.parse_args()
    tell_libraries()
    schema = request_schema("bench", signature(options.features))
    with (
        servers(options.home) as environment,
        rigs.schema_registry({rigs.REQUEST_SCHEMA_ID: schema}) as url,
        contextlib.nullcontext() if options.here else _version(options.features) as address,
    ):
        settings = Settings(
            kafka_bootstrap_servers=environment["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"], schema_registry_url=url
        )
        os.environ["INTERLOCK_SCHEMA_REGISTRY_URL"] = url
        endpoint = asyncio.run(_preload(settings, options))
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(
            target=_route, args=(settings.model_dump_json(), endpoint, vars(options), address, there)
        )
        process.start()
        replica, slices = here.recv()
        process.join(20)
    sys.stdout.write(json.dumps(_figures([Slice(*each) for each in slices], replica)) + "\n")
    return 0


def _version(features: int) -> AbstractContextManager[str]:
    """Run the bench's model, or a linear one of other features; the context gives the cluster's address."""
    artifact = work.model() if features == work.FEATURES else graphs.linear([1.0] * features)
    return replica_of(MODEL, [each.name for each in signature(features).inputs], artifact)


async def _preload(settings: Settings, options: argparse.Namespace) -> str:
    """Write the requests into one partition; return the endpoint's name."""
    rig = rigs.Rig(settings, 1, signature(options.features))
    await rig.create()
    drawn = np.random.default_rng(work.SEED).normal(size=(work.ROWS, options.features))
    for start in range(0, options.requests, 1000):
        values = []
        for number in range(start, start + 1000):
            row = {f"f{index}": each for index, each in enumerate(drawn[number % len(drawn)].tolist())}
            values.append(rig.write({"request_id": f"r{number}", "requested_at": 1_700_000_000_000 + number, **row}))
        rig.produce(values, lambda index, start=start: f"k{(start + index) % 5000}")  # type: ignore[misc]  # bound now
    return rig.endpoint


def _route(settings: str, endpoint: str, options: dict[str, Any], address: str | None, pipe: Any) -> None:
    """Be the router's process."""
    memory.settle()
    logging.getLogger("aiokafka").setLevel("ERROR")
    logging.getLogger("ray").setLevel("ERROR")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    values = {key: value for key, value in json.loads(settings).items() if value != "**********"}
    pipe.send(uvloop.run(_serve(values, endpoint, options, address)))


def _replica_seconds() -> float:
    """Return the CPU seconds of the replicas that this bench has started; 0 where there are none."""
    family = psutil.Process(os.getppid()).children(recursive=True)
    replicas = [each for each in family if each.name().startswith("ray::ServeRepl")]
    return float(sum(sum(each.cpu_times()[:2]) for each in replicas))


async def _serve(
    values: dict[str, Any], endpoint: str, options: dict[str, Any], address: str | None
) -> tuple[float, list[tuple[Any, ...]]]:
    """Answer the backlog once in each pass, by a new group; return the replica's CPU seconds a row, and the slices."""
    slices: list[tuple[Any, ...]] = []
    replica_seconds = 0.0
    for number in range(options["passes"]):
        settings = Settings(**{**values, "group": "bench-" + uuid7()})
        rig = rigs.Rig(settings, 1, signature(options["features"]))
        rig.endpoint = endpoint
        if address is None:
            rig.serving.add("m", 1)
        else:
            rig.serving = Served(address, MODEL)
            await rig.serving.call("", np.zeros((1, options["features"])), 30.0)
        rig.route((1, 10_000))
        switch = _Switch(number, options["slice"], options["requests"], options["only"])
        before = _replica_seconds()
        with switch.patched():
            async with rigs.RunningRouter(rig), asyncio.timeout(PASS_SECONDS_MAX):
                await switch.done.wait()
        slices += switch.slices
        replica_seconds += _replica_seconds() - before
    return replica_seconds / (options["passes"] * options["requests"]), slices


class _Switch:
    """Stands between the lane and what it tells: lets through what is on, and goes on to the next variant in time."""

    def __init__(self, first: int, batches: int, requests: int, only: str | None) -> None:
        self.done = asyncio.Event()
        self.slices: list[Slice] = []
        names = list(VARIANTS) if only is None else [only]
        self._order = names[first % len(names) :] + names[: first % len(names)]  # no variant always has the same turn
        self._batches = batches
        self._left = requests
        self._commits = self._rows = 0
        self._begun: tuple[float, float] | None = None

    @property
    def _variant(self) -> str:
        return self._order[self._commits // self._batches % len(self._order)]

    @contextmanager
    def patched(self) -> Iterator[None]:
        """Have the lane of this process work under the switch."""
        commit, whole = PartitionTransactions.commit, observe._requests

        def observations(*arguments: Any) -> list[Any]:
            return observe.observations(*arguments) if VARIANTS[self._variant][0] else []

        def batches_answered(*arguments: Any) -> list[Any]:
            return observe.batches_answered(*arguments) if VARIANTS[self._variant][1] else []

        def requests(batch: Any) -> Any:
            return whole(batch) if VARIANTS[self._variant][2] else []

        async def counted(transactions: PartitionTransactions, outgoing: Any, next_offset: int, stamp: int) -> None:
            await commit(transactions, outgoing, next_offset, stamp)
            self._committed(len(outgoing[0].records))

        with (
            mock.patch("interlock_router.lane.observations", observations),
            mock.patch("interlock_router.lane.batches_answered", batches_answered),
            mock.patch("interlock_router.observe._requests", requests),
            mock.patch.object(PartitionTransactions, "commit", counted),
        ):
            yield

    def _committed(self, rows: int) -> None:
        variant, self._rows = self._variant, self._rows + rows
        self._left -= rows
        self._commits += 1
        if self._commits % self._batches == 0:
            now = time.process_time(), time.perf_counter()
            if self._begun is not None and self._commits > self._batches * len(self._order):  # the first turns warm up
                cpu, wall = now[0] - self._begun[0], now[1] - self._begun[1]
                self.slices.append(Slice(variant, self._rows, cpu, wall))
            self._begun, self._rows = now, 0
        if self._left <= 0:
            self.done.set()


def _figures(slices: list[Slice], replica: float) -> dict[str, Any]:
    """Return for each variant CPU and rate, and how much more than `off`: the median, and its interval of 95 %.

    A slice is held against the mean of the slices of `off` nearest before and behind it. The interval is that of the
    median over bootstrap samples of the slices. `replica` is CPU seconds a row.
    """
    figures: dict[str, Any] = {"replica_microseconds": round(1e6 * replica, 2)}
    places = [index for index, each in enumerate(slices) if each.variant == "off"]
    for name in dict.fromkeys(each.variant for each in slices):
        mine = [(index, each) for index, each in enumerate(slices) if each.variant == name]
        figures[name] = {
            "slices": len(mine),
            "rows_per_slice": round(statistics.mean(each.rows for _, each in mine)),
            "cpu_microseconds": round(statistics.median(1e6 * each.cpu_seconds / each.rows for _, each in mine), 2),
            "events_per_second": round(statistics.median(each.rows / each.wall_seconds for _, each in mine)),
        }
        if not places or name == "off":
            continue
        shares: dict[str, list[float]] = {"lane": [], "router": [], "time": []}
        for index, each in mine:
            beside = sorted(places, key=lambda place, index=index: abs(place - index))[:2]  # type: ignore[misc]  # bound
            off = statistics.mean(slices[place].cpu_seconds / slices[place].rows for place in beside)
            wall = statistics.mean(slices[place].wall_seconds / slices[place].rows for place in beside)
            more = each.cpu_seconds / each.rows - off
            shares["lane"].append(100 * more / (off + replica))
            shares["router"].append(100 * more / off)
            shares["time"].append(100 * (each.wall_seconds / each.rows / wall - 1))
        for title, found in shares.items():
            figures[name][f"{title}_percent_more"] = _median(found)
    return figures


def _median(values: list[float]) -> dict[str, float]:
    """Return the median, and where 95 % of the medians of bootstrap samples lie."""
    samples = np.random.default_rng(1).choice(values, (BOOTSTRAP_SAMPLES, len(values)))
    low, high = np.percentile(np.median(samples, axis=1), (2.5, 97.5))
    return {"median": round(float(np.median(values)), 1), "low": round(float(low), 1), "high": round(float(high), 1)}


if __name__ == "__main__":
    sys.exit(main())
