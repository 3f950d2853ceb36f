"""Reading a history from Kafka by a plain client."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Self

import numpy as np
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from tests.rig.history import Commit, History, Published, Schemas, Sent
from tests.rig.history_rows import Rows, offset_of

OFFSETS_TOPIC: Final = "__consumer_offsets"
COMMITTED, UNCOMMITTED = "read_committed", "read_uncommitted"
OUTPUTS: Final = ("results", "dead-letters", "observations", "batches")
ASK_SECONDS_MAX: Final = 10.0
SETTLE_SECONDS_MAX: Final = 20.0
LOOK_SECONDS: Final = 0.05
POLL_ROWS_MAX: Final = 5_000
POLL_SECONDS: Final = 0.02
_UNSTABLE: Final = (KafkaError._TIMED_OUT, KafkaError.UNSTABLE_OFFSET_COMMIT)


def gather(
    bootstrap: str,
    endpoint: str,
    group: str,
    schemas: Schemas,
    sent: Sequence[Sent] = (),
    *,
    seconds_max: float = 60.0,
    number: str = "f0",
) -> History:
    """Wait until the group has passed every committed request, or for `seconds_max`, then read everything.

    `number` names the request's field that scores are made of. What a transaction that is still open hides is
    waited for, but no longer than SETTLE_SECONDS_MAX. Raises KafkaException where Kafka is away.
    """
    history = History(endpoint, group, sent)
    rows = Rows(schemas, history.unreadable)
    with Reading(bootstrap, group) as reading:
        deadline = time.monotonic() + seconds_max
        topic = f"{endpoint}.requests"
        for partition in reading.partitions(topic):
            taken = reading.records(topic, partition, COMMITTED)
            history.requests += [rows.request(each, number) for each in taken]
            there = {offset_of(each) for each in taken}
            history.aborted |= {
                (partition, offset_of(each))
                for each in reading.records(topic, partition, UNCOMMITTED)
                if offset_of(each) not in there
            }
        ends: dict[int, int] = dict.fromkeys(reading.partitions(topic), 0)
        ends |= {each.partition: each.offset + 1 for each in history.requests}
        history.committed = reading.wait_for(topic, ends, deadline)
        for name in OUTPUTS:
            reading.settle(f"{endpoint}.{name}", time.monotonic() + min(seconds_max, SETTLE_SECONDS_MAX))
            _take(reading, rows, history, name)
        reading.commits(history, time.monotonic() + min(seconds_max, SETTLE_SECONDS_MAX))
    return history


def stands(bootstrap: str, endpoint: str, group: str) -> dict[int, int]:
    """Return where the group stands in each partition of the endpoint's requests now; 0 where nowhere."""
    topic = f"{endpoint}.requests"
    with Reading(bootstrap, group) as reading:
        return reading.wait_for(topic, dict.fromkeys(reading.partitions(topic), 0), 0.0)


def wait_for_all(
    bootstrap: str,
    endpoint: str,
    group: str,
    seconds_max: float,
    still_seconds_max: float = float("inf"),
    given_up: Callable[[], bool] = lambda: False,
) -> bool:
    """Wait until the group has passed every committed request, and say if it has.

    Waits for `seconds_max`, until `given_up`, or until the group has stood still for `still_seconds_max` behind its
    first step.
    """
    topic, deadline = f"{endpoint}.requests", time.monotonic() + seconds_max
    before: dict[int, int] = {}
    moved_at = float("inf")
    with Reading(bootstrap, group) as reading:
        ends = dict.fromkeys(reading.partitions(topic), 0)
        for partition in ends:
            taken = reading.records(topic, partition, COMMITTED)
            ends[partition] = max((offset_of(each) + 1 for each in taken), default=0)
        while True:
            found = reading.wait_for(topic, ends, 0.0)
            passed = all(found[each] >= end for each, end in ends.items())
            if found != before and any(found.values()):
                before, moved_at = found, time.monotonic()
            still = time.monotonic() - moved_at > still_seconds_max
            if passed or given_up() or still or time.monotonic() >= deadline:
                return passed
            time.sleep(LOOK_SECONDS)


def end_of(bootstrap: str, topic: str, partition: int) -> int:
    """Return the offset behind everything in a partition, open transactions included."""
    with Reading(bootstrap, "rig-ends") as reading:
        return reading.end(topic, partition)


def published(bootstrap: str, topics: Sequence[str], *, seconds_max: float = 30.0) -> list[Published]:
    """Return every committed event of the topics, of each partition in its order."""
    found = []
    with Reading(bootstrap, "rig-events") as reading:
        for topic in topics:
            reading.settle(topic, time.monotonic() + seconds_max)
            for partition in reading.partitions(topic):
                for each in reading.records(topic, partition, COMMITTED):
                    headers: dict[str, Any] = dict(each.headers() or [])
                    named = (headers.get("ce_id") or b"").decode()
                    key, value = (each.key() or b"").decode(), each.value() or b""
                    found.append(Published(topic, partition, offset_of(each), key, named, value))
    return found


def _take(reading: Reading, rows: Rows, history: History, name: str) -> None:
    """Read one of the topics that lanes write to."""
    topic = f"{history.endpoint}.{name}"
    read: Any = {
        "results": (history.results, rows.result),
        "dead-letters": (history.letters, rows.letter),
        "observations": (history.observed, rows.observed),
        "batches": (history.digested, rows.digested),
    }[name]
    into, convert = read
    for partition in reading.partitions(topic):
        into += [found for each in reading.records(topic, partition, COMMITTED) if (found := convert(each)) is not None]
        offsets = [offset_of(each) for each in reading.records(topic, partition, UNCOMMITTED)]
        history.positions[name, partition] = np.array(offsets, dtype=np.int64)
        history.ends[name, partition] = reading.end(topic, partition)


class Reading:
    """Two plain consumers, one for each isolation; a context manager."""

    def __init__(self, bootstrap: str, group: str) -> None:
        self._consumers = {each: _consumer(bootstrap, group, each) for each in (COMMITTED, UNCOMMITTED)}
        self._group = group

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        for each in self._consumers.values():
            each.close()

    def partitions(self, topic: str) -> list[int]:
        """Return the numbers of a topic's partitions, none where there is no such topic."""
        found = self._consumers[COMMITTED].list_topics(topic, timeout=ASK_SECONDS_MAX).topics[topic]
        return sorted(found.partitions) if found.error is None else []

    def records(self, topic: str, partition: int, isolation: str) -> list[Message]:
        """Return every record of a partition that a reader of that isolation sees."""
        consumer, found = self._consumers[isolation], []
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING)])
        deadline = time.monotonic() + SETTLE_SECONDS_MAX
        while time.monotonic() < deadline:
            for message in consumer.consume(POLL_ROWS_MAX, POLL_SECONDS):
                error = message.error()
                if error is None:
                    deadline = time.monotonic() + SETTLE_SECONDS_MAX
                    found.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    consumer.unassign()
                    return found
                elif not error.retriable() and error.code() != KafkaError._TRANSPORT:
                    raise KafkaException(error)
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"no end of {topic}/{partition}"))

    def wait_for(self, topic: str, ends: dict[int, int], deadline: float) -> dict[int, int]:
        """Return where the group stands, once it has passed the ends or the time is over; 0 where nowhere."""
        places = [TopicPartition(topic, each) for each in ends]
        stands = dict.fromkeys(ends, 0)
        while True:
            try:
                found = self._consumers[COMMITTED].committed(places, ASK_SECONDS_MAX)
                stands = {each.partition: max(each.offset, 0) for each in found}
            except KafkaException as error:
                if error.args[0].code() not in _UNSTABLE and not error.args[0].retriable():
                    raise
            if all(stands[each] >= end for each, end in ends.items()) or time.monotonic() >= deadline:
                return stands
            time.sleep(LOOK_SECONDS)

    def settle(self, topic: str, deadline: float) -> None:
        """Wait until no transaction of the topic is open, or until the deadline."""
        for partition in self.partitions(topic):
            place = TopicPartition(topic, partition)
            while time.monotonic() < deadline:
                stable, end = (
                    each.get_watermark_offsets(place, timeout=ASK_SECONDS_MAX)[1] for each in self._consumers.values()
                )
                if stable >= end:
                    break
                time.sleep(LOOK_SECONDS)

    def commits(self, history: History, deadline: float) -> None:
        """Read the group's commits from where its coordinator keeps them, until the last of each partition is there."""
        place = java_hash(self._group) % len(self.partitions(OFFSETS_TOPIC))
        wanted = {partition: offset for partition, offset in history.committed.items() if offset}
        while True:
            history.commits = list(self._commits_in(self.records(OFFSETS_TOPIC, place, COMMITTED), history.endpoint))
            if {each.partition: each.offset for each in history.commits} == wanted or time.monotonic() >= deadline:
                break
            time.sleep(LOOK_SECONDS)
        if history.commits:
            first = history.commits[0].position
            every = [offset_of(each) for each in self.records(OFFSETS_TOPIC, place, UNCOMMITTED)]
            behind = [each for each in every if each >= first]
            history.markers = self.end(OFFSETS_TOPIC, place) - first - len(behind)

    def end(self, topic: str, partition: int) -> int:
        """Return the offset behind everything in a partition."""
        place = TopicPartition(topic, partition)
        return int(self._consumers[UNCOMMITTED].get_watermark_offsets(place, timeout=ASK_SECONDS_MAX)[1])

    def _commits_in(self, records: Sequence[Message], endpoint: str) -> Iterator[Commit]:
        """Yield the group's commits about the endpoint's requests.

        Source: OffsetCommitKey versions 0 and 1 (group, topic, partition); every OffsetCommitValue begins with its
        version and the offset.
        """
        name = self._group.encode()
        topic = f"{endpoint}.requests".encode()
        head = struct.pack(">h", len(name)) + name + struct.pack(">h", len(topic)) + topic
        for record in records:
            key, value = record.key() or b"", record.value()
            if key[:2] in (b"\0\0", b"\0\1") and key[2 : 2 + len(head)] == head and value is not None:
                (partition,) = struct.unpack_from(">i", key, 2 + len(head))
                (offset,) = struct.unpack_from(">q", value, 2)
                yield Commit(offset_of(record), partition, offset)


def java_hash(text: str) -> int:
    """Return String.hashCode made positive: Kafka chooses the partition of a group's coordinator by it."""
    number = 0
    for unit in np.frombuffer(text.encode("utf-16-be"), dtype=">u2").tolist():
        number = (31 * number + unit) & 0xFFFFFFFF
    signed = number - 2**32 if number >= 2**31 else number
    return 0 if signed == -(2**31) else abs(signed)


def _consumer(bootstrap: str, group: str, isolation: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,  # only to ask where it stands: nothing subscribes or commits
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": isolation,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 20,
            "fetch.message.max.bytes": 2**24,
            "log_level": 0,
        }
    )
