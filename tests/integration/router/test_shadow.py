"""Shadows on a real Kafka: asked what the champion was asked, in nobody's way, and the first to be left out."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from typing import Any

import fastavro
import numpy as np
import pytest
from prometheus_client import REGISTRY

from interlock.codec.framing import HEADER_BYTES, frame
from interlock.errors import InterlockError, Transient
from interlock.serving.failures import ModelDied, ModelRaised
from interlock.signature import Matrix
from tests.integration.control.conftest import until
from tests.integration.router.rig import (
    REQUEST_SCHEMA_ID,
    Rig,
    RunningRouter,
    exactly_once,
    sums,
    version_digest,
)

LONE = 12
BACKLOG = 4_000
BATCH_ROWS = 100


def copied(rig: Rig, outcome: str, version: int = 2) -> int:
    """Return how many requests were copied to a shadow with this outcome."""
    labels = {"endpoint": rig.endpoint, "version": str(version), "outcome": outcome}
    return int(REGISTRY.get_sample_value("interlock_shadow_rows_total", labels) or 0)


async def one_by_one(rig: Rig, count: int, done: Callable[[], int]) -> None:
    """Send requests, each when the one before was copied."""
    for number in range(count):
        before = done()
        rig.produce([rig.value(number)])
        await until(lambda before=before: done() == before + 1)  # type: ignore[misc]  # the loop's own value


async def shadowed(rig: Rig, count: int) -> list[dict[str, Any]]:
    """Read and decode what shadows answered."""
    schema = fastavro.parse_schema(rig.result_schema)
    records = await asyncio.to_thread(rig.read, "shadow", count)
    rows: list[Any] = [fastavro.schemaless_reader(io.BytesIO(each.value()[5:]), schema, None) for each in records]
    return [row | {"_key": each.key(), "_partition": each.partition()} for row, each in zip(rows, records, strict=True)]


async def test_a_shadow_is_asked_what_the_champion_is_and_answers_nobody(rig: Rig) -> None:
    """Its answers lie in the shadow topic, in the form of results, under their requests' keys and coordinates."""
    rig.serving.add("m", 1)
    rig.serving.add("m", 2)
    rig.route((1, 10_000), (2, 0))
    async with RunningRouter(rig):
        await one_by_one(rig, LONE, lambda: copied(rig, "answered"))
        results = await rig.results(LONE)
        shadows = await shadowed(rig, LONE)
    exactly_once(results, LONE)
    exactly_once([row | {"_offset": None} for row in shadows], LONE)
    assert {row["version"] for row in results} == {1}
    answered = {row["request_id"]: row for row in results}
    for row in shadows:
        champion, number = answered[row["request_id"]], int(row["request_id"][1:])
        assert (row["version"], row["arm"], row["digest"], row["epoch"]) == (2, "arm1", version_digest(2), 1)
        assert row["score"] == number + 0.002
        assert [row[name] for name in ("_key", "partition", "offset", "requested_at")] == [
            champion[name] for name in ("_key", "partition", "offset", "requested_at")
        ]


async def test_of_a_mixed_batch_a_shadow_is_asked_what_can_be_read(
    rig: Rig, registry: tuple[str, dict[int, Any]]
) -> None:
    """Requests of two schemas and one that is broken, in one batch: each good one has its own answer and key."""
    other = 1_031
    registry[1][other] = registry[1][REQUEST_SCHEMA_ID]
    values = [rig.value(number) for number in range(LONE)]
    values = [frame(other, value[HEADER_BYTES:]) if number % 3 else value for number, value in enumerate(values)]
    rig.serving.add("m", 1)
    rig.serving.add("m", 2)
    rig.route((1, 10_000), (2, 0))
    rig.produce([values[0], b"broken", *values[1:]], keys=lambda _: "k")
    async with RunningRouter(rig):
        await until(lambda: copied(rig, "answered") == LONE)
        shadows = await shadowed(rig, LONE)
    assert [(row["request_id"], row["score"]) for row in shadows] == [
        (f"r{each}", each + 0.002) for each in range(LONE)
    ]
    assert [row["request_schema_id"] for row in shadows] == [
        other if each % 3 else REQUEST_SCHEMA_ID for each in range(LONE)
    ]
    assert copied(rig, "failed") == 1


async def test_with_a_backlog_shadows_are_shed_and_nobody_else(rig: Rig) -> None:
    """However quick a shadow is, it is asked only what comes when a lane is no longer behind."""
    rig.serving.add("m", 1)
    rig.serving.add("m", 2)
    rig.route((1, 10_000), (2, 0))
    rig.produce([rig.value(number) for number in range(BACKLOG)])
    async with RunningRouter(rig, batch_rows_max=BATCH_ROWS):
        exactly_once(await rig.results(BACKLOG), BACKLOG)
        await until(lambda: copied(rig, "answered") + copied(rig, "shed") == BACKLOG)
    assert copied(rig, "answered") <= 2 * BATCH_ROWS * rig.partitions, "a lane is behind while a whole batch waits"


async def test_a_shadow_that_stands_still_holds_nobody_up(rig: Rig) -> None:
    """It costs it its own copies, of which one is at work; all requests are answered meanwhile."""
    rig.serving.add("m", 1)
    let_go = asyncio.Event()

    async def slow(matrix: Matrix) -> Matrix:
        await let_go.wait()
        return await sums(matrix, 2)

    rig.serving.add("m", 2, slow)
    rig.route((1, 10_000), (2, 0))
    async with RunningRouter(rig, batch_rows_max=BATCH_ROWS):
        rig.produce([rig.value(number) for number in range(BACKLOG)])
        results = await rig.results(BACKLOG)
        exactly_once(results, BACKLOG)
        assert {row["version"] for row in results} == {1}
        asked = sum(rows for name, rows in rig.serving.calls if "--v2--" in name)
        assert copied(rig, "shed") == BACKLOG - asked
        assert asked <= BATCH_ROWS * rig.partitions, "a lane has one copy at work"
        let_go.set()
        await until(lambda: copied(rig, "answered") == asked)
        await one_by_one(rig, LONE, lambda: copied(rig, "answered"))  # there is time to spare again


FAILURES: dict[str, Callable[[], InterlockError]] = {
    "away": lambda: Transient("no replica"),
    "died": lambda: ModelDied("a replica died"),
    "raised": lambda: ModelRaised("ValueError"),
}


def failing(failure: str) -> Callable[[Matrix], Awaitable[Matrix]]:
    """Return the behaviour of a version that fails so."""

    async def behave(matrix: Matrix) -> Matrix:
        if failure == "shape":
            return np.zeros((len(matrix), 7))
        if failure == "not finite":
            return np.full((len(matrix), 1), np.nan)
        raised = FAILURES[failure]()
        raise raised

    return behave


@pytest.mark.parametrize("failure", [*FAILURES, "shape", "not finite"])
async def test_a_shadow_that_fails_is_nobodys_trouble_and_is_asked_again(rig: Rig, failure: str) -> None:
    """No search for the rows at fault, no dead letter, no wait; when it is well it answers."""
    rig.serving.add("m", 1)
    name = rig.serving.add("m", 2, failing(failure))
    rig.route((1, 10_000), (2, 0))
    async with RunningRouter(rig):
        await one_by_one(rig, LONE, lambda: copied(rig, "failed"))
        assert sum(1 for called, _ in rig.serving.calls if called == name) == LONE
        rig.serving.add("m", 2)
        rig.produce([rig.value(LONE)])
        await until(lambda: copied(rig, "answered") == 1)
        exactly_once(await rig.results(LONE + 1), LONE + 1)
        assert len(await shadowed(rig, 1)) == 1
        assert not await rig.letters(0)
