"""What must hold of everything that routers left in Kafka, whatever happened to them."""

from __future__ import annotations

import io
import zlib
from collections import Counter
from functools import cache
from typing import Any

import fastavro

from interlock.codec import rows
from interlock.codec.batches import digest
from interlock.schemas.events import Arm, BatchAnswered, DeadLetter, Observation, Route
from tests.simulation.kafka import Record
from tests.simulation.router_world import ENDPOINT, PARTITIONS, REQUESTS, RESULT_SCHEMA, World, settings

Found = tuple[Record, Any]


@cache
def _parsed() -> Any:
    return fastavro.parse_schema(RESULT_SCHEMA, named_schemas={})


def violations(world: World, complete: bool) -> list[str]:
    """Return what is wrong, each as `KIND: what`; the story is over, and nobody writes any more."""
    found = [f"BUG: {bug}" for bug in world.bugs]
    if not complete and not found:
        found.append("LOST: the group never passed the last request, or something stayed open")
    for partition in range(PARTITIONS):
        found += _of_partition(world, partition)
    return found


def visible(world: World, kind: str, partition: int) -> list[Record]:
    """Return the committed records of one of the endpoint's topics."""
    log = world.cluster.logs[(f"{ENDPOINT}.{kind}", partition)]
    return [record for record in log.records[: log.last_stable] if record.visible]


def _of_partition(world: World, partition: int) -> list[str]:
    try:
        results = [(record, _result(record)) for record in visible(world, "results", partition)]
    except (ValueError, EOFError, IndexError) as error:
        return [f"TORN: a result of partition {partition} cannot be read: {error}"]
    found = _once(world, partition, results)
    found += _order(results)
    for record, row in results:
        found += _attribution(world, record, row)
    found += _letters(world, partition, results)
    found += _stretches(world, partition, results)
    return found


def _result(record: Record) -> Any:
    assert record.value is not None
    stream = io.BytesIO(record.value[5:])
    row = fastavro.schemaless_reader(stream, _parsed(), None)
    if stream.tell() != len(record.value) - 5:
        raise ValueError("bytes are left over")
    return row


def _once(world: World, partition: int, results: list[Found]) -> list[str]:
    """Each request that its caller committed has one answer; the committed offset is behind the last of them."""
    asked = {offset: number for (topic, at, offset), number in world.asked.items() if at == partition}
    answers = Counter(row["offset"] for _, row in results)
    found = [f"DUPLICATE: {partition}/{offset} has {count} answers" for offset, count in answers.items() if count > 1]
    found += [
        f"LOST: {partition}/{offset} (r{asked[offset]}) has no answer" for offset in sorted(set(asked) - set(answers))
    ]
    found += [f"ABORTED: {partition}/{offset} was never committed" for offset in sorted(set(answers) - set(asked))]
    reached = world.cluster.offsets.get((settings().group, (REQUESTS, partition)), 0)
    ahead = [offset for offset in asked if offset < reached and offset not in answers]
    behind = [offset for offset in answers if offset >= reached]
    found += [f"OFFSET: {partition} stands at {reached}, but {offset} has no answer" for offset in ahead]
    found += [f"OFFSET: {partition} stands at {reached}, but {offset} was answered" for offset in behind]
    return found


def _order(results: list[Found]) -> list[str]:
    """Results of a partition have rising offsets, which is more than each key's order; epochs do not fall."""
    found, last, epoch = [], -1, 0
    for _, row in results:
        if row["offset"] < last:
            found.append(f"ORDER: {row['partition']}/{row['offset']} comes after {last}")
        if row["epoch"] < epoch:
            found.append(f"STALE: {row['partition']}/{row['offset']} by epoch {row['epoch']}, after epoch {epoch}")
        last, epoch = row["offset"], max(epoch, row["epoch"])
    return found


def _attribution(world: World, record: Record, row: Any) -> list[str]:
    """An answer bears the request's number and name, its version's score, and an arm of the route that it names."""
    where = f"{row['partition']}/{row['offset']}"
    number = world.asked.get((REQUESTS, row["partition"], row["offset"]))
    if row["rejection"] is not None or number is None:
        return []
    found = []
    if row["request_id"] != f"r{number}" or int(row["score"]) != number or record.key != f"k{number % 5}".encode():
        found.append(f"COORDINATES: {where} is r{number}, answered as {row['request_id']} with {row['score']}")
    if round(row["score"] % 1 * 1000) != row["version"]:
        found.append(f"ATTRIBUTION: {where} says version {row['version']}, its score is {row['score']}")
    assert record.key is not None
    arm = _arm(world.routes[row["epoch"]], record.key)
    if (arm.version, arm.arm, arm.digest) != (row["version"], row["arm"], row["digest"]):
        found.append(
            f"ATTRIBUTION: {where} by version {row['version']}, the route of {row['epoch']} says {arm.version}"
        )
    return found


def _arm(route: Route, key: bytes) -> Arm:
    """Return the arm whose share of the hash's 10,000 slots the key falls into."""
    slot = zlib.crc32(key, zlib.crc32(route.endpoint.encode())) % sum(arm.weight for arm in route.arms)
    for arm in route.arms:
        if slot < arm.weight:
            return arm
        slot -= arm.weight
    raise AssertionError("the weights sum up to the slots")


def _letters(world: World, partition: int, results: list[Found]) -> list[str]:
    """Each rejection has its dead letter, and the reverse."""
    letters: Counter[int] = Counter()
    for record in visible(world, "dead-letters", partition):
        letter = rows.decode(record.value or b"")
        assert isinstance(letter, DeadLetter)
        letters[letter.offset] += 1
    rejections = Counter(row["offset"] for _, row in results if row["rejection"] is not None)
    if letters == rejections:
        return []
    return [f"REJECTION: {partition} rejects {sorted(rejections.items())}, letters are {sorted(letters.items())}"]


def _stretches(world: World, partition: int, results: list[Found]) -> list[str]:
    """Batches and observations lie one behind the other without a gap, and each says what its results are."""
    found = []
    values: dict[int, bytes] = {row["offset"]: record.value or b"" for record, row in results}
    for kind in ("batches", "observations"):
        behind: int | None = None
        for record in visible(world, kind, partition):
            event = rows.decode(record.value or b"")
            assert isinstance(event, BatchAnswered | Observation)
            if behind is not None and event.from_offset != behind:
                found.append(
                    f"STRETCH: {kind} of {partition}: from {event.from_offset}, the one before ends at {behind}"
                )
            behind = event.next_offset
            if isinstance(event, BatchAnswered):
                mine = [values[offset] for offset in sorted(values) if event.from_offset <= offset < event.next_offset]
                if len(mine) != event.rows or digest(mine) != event.results_digest:
                    found.append(f"STRETCH: the batch {partition}/{event.from_offset} has other results than it says")
    return found
