"""What the monitor costs: its CPU for every feature of every event, beside the lanes' that answer the same events.

`python -m tests.bench.bench_monitor --home DIR` runs against the servers of a running stack; without `--home` it starts
its own. A burst of requests with thirty features is answered by lanes in one process (the version adds next to nothing,
so the share is against the lanes alone) and counted by a monitor in another, with and without a reference profile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from interlock import embedded
from interlock.blobs import Blobs
from interlock.codec.contract import request_schema
from interlock.embedded.home import Home
from interlock.ids import uuid7
from interlock.schemas.events import BuildSucceeded
from interlock_builder.profile import profile
from interlock_router.settings import Settings
from tests.bench import bench_lane as lanes
from tests.integration.monitor.rig import Feed, Room, opened, until
from tests.integration.router import rig as rigs

SECONDS_MAX = 300


def main() -> int:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=None)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--partitions", type=int, default=4)
    options = parser.parse_args()
    sys.stdout.write(json.dumps(asyncio.run(_measure(options))) + "\n")
    return 0


async def _measure(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        record = Home(options.home).record() if options.home is not None else None
        if record is not None:
            return await _both(record["env"], Path(folder), options)
        with embedded.running(Path(folder) / "home", embedded.SERVERS) as environment:
            return await _both(environment, Path(folder), options)


async def _both(environment: dict[str, str], folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for name in ("with_reference", "without_reference"):
        async with opened(environment, folder, stream_flush_seconds=1.0, window_seconds=60) as room:
            figures[name] = await _burst(room, environment, options, referenced=name == "with_reference")
    return figures


async def _burst(
    room: Room, environment: dict[str, str], options: argparse.Namespace, *, referenced: bool
) -> dict[str, Any]:
    with rigs.schema_registry({rigs.REQUEST_SCHEMA_ID: request_schema("bench", lanes.SIGNATURE)}) as url:
        settings = Settings(
            kafka_bootstrap_servers=environment["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"],
            schema_registry_url=url,
            group="bench-" + uuid7(),
        )
        rig = await lanes._rig(settings, options.partitions)
        rig.produce([rig.value(number) for number in range(options.requests)], lambda index: f"k{index % 5000}")
        async with Feed(room.settings, rig.endpoint, options.partitions) as feed:
            await feed.route()
            if referenced:
                await feed.say(_built(room))
            monitor = await room.start()
            used = psutil.Process(monitor.process.pid)
            before, began = sum(used.cpu_times()[:2]), time.perf_counter()
            with lanes._router(rig) as (cpu, _):
                lane_before = cpu()

                async def counted() -> bool:  # asked of Postgres, so that the asking costs the monitor nothing
                    (row,) = await room.fetch(
                        "SELECT coalesce(sum(rows), 0) AS rows FROM coverage WHERE endpoint = $1", rig.endpoint
                    )
                    return bool(row["rows"] >= options.requests)

                await until(counted, SECONDS_MAX)
                lane = cpu() - lane_before
                seconds = time.perf_counter() - began
            mine = sum(used.cpu_times()[:2]) - before
            memory = used.memory_full_info().pss / 2**20
            await monitor.stop()
    return {
        "events_per_second": round(options.requests / seconds),
        "monitor_cpu_microseconds_per_event": round(mine / options.requests * 1e6, 2),
        "lane_cpu_microseconds_per_event": round(lane / options.requests * 1e6, 2),
        "share_of_lane": round(mine / lane, 3),
        "monitor_mib": round(memory),
    }


def _built(room: Room) -> BuildSucceeded:
    """Keep a profile of what the requests look like, and return the news of its build."""
    matrix = np.random.default_rng(1).uniform(0, 1e5, (20_000, len(lanes.SIGNATURE.inputs)))
    made = profile(lanes.SIGNATURE, matrix, matrix[:, :1], "bench")
    digest = Blobs(room.settings.blob_folder).put(json.dumps(made).encode())
    return BuildSucceeded(
        model="m", version=1, digest=rigs.version_digest(1), attempt=1, evidence_digest=digest, profile_digest=digest,
        vectors=1, gates=(), seconds=1.0, at=datetime.now(UTC),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
