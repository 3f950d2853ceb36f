"""Kafka's frames as a proxy must know them: where one ends, what it asks for, whom it answers.

The layouts are those of `common/message/*.json` in the kafka-clients jar (4.4).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

FRAME_BYTES_MAX: Final = 128 * 1024 * 1024
"""A longer frame is no Kafka frame: the stream is out of step, or speaks TLS."""


class FrameError(Exception):
    """Bytes that are not what Kafka's protocol lays down, or a version newer than this module knows."""


class Api(IntEnum):
    """Kafka's requests by their keys; `named` knows them as Kafka spells them (`EndTxn`)."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    DESCRIBE_GROUPS = 15
    LIST_GROUPS = 16
    SASL_HANDSHAKE = 17
    API_VERSIONS = 18
    CREATE_TOPICS = 19
    DELETE_TOPICS = 20
    DELETE_RECORDS = 21
    INIT_PRODUCER_ID = 22
    OFFSET_FOR_LEADER_EPOCH = 23
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    WRITE_TXN_MARKERS = 27
    TXN_OFFSET_COMMIT = 28
    DESCRIBE_CONFIGS = 32
    SASL_AUTHENTICATE = 36
    CREATE_PARTITIONS = 37
    DELETE_GROUPS = 42
    INCREMENTAL_ALTER_CONFIGS = 44
    DESCRIBE_CLUSTER = 60
    DESCRIBE_PRODUCERS = 61
    DESCRIBE_TRANSACTIONS = 65
    LIST_TRANSACTIONS = 66
    CONSUMER_GROUP_HEARTBEAT = 68
    CONSUMER_GROUP_DESCRIBE = 69
    GET_TELEMETRY_SUBSCRIPTIONS = 71
    PUSH_TELEMETRY = 72
    DESCRIBE_TOPIC_PARTITIONS = 75

    @property
    def label(self) -> str:
        """The name as Kafka spells it."""
        return self.name.title().replace("_", "")

    @classmethod
    def named(cls, name: str | int) -> Api:
        """Return the request of a name ("EndTxn", "end_txn") or key; raises ValueError where there is none."""
        if isinstance(name, int):
            return cls(name)
        plain = name.replace("_", "").lower()
        for each in cls:
            if each.label.lower() == plain:
                return each
        raise ValueError(f"no request of Kafka's is called {name}")


def label_of(key: int) -> str:
    """Return how a request is called; one that `Api` lacks is called by its key."""
    try:
        return Api(key).label
    except ValueError:
        return f"Api{key}"


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request; `transactional_id` where the request names one."""

    api: int
    version: int
    correlation_id: int
    client_id: str | None
    transactional_id: str | None = None
    acks: int | None = None
    """Whose acknowledgement a produce asks for: -1 is all, and to 0 there is no answer."""

    @property
    def is_answered(self) -> bool:
        """Whether a broker answers it."""
        return self.acks != 0


class Splitter:
    """Cuts a stream of bytes into frames, however the bytes come; a frame is given without its length."""

    def __init__(self, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._buffer = bytearray()

    @property
    def pending_bytes(self) -> int:
        """How many bytes of a frame that has not ended are kept."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take bytes and yield each frame that they complete; raises FrameError for a length that cannot be.

        The iterator must be exhausted before more is fed.
        """
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= 4:
            length = int.from_bytes(buffer[start : start + 4], "big", signed=True)
            if not 0 <= length <= self._frame_bytes_max:
                raise FrameError(f"a frame of {length} bytes")
            if len(buffer) - start - 4 < length:
                break
            yield bytes(buffer[start + 4 : start + 4 + length])
            start += 4 + length
        del buffer[:start]


def framed(content: bytes) -> bytes:
    """Return a frame with its length before it."""
    return len(content).to_bytes(4, "big") + content


FLEXIBLE_SINCE: Final = {
    Api.PRODUCE: 9,
    Api.FETCH: 12,
    Api.METADATA: 9,
    Api.FIND_COORDINATOR: 3,
    Api.INIT_PRODUCER_ID: 2,
    Api.ADD_PARTITIONS_TO_TXN: 3,
    Api.ADD_OFFSETS_TO_TXN: 3,
    Api.END_TXN: 3,
    Api.TXN_OFFSET_COMMIT: 3,
    Api.DESCRIBE_CLUSTER: 0,
}
_NAMES_TRANSACTION: Final = {
    Api.PRODUCE,
    Api.INIT_PRODUCER_ID,
    Api.ADD_PARTITIONS_TO_TXN,
    Api.ADD_OFFSETS_TO_TXN,
    Api.END_TXN,
    Api.TXN_OFFSET_COMMIT,
}
_HEAD: Final = struct.Struct(">hhi")
_BATCHED_ADD_PARTITIONS: Final = 4
"""The version since when several transactions stand in one AddPartitionsToTxn; the first one's id counts."""


def request_of(frame: bytes) -> Request:
    """Read the head of a request; raises FrameError."""
    try:
        api, version, correlation_id = _HEAD.unpack_from(frame)
        reader = Reader(frame, _HEAD.size, is_flexible=False)
        client_id = reader.text()
        if api not in _NAMES_TRANSACTION:
            return Request(api, version, correlation_id, client_id)
        reader.is_flexible = version >= FLEXIBLE_SINCE[Api(api)]
        if reader.is_flexible:
            reader.tags()
        if api == Api.ADD_PARTITIONS_TO_TXN and version >= _BATCHED_ADD_PARTITIONS and reader.length() < 1:
            return Request(api, version, correlation_id, client_id)
        transactional_id = reader.text()
        acks = reader.number(2) if api == Api.PRODUCE else None
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise FrameError(f"a request that ends too soon: {frame[:64]!r}") from error
    return Request(api, version, correlation_id, client_id, transactional_id, acks)


def correlation_of(answer: bytes) -> int:
    """Return which request an answer is for; raises FrameError."""
    if len(answer) < 4:
        raise FrameError(f"an answer of {len(answer)} bytes")
    return int.from_bytes(answer[:4], "big", signed=True)


class Reader:
    """Reads on through bytes; raises IndexError where they end too soon."""

    def __init__(self, data: bytes, position: int, *, is_flexible: bool) -> None:
        self.data = data
        self.position = position
        self.is_flexible = is_flexible

    def skip(self, count: int) -> None:
        if count < 0 or self.position + count > len(self.data):
            raise IndexError(count)
        self.position += count

    def number(self, size: int) -> int:
        self.skip(size)
        return int.from_bytes(self.data[self.position - size : self.position], "big", signed=True)

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.position]
            self.position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def length(self, classic_size: int = 4) -> int:
        """Read the length of an array or of bytes; -1 is null."""
        return self.varint() - 1 if self.is_flexible else self.number(classic_size)

    def text(self) -> str | None:
        length = self.length(2)
        if length < 0:
            return None
        self.skip(length)
        return self.data[self.position - length : self.position].decode()

    def tags(self) -> None:
        for _ in range(self.varint()):
            self.varint()
            self.skip(self.varint())
