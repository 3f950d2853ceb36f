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
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import psutil
import structlog
import uvloop

from interlock import memory
from interlock.codec.contract import request_schema
from interlock.ids import uuid7
from interlock.settings import tell_libraries
from interlock.signature import Input, Output, Signature
from interlock_router import observe
from interlock_router.settings import Settings
from tests.bench import work
from tests.bench.bench_lane import servers
from tests.bench.replica import Served, replica_of
from tests.bench.slices import Slice, Turns, compared
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
    figures = compared([Slice(*each) for each in slices], "off", {"lane": replica, "router": 0.0})
    sys.stdout.write(json.dumps({"replica_microseconds": round(1e6 * replica, 2), **figures}) + "\n")
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
        names = list(VARIANTS) if options["only"] is None else [options["only"]]
        turns = Turns(names, number, options["slice"], options["requests"])
        before = _replica_seconds()
        with _switched(turns):
            async with rigs.RunningRouter(rig), asyncio.timeout(PASS_SECONDS_MAX):
                await turns.done.wait()
        slices += turns.slices
        replica_seconds += _replica_seconds() - before
    return replica_seconds / (options["passes"] * options["requests"]), slices


@contextmanager
def _switched(turns: Turns) -> Iterator[None]:
    """Have the lane of this process tell what the variant whose turn it is lets through."""
    whole = observe._requests

    def observations(*arguments: Any) -> list[Any]:
        return observe.observations(*arguments) if VARIANTS[turns.variant][0] else []

    def batches_answered(*arguments: Any) -> list[Any]:
        return observe.batches_answered(*arguments) if VARIANTS[turns.variant][1] else []

    def requests(batch: Any) -> Any:
        return whole(batch) if VARIANTS[turns.variant][2] else []

    with (
        mock.patch("interlock_router.lane.observations", observations),
        mock.patch("interlock_router.lane.batches_answered", batches_answered),
        mock.patch("interlock_router.observe._requests", requests),
        turns.counting(),
    ):
        yield


if __name__ == "__main__":
    sys.exit(main())
