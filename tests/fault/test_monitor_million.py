"""A million requests through real lanes, routers and monitors killed in between: every window is what a batch makes.

What it cost goes to standard output; `tests/bench/bench_monitor.py` measures that properly.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import psutil
import pytest
from confluent_kafka import Consumer, TopicPartition

from interlock.codec.contract import request_schema
from interlock.codec.observations import event_time
from interlock.ids import uuid7
from interlock_router.settings import Settings
from tests.integration.monitor.rig import WINDOW, Feed, Monitor, Room, opened, until
from tests.integration.router.rig import REQUEST_SCHEMA_ID, SIGNATURE, Rig, schema_registry

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(1800)]

REQUESTS = int(os.environ.get("INTERLOCK_TEST_REQUESTS", "1000000"))
CHUNK = 5_000
PARTITIONS = 4
KILLS = 4
NOISE_EVERY = 997
NAMES = ("f0", "f1", "f2", "f3", "f4", "maybe")
RANKS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


@pytest.fixture
async def room(servers: dict[str, str], tmp_path: Path) -> AsyncIterator[Room]:
    """Everything a monitor needs, as it is run: a flush each second."""
    async with opened(servers, tmp_path, stream_flush_seconds=1.0) as made:
        yield made


@pytest.fixture
def lanes(servers: dict[str, str]) -> Iterator[Rig]:
    """An endpoint with its requests."""
    with schema_registry({REQUEST_SCHEMA_ID: request_schema("any", SIGNATURE)}) as url:
        settings = Settings(
            kafka_bootstrap_servers=servers["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"],
            schema_registry_url=url,
            group="router-" + uuid7()[-12:],
        )
        yield Rig(settings, PARTITIONS)


def features(chunk: int) -> Any:
    """Return the features of a chunk of requests (rows, 6), the last one missing here and there."""
    chance = np.random.default_rng(chunk)
    matrix = chance.normal(size=(CHUNK, len(NAMES))) * [1, 10, 1, 5, 0.1, 1]
    matrix[:, 0] = np.arange(chunk * CHUNK, (chunk + 1) * CHUNK)
    matrix[chance.random(CHUNK) < 0.1, 5] = np.nan
    return matrix


async def _feed(lanes: Rig, fed: list[int]) -> None:
    """Write all requests, one in NOISE_EVERY of them no request at all; some senders' clocks are off."""
    chance = np.random.default_rng(1)
    for chunk in range(REQUESTS // CHUNK):
        matrix = features(chunk)
        now = int(time.time() * 1000)
        asked = now - chance.integers(0, 1500, CHUNK)
        asked[chance.random(CHUNK) < 0.001] += 7_200_000  # two hours ahead
        asked[chance.random(CHUNK) < 0.0005] -= 60_000  # a minute late
        values = []
        for row, (cells, at) in enumerate(zip(matrix.tolist(), asked.tolist(), strict=True)):
            number = chunk * CHUNK + row
            if number % NOISE_EVERY == 5:
                values.append(b"noise")
                continue
            cells[5] = None if cells[5] != cells[5] else cells[5]
            values.append(lanes.value(number, requested_at=at, **dict(zip(NAMES, cells, strict=True))))
        await asyncio.to_thread(lanes.produce, values)
        fed[0] += CHUNK


async def _router(lanes: Rig) -> asyncio.subprocess.Process:
    settings = {
        "kafka_bootstrap_servers": lanes.settings.kafka_bootstrap_servers,
        "schema_registry_url": lanes.settings.schema_registry_url.get_secret_value(),
        "group": lanes.settings.group,
    }
    command = [sys.executable, "-m", "tests.fault.router_process", json.dumps(settings), lanes.endpoint]
    return await asyncio.create_subprocess_exec(*command, str(lanes.partitions), stdout=asyncio.subprocess.DEVNULL)


def read_results(lanes: Rig, seconds_max: float) -> dict[str, Any]:
    """Return what stands in the results, as columns; read by librdkafka and decoded by fastavro, one by one."""
    schema = fastavro.parse_schema(lanes.result_schema)
    consumer = Consumer(
        {
            "bootstrap.servers": lanes.settings.kafka_bootstrap_servers,
            "group.id": uuid7(),
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.assign([TopicPartition(lanes.topic("results"), each, 0) for each in range(lanes.partitions)])
    found: list[tuple[Any, ...]] = []
    deadline = time.monotonic() + seconds_max
    while len(found) < REQUESTS and time.monotonic() < deadline:
        for record in consumer.consume(5000, 0.5):
            row: Any = fastavro.schemaless_reader(io.BytesIO((record.value() or b"")[5:]), schema, None)
            number = int(row["request_id"][1:]) if row["request_id"] else -1
            at = (row["requested_at"], row["scored_at"])
            times = (round(each.timestamp() * 1000) for each in at)
            found.append((number, *times, row["version"], row["rejection"] is None, row["score"] or 0.0))
    consumer.close()
    assert len(found) == REQUESTS
    names = ("number", "requested_at", "scored_at", "version", "scored")
    columns = np.array([row[:5] for row in found], dtype=np.int64)
    return dict(zip(names, columns.T, strict=True)) | {"score": np.array([row[5] for row in found])}


def recompute(results: dict[str, Any]) -> dict[tuple[int, int], dict[str, Any]]:
    """Return each window by (version, start), from the results alone and the requests that they name."""
    every = np.concatenate([features(chunk) for chunk in range(REQUESTS // CHUNK)])
    times = event_time(results["requested_at"], results["scored_at"])
    starts = times // WINDOW * WINDOW
    found = {}
    for version in np.unique(results["version"]).tolist():
        for start in np.unique(starts[results["version"] == version]).tolist():
            chosen = (results["version"] == version) & (starts == start)
            scored = chosen & (results["scored"] == 1)
            found[version, start] = {
                "rows": int(scored.sum()),
                "rejected": int(chosen.sum() - scored.sum()),
                "total": np.maximum(results["scored_at"][scored] - times[scored], 0),
                "features": every[results["number"][scored]],
                "score": results["score"][scored],
            }
    return found


def _start(window: dict[str, Any]) -> int:
    return round(datetime.fromisoformat(window["window_start"]).timestamp() * 1000)


async def test_a_million_with_kills_equals_a_batch(room: Room, lanes: Rig) -> None:
    """Counts exact, p99 within 2 %, ranks within 1 %, for every window; what the monitor costs is printed."""
    used, fed, chance = Used(), [0], random.Random(5)
    async with Feed(room.settings, lanes.endpoint, PARTITIONS) as feed:
        await feed.route()
        monitor = await room.start()
        feeding = asyncio.create_task(_feed(lanes, fed))
        router = await _router(lanes)
        began = time.monotonic()
        try:
            for number in range(KILLS):
                await _until_fed(lambda share=(number + 1) / (KILLS + 1): fed[0] >= share * REQUESTS, feeding)
                await asyncio.sleep(chance.uniform(0, 2))  # the moment of the fault, not a wait for a condition
                if number % 2:
                    used.add("router", router.pid)
                    router.kill()
                    await router.wait()
                    router = await _router(lanes)
                else:
                    used.add("monitor", monitor.process.pid)
                    await monitor.kill()
                    monitor = await room.start()
            await feeding
            await _counted(monitor, lanes.endpoint)
            seconds = time.monotonic() - began
            memory = psutil.Process(monitor.process.pid).memory_full_info().pss / 2**20
            used.add("monitor", monitor.process.pid)
            used.add("router", router.pid)
            expected = recompute(await asyncio.to_thread(read_results, lanes, 600))
            await _compare(monitor, lanes.endpoint, expected)
        finally:
            feeding.cancel()
            router.kill()
            await router.wait()
            await monitor.stop()
    sys.stdout.write(
        f"\n{REQUESTS} requests in {seconds:.0f} s, {len(expected)} windows; CPU, starts included: monitor "
        f"{used.seconds['monitor']:.1f} s, router {used.seconds['router']:.1f} s; monitor {memory:.0f} MiB PSS\n"
    )


class Used:
    """CPU seconds by role, over processes that came and went."""

    def __init__(self) -> None:
        self.seconds = {"monitor": 0.0, "router": 0.0}

    def add(self, role: str, pid: int) -> None:
        """Add what a process has used."""
        times = psutil.Process(pid).cpu_times()
        self.seconds[role] += times.user + times.system


async def _until_fed(condition: Any, feeding: asyncio.Task[None]) -> None:
    async def look() -> bool:
        if feeding.done():
            feeding.result()
        return bool(condition())

    await until(look, 900)


async def _counted(monitor: Monitor, endpoint: str) -> None:
    async def counted() -> bool:
        covered = (await monitor.ask(f"/v1/endpoints/{endpoint}/coverage")).json()
        return bool(sum(each["rows"] for each in covered.get("requests", ())) >= REQUESTS)

    async def closed() -> bool:
        windows = (await monitor.answer(f"{endpoint}/windows?limit=5000"))["windows"]
        return not any(each["open"] for each in windows) and sum(_all(each) for each in windows) == REQUESTS

    await until(counted, 900)
    await until(closed, 60)


def _all(window: dict[str, Any]) -> int:
    return int(window["rows"] + window["rejected"])


async def _compare(monitor: Monitor, endpoint: str, expected: dict[tuple[int, int], dict[str, Any]]) -> None:
    windows = (await monitor.answer(f"{endpoint}/windows?limit=5000"))["windows"]
    counts = {(each["version"], _start(each)): (each["rows"], each["rejected"]) for each in windows}
    assert counts == {key: (each["rows"], each["rejected"]) for key, each in expected.items()}
    assert (await monitor.answer(f"{endpoint}/coverage"))["gaps"] == 0
    for window in windows:
        exact = expected[window["version"], _start(window)]
        if not exact["rows"]:
            continue
        p99 = float(np.quantile(exact["total"], 0.99, method="inverted_cdf"))
        assert window["latency_milliseconds"]["total"]["p99"] == pytest.approx(p99, rel=0.02, abs=0.001)
        path = f"{endpoint}/windows/{window['window_start']}/features?version={window['version']}"
        (spread,) = (await monitor.answer(path))["versions"]
        for place, column in enumerate(spread["features"]):
            _near(column, exact["features"][:, place])
        _near(spread["outputs"][0], exact["score"])


def _near(column: dict[str, Any], values: Any) -> None:
    """Check a column's counts exactly, and that each quantile's rank is within 1 %."""
    present = np.sort(values[~np.isnan(values)])
    assert (column["count"], column["missing"]) == (present.size, values.size - present.size)
    if not present.size:
        return
    assert (column["minimum"], column["maximum"]) == (present[0], present[-1])
    assert column["mean"] == pytest.approx(float(present.mean()), rel=1e-9, abs=1e-9)
    for share in RANKS:
        value = column["quantiles"][f"{share:g}"]
        low, high = np.searchsorted(present, value, "left"), np.searchsorted(present, value, "right")
        error = max(low / present.size - share, share - high / present.size, 0.0)
        assert error <= 0.01 + 1 / present.size, (column["name"], share, error)
