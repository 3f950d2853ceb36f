"""What three online inputs cost a lane: bursts with and without them in turn, in one run against the same servers.

`python -m tests.bench.bench_features --home DIR` runs against the servers of a running stack (Kafka and Valkey). Both
kinds have thirty inputs; with three of them online the requests hold twenty-seven. The version answers in this process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import redis
import uvloop
from pydantic import SecretStr

from interlock.codec.contract import request_schema
from interlock.embedded.home import Home
from interlock.ids import uuid7
from interlock.signature import Input, Online, Output, Signature
from interlock_router.features import packed
from interlock_router.settings import Settings
from tests.bench.bench_lane import _Watcher
from tests.integration.router import rig as rigs
from tests.integration.router.feature_rig import FeatureRouter

INPUTS = 30
ONLINE = 3
ENTITIES = 5000


def signature(online: int) -> Signature:
    """Return thirty inputs of which the last are online."""
    asked = (Input(f"f{index}", "double") for index in range(INPUTS - online))
    looked_up = (Input(f"o{index}", "double", online=Online(3600.0, 0.0)) for index in range(online))
    return Signature((*asked, *looked_up), (Output("score"),))


class FeatureBenchRig(rigs.Rig):
    """The rig with thirty inputs."""

    def value(self, number: int, **features: float | None) -> bytes:
        """Return a framed request."""
        asked = sum(not each.online for each in self.signature.inputs)
        row: dict[str, Any] = {f"f{index}": number + index / 10 for index in range(asked)}
        return self.write(row | {"request_id": f"r{number}", "requested_at": 1_700_000_000_000 + number} | features)


def main() -> int:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    record = Home(options.home).record()
    assert record is not None, "nothing runs there"
    logging.getLogger("aiokafka").setLevel("CRITICAL")
    found: dict[int, list[tuple[float, float]]] = {0: [], ONLINE: []}
    for turn in range(2 * options.rounds):
        online = ONLINE * (turn % 2)
        found[online].append(uvloop.run(_burst(record["env"], online, options)))
    figures = {
        name: {
            "events_per_second": round(float(np.median([rate for rate, _ in found[online]]))),
            "cpu_microseconds_per_event": round(float(np.median([cpu for _, cpu in found[online]])), 2),
            "rates": [round(rate) for rate, _ in found[online]],
        }
        for name, online in (("without", 0), ("with_three", ONLINE))
    }
    without, with_three = (float(np.median([rate for rate, _ in found[online]])) for online in (0, ONLINE))
    sys.stdout.write(json.dumps(figures | {"ratio": round(with_three / without, 3)}) + "\n")
    return 0


async def _burst(environment: dict[str, str], online: int, options: argparse.Namespace) -> tuple[float, float]:
    """Preload requests, then answer them all; return events a second and this process's CPU microseconds an event."""
    wanted = signature(online)
    with rigs.schema_registry({rigs.REQUEST_SCHEMA_ID: request_schema("bench", wanted)}) as url:
        name = uuid7()[-12:]
        settings = Settings(
            kafka_bootstrap_servers=environment["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"],
            redis_url=SecretStr(environment["INTERLOCK_REDIS_URL"]),
            schema_registry_url=url,
            group="bench-" + name,
            features_group="bench-features-" + name,
        )
        rig = FeatureBenchRig(settings, options.partitions, wanted)
        await rig.create()
        rig.serving.add("m", 1)
        _fill(environment["INTERLOCK_REDIS_URL"], rig.endpoint)
        rig.produce([rig.value(number) for number in range(options.requests)], lambda index: f"k{index % ENTITIES}")
        rig.route((1, 10_000))
        seen = _Watcher(settings, rig, options.requests)
        cpu, started = time.process_time(), time.perf_counter()
        async with FeatureRouter(rig):  # type: ignore[arg-type]  # as far as it looks
            await asyncio.to_thread(seen.done.wait, 120)
            used = time.process_time() - cpu
        seen.close()
    return options.requests / (seen.last_at - started), used / options.requests * 1e6


def _fill(url: str, endpoint: str) -> None:
    values = packed({f"o{index}": float(index) for index in range(ONLINE)}, round(time.time() * 1000))
    store = redis.Redis.from_url(url)
    store.mset({f"features:{endpoint}:k{index}": values for index in range(ENTITIES)})
    store.close()


if __name__ == "__main__":
    sys.exit(main())
