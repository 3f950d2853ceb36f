"""Kafka as the bench sees it, by a client that no contender shares: topics, preloaded requests, committed results."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # they are there all the same
    AdminClient,
    NewTopic,
    OffsetSpec,
)

from interlock.ids import uuid7
from interlock.kafka.admin import ensure_topics
from interlock.schemas import endpoint_topics
from interlock.settings import PlatformSettings

ASK_SECONDS_MAX: Final = 20.0
CREATE_SECONDS_MAX: Final = 20.0
READ_SECONDS_MAX: Final = 120.0
LOOK_SECONDS: Final = 0.05
READ_ROWS: Final = 5_000
READ_WAIT_SECONDS: Final = 0.2
QUEUED_MAX: Final = 200_000

_LATEST: Final = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # the library's own
_NOT_YET: Final = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._NOENT,
)

Ends = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Read:
    """The committed records of a topic: of each its partition, its offset and its value."""

    partitions: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    values: list[bytes]


class Kafka:
    """One broker."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._admin = AdminClient({"bootstrap.servers": bootstrap})

    def create(self, names: Iterable[str], partitions: int) -> None:
        """Create topics and wait until each partition has a leader; one that is there is left as it is."""
        wanted = list(names)
        topics = [NewTopic(name, partitions, 1, config={"retention.ms": "-1"}) for name in wanted]
        for future in self._admin.create_topics(topics).values():
            try:
                future.result(CREATE_SECONDS_MAX)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
        for name in wanted:
            self.ends(name, partitions)

    def delete(self, names: Iterable[str]) -> None:
        """Delete topics, so that the disk does not fill up."""
        for future in self._admin.delete_topics(list(names), operation_timeout=ASK_SECONDS_MAX).values():
            future.result(ASK_SECONDS_MAX)

    def delete_known(self, names: Iterable[str]) -> None:
        """Delete those of the topics that are there, and wait until they are gone."""
        wanted = set(names)
        deadline = time.monotonic() + CREATE_SECONDS_MAX
        if known := wanted & set(self._admin.list_topics(timeout=ASK_SECONDS_MAX).topics):
            self.delete(known)
        while wanted & set(self._admin.list_topics(timeout=ASK_SECONDS_MAX).topics):
            assert time.monotonic() < deadline, f"still there: {wanted}"
            time.sleep(LOOK_SECONDS)

    def truncate(self, name: str, partitions: int) -> None:
        """Drop what is in a topic; offsets go on."""
        ends = self.ends(name, partitions)
        places = [TopicPartition(name, index, int(end)) for index, end in enumerate(ends) if end]
        for future in self._admin.delete_records(places).values() if places else ():
            future.result(ASK_SECONDS_MAX)

    def ends(self, name: str, partitions: int) -> Ends:
        """Return how far each partition can be read by a `read_committed` consumer; waits for a leader of each."""
        deadline = time.monotonic() + CREATE_SECONDS_MAX
        while True:
            try:
                return self._ends(name, partitions)
            except KafkaException as error:
                if error.args[0].code() not in _NOT_YET or time.monotonic() > deadline:
                    raise
            # Without this the client goes on with what it knew.
            self._admin.list_topics(name, timeout=ASK_SECONDS_MAX)
            time.sleep(LOOK_SECONDS)

    def _ends(self, name: str, partitions: int) -> Ends:
        asked = {TopicPartition(name, index): _LATEST for index in range(partitions)}
        answers = self._admin.list_offsets(
            asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=ASK_SECONDS_MAX
        )
        ends = np.zeros(partitions, dtype=np.int64)
        for place, future in answers.items():
            ends[place.partition] = future.result(ASK_SECONDS_MAX).offset
        return ends

    def committed(self, consumer: Consumer, name: str, partitions: int) -> int:
        """Return the sum of the offsets that a consumer's group has committed."""
        places = consumer.committed([TopicPartition(name, index) for index in range(partitions)], ASK_SECONDS_MAX)
        return sum(max(0, place.offset) for place in places)

    def produce(self, topic: str, values: Iterable[bytes], keys: Sequence[bytes], headers: Any = None) -> None:
        """Write requests as fast as it goes; return when all are acknowledged."""
        producer = self.producer()
        for key, value in zip(keys, values, strict=False):
            while True:
                try:
                    producer.produce(topic, value=value, key=key, headers=headers)
                    break
                except BufferError:
                    producer.poll(0.1)
        assert producer.flush(READ_SECONDS_MAX) == 0

    def producer(self, **changes: Any) -> Producer:
        """Return a producer of requests."""
        return Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "linger.ms": 5,
                "enable.idempotence": True,
                "queue.buffering.max.messages": QUEUED_MAX,
            }
            | changes
        )

    def consumer(self, **changes: Any) -> Consumer:
        """Return a `read_committed` consumer that belongs to nobody."""
        return Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": uuid7(),
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "enable.partition.eof": False,
                "fetch.wait.max.ms": 10,
            }
            | changes
        )

    def read(self, name: str, begins: Ends, ends: Ends) -> Read:
        """Read what was committed between two moments."""
        consumer = self.consumer(**{"enable.partition.eof": True})
        consumer.assign([TopicPartition(name, index, int(begin)) for index, begin in enumerate(begins)])
        partitions: list[int] = []
        offsets: list[int] = []
        values: list[bytes] = []
        unread = {index for index, end in enumerate(ends) if end > begins[index]}
        deadline = time.monotonic() + READ_SECONDS_MAX
        while unread and time.monotonic() < deadline:
            for record in take(consumer, READ_ROWS, READ_WAIT_SECONDS):
                error = record.error()
                if error is None:
                    partitions.append(record.partition() or 0)
                    offsets.append(record.offset() or 0)
                    values.append(record.value() or b"")
                elif error.code() == KafkaError._PARTITION_EOF:
                    unread.discard(record.partition())
                else:
                    raise KafkaException(error)
        consumer.close()
        assert not unread, f"{name}: read {len(values)} only"
        return Read(np.array(partitions, dtype=np.int64), np.array(offsets, dtype=np.int64), values)


def take(consumer: Consumer, rows_max: int, seconds: float) -> list[Message]:
    """Return what there is as soon as there is anything; the library's own `consume` waits until all asked for came."""
    first = consumer.poll(seconds)
    return [] if first is None else [first, *consumer.consume(rows_max - 1, 0)]


def endpoint(bootstrap: str, name: str, partitions: int) -> None:
    """Create the topics of an endpoint as the deployer does."""
    settings = PlatformSettings(kafka_bootstrap_servers=bootstrap)
    asyncio.run(ensure_topics(settings, endpoint_topics(name, partitions)))
