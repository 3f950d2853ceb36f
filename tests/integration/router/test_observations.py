"""What the lane reports is what it committed: no offset twice, none missing, every number as in the results."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from itertools import chain
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Producer

from interlock.clock import milliseconds
from interlock.codec.batches import digest
from interlock.codec.observations import columns
from interlock.codec.rows import decode
from interlock.kafka.admin import ensure_topics
from interlock.kafka.headers import parse
from interlock.schemas import endpoint_topics
from interlock.schemas.events import BatchAnswered, Observation
from tests.integration.router.rig import FEATURES, Rig, RunningRouter, exactly_once, version_digest
from tests.integration.router.test_faults import STEPS, Interrupted

REQUESTS = 20_000
TAKEN_MAX = 700
STRETCH = 40


def _requests(rig: Rig) -> list[bytes | None]:
    """Return requests of which some are nothing, some broken, some written by a clock that is hours ahead."""
    values: list[bytes | None] = [rig.value(number) for number in range(REQUESTS)]
    for number in range(13, REQUESTS, 601):
        values[number] = None
    for number in range(29, REQUESTS, 701):
        values[number] = values[number][:-3]  # type: ignore[index]  # these are none of the missing
    for number in range(5, REQUESTS, 997):
        values[number] = rig.value(number, maybe=number / 7)
    return values


def _write(rig: Rig, values: list[bytes | None]) -> None:
    """Write the requests, and between them what no lane may see: requests of a transaction that is aborted."""
    aborting = Producer({"bootstrap.servers": rig.settings.kafka_bootstrap_servers, "transactional.id": rig.endpoint})
    aborting.init_transactions(30)
    aborting.begin_transaction()
    for start in range(0, REQUESTS, STRETCH):
        rig.produce(values[start : start + STRETCH], lambda index, start=start: f"k{(start + index) % 50}")  # type: ignore[misc]  # bound now
        for partition in range(rig.partitions):
            aborting.produce(rig.topic("requests"), key="never", value=rig.value(-1), partition=partition)
        aborting.flush(30)
    aborting.abort_transaction(30)


async def _answered_with_interruptions(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer everything: by routers that are stopped in the middle, cut off at every step, moved to another route."""
    monkeypatch.setattr("interlock_router.lane.PartitionTransactions", Interrupted)
    Interrupted.left = 0
    for number, step in enumerate(STEPS):
        rig.route((1, 5000), (2, 3000), (3, 2000)) if number % 2 else rig.route((2, 9000), (3, 1000))
        before = len(rig.serving.calls)
        async with RunningRouter(rig, batch_rows_max=TAKEN_MAX, batch_bytes_max=9000, batch_interval_seconds=0.0):
            async with asyncio.timeout(30):
                while len(rig.serving.calls) < before + 20:
                    await asyncio.sleep(0.01)
            Interrupted.step, Interrupted.left = step, 2
            async with asyncio.timeout(30):
                while Interrupted.left or len(rig.serving.calls) < before + 40:
                    await asyncio.sleep(0.01)
    rig.route((3, 10_000))


async def test_observations_and_batches_say_exactly_what_was_committed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through restarts, cut transactions and pieces of polls: offsets covered once, rows and roots as in the topics."""
    for version in (1, 2, 3):
        rig.serving.add("m", version)
    await asyncio.to_thread(_write, rig, _requests(rig))
    await _answered_with_interruptions(rig, monkeypatch)
    async with RunningRouter(rig):
        results = await rig.results(REQUESTS, 120)
        raw = await asyncio.to_thread(rig.read, "results", REQUESTS)
    requests = await asyncio.to_thread(rig.read, "requests", REQUESTS)
    observations = await asyncio.to_thread(rig.read, "observations", 100_000, 5.0)
    batches = await asyncio.to_thread(rig.read, "batches", 100_000, 5.0)
    assert len({(row["partition"], row["offset"]) for row in results}) == len(results) == REQUESTS
    assert len({row["version"] for row in results}) == 4  # three versions, and none where none was asked
    rows = {(row["_partition"], row["offset"]): row for row in results}
    sent = {(record.partition(), record.offset()): record.value() for record in requests}
    values_read = {(record.partition(), record.offset()): record.value() for record in raw}
    written = {key: values_read[row["_partition"], row["_offset"]] for key, row in rows.items()}
    _check_coverage(observations, rows)
    _check_rows([decode(record.value()) for record in observations], rows, rig)
    _check_coverage(batches, rows)
    _check_roots([decode(record.value()) for record in batches], written, sent, rows)
    _check_envelopes(observations, batches)


def _check_coverage(records: list[Any], rows: dict[tuple[int, int], Any]) -> None:
    """Each partition is covered from its first request to behind its last, without a gap and without overlap."""
    ends: dict[int, int] = {}
    counted: Counter[int] = Counter()
    for record in records:
        event = decode(record.value())
        assert event.partition == record.partition()
        assert event.from_offset == ends.get(event.partition, 0)
        assert event.next_offset > event.from_offset
        ends[event.partition] = event.next_offset
        counted[event.partition] += event.rows
    for partition, end in ends.items():
        offsets = [offset for place, offset in rows if place == partition]
        assert counted[partition] == len(offsets)
        assert end > max(offsets)


def _check_rows(observations: list[Observation], rows: dict[tuple[int, int], Any], rig: Rig) -> None:
    seen: set[tuple[int, int]] = set()
    rejected: Counter[tuple[Any, ...]] = Counter()
    times: dict[str, list[int]] = defaultdict(list)
    for event in observations:
        for group in event.groups:
            found = columns(group)
            assert found.features is not None
            for place in range(group.rows):
                key = (event.partition, event.from_offset + int(found.offsets[place]))
                assert key not in seen
                seen.add(key)
                row = rows[key]
                assert (group.arm, group.model, group.version, group.digest, event.epoch, milliseconds(event.at)) == (
                    *(row[name] for name in ("arm", "model", "version", "digest", "epoch")),
                    milliseconds(row["scored_at"]),
                )
                assert found.request_ids[place] == row["request_id"]
                assert found.requested_at[place] == milliseconds(row["requested_at"])
                assert found.outputs[place].tolist() == [row["score"]]
                number = int(row["request_id"][1:])
                maybe = number / 7 if number % 997 == 5 else np.nan
                expected = [number * (index == 0) + index / 10 for index in range(FEATURES)]
                np.testing.assert_array_equal(found.features[:, place], [*expected, maybe])
            assert group.digest == version_digest(group.version)
        for each in event.rejected:
            rejected[each.reason, each.arm, each.version] += each.rows
            times[each.reason] += np.frombuffer(each.requested_at, "<i8").tolist()
    assert seen == {key for key, row in rows.items() if row["rejection"] is None}
    without = [row for row in rows.values() if row["rejection"] is not None]
    assert rejected == Counter((row["rejection"], row["arm"], row["version"]) for row in without)
    assert sorted(chain.from_iterable(times.values())) == sorted(milliseconds(row["requested_at"]) for row in without)
    assert len(without) > 50


def _check_roots(
    batches: list[BatchAnswered],
    written: dict[tuple[int, int], bytes],
    sent: dict[tuple[int, int], bytes | None],
    rows: dict[tuple[int, int], Any],
) -> None:
    """Roots and counts follow from the topics alone."""
    for event in batches:
        keys = sorted(
            key for key in written if key[0] == event.partition and event.from_offset <= key[1] < event.next_offset
        )
        assert len(keys) == event.rows
        assert keys[0][1] == event.first_offset
        assert event.results_digest == digest([written[key] for key in keys])
        assert event.requests_digest == digest([sent[key] for key in keys])
        assert event.rejected == sum(rows[key]["rejection"] is not None for key in keys)
        told = {(each.arm, each.model, each.version, each.digest): each.rows for each in event.versions}
        assert told == Counter(
            tuple(rows[key][name] for name in ("arm", "model", "version", "digest"))
            for key in keys
            if rows[key]["rejection"] is None
        )


def _check_envelopes(observations: list[Any], batches: list[Any]) -> None:
    """Every committed event has an id that no other one has, made of where it begins."""
    for records, kind in ((observations, Observation), (batches, BatchAnswered)):
        ids = [parse(record.headers()).id for record in records]
        assert len(set(ids)) == len(ids)
        for record, name in zip(records, ids, strict=True):
            event = decode(record.value())
            assert name == f"{kind.__name__}/{event.topic}/{event.partition}/{event.from_offset}"
            assert parse(record.headers()).type == kind.TYPE
            assert record.key() == event.endpoint.encode()


async def test_a_wide_batch_is_told_in_sketches_or_in_stretches(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound of columns there are sketches; where a record would be too large, several observations."""
    rig.serving.add("m", 1)
    rig.route((1, 10_000))
    rig.produce([rig.value(number) for number in range(500)], lambda _: "one key")
    async with RunningRouter(rig, observation_columns_bytes_max=1000):
        exactly_once(await rig.results(500), 500)
        first = [decode(record.value()) for record in rig.read("observations", 1)]
        assert sum(group.rows for each in first for group in each.groups) == 500
        assert any(group.sketches for each in first for group in each.groups)
    monkeypatch.setattr("interlock_router.observe.OBSERVATION_BYTES_MAX", 10_000)
    rig.produce([rig.value(number) for number in range(500, 1000)], lambda _: "one key")
    async with RunningRouter(rig):
        exactly_once(await rig.results(1000), 1000)
    both = [decode(record.value()) for record in rig.read("observations", 10_000, 2.0)][len(first) :]
    batches = [decode(record.value()) for record in rig.read("batches", 10_000, 2.0)]
    assert len(both) > len(batches)
    assert [each.from_offset for each in both[1:]] == [each.next_offset for each in both[:-1]]
    assert sum(each.rows for each in both) == 500


async def test_an_endpoint_from_before_waits_until_its_new_topics_are_made(
    rig: Rig, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without its topics a lane answers nothing and names the one that is missing; once it is made, it goes on."""
    old = Rig(rig.settings)
    topics = endpoint_topics(old.endpoint, old.partitions)
    await ensure_topics(
        old.settings, [each for each in topics if not each.name.endswith((".observations", ".batches"))]
    )
    old.serving.add("m", 1)
    old.route((1, 10_000))
    old.produce([old.value(number) for number in range(20)])
    async with RunningRouter(old):
        said = ""
        async with asyncio.timeout(20):
            while f"{old.endpoint}.observations has no partition" not in said:
                said += "".join(capfd.readouterr())
                await asyncio.sleep(0.05)
        assert not old.serving.calls
        await ensure_topics(old.settings, topics)
        exactly_once(await old.results(20), 20)
