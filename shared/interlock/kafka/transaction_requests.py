"""The requests of version 2 of the transaction protocol (KIP-890), which the driver does not know.

Records and offsets join a transaction by themselves, so nothing is asked before they are written; and every
transaction ends with a new epoch of the producer, so a request that comes late cannot touch the next one. The layouts
are those of Kafka's message definitions (clients/src/main/resources/common/message).
"""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any, Final

from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.api import Request, RequestStruct, Response, ResponseHeader_v0
from aiokafka.protocol.struct import Struct
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
    UnsignedVarInt32,
)

from interlock.kafka.prepared import Pieces
from interlock.kafka.produce import Body

FEATURE: Final = "transaction.version"
VERSION_MIN: Final = 2
_TEXT: Final = CompactString("utf-8")
_TAGS: Final = ("tags", TaggedFields)
_NO_TAGS: Final = b"\x00"
_FINALIZED_FEATURES: Final = 2
"""The tag of ApiVersions' answer under which the cluster's features stand."""
_NO_GENERATION: Final = -1
_NO_LEADER_EPOCH: Final = -1


def _by_partition(*fields: tuple[str, Any]) -> CompactArray:
    """Return the layout of what is said of partitions, topic by topic."""
    partitions = CompactArray(("partition", Int32), *fields, _TAGS)
    return CompactArray(("topic", _TEXT), ("partitions", partitions), _TAGS)


class _Produced(Response):  # type: ignore[misc]  # aiokafka's classes have no types
    API_KEY = 0
    API_VERSION = 12
    SCHEMA = Schema(
        (
            "topics",
            _by_partition(
                ("error_code", Int16),
                ("offset", Int64),
                ("timestamp", Int64),
                ("log_start_offset", Int64),
                ("record_errors", CompactArray(("batch_index", Int32), ("message", _TEXT), _TAGS)),
                ("error_message", _TEXT),
            ),
        ),
        ("throttle_time_ms", Int32),
        _TAGS,
    )


class _ProduceStruct(RequestStruct):  # type: ignore[misc]  # aiokafka's classes have no types
    FLEXIBLE_VERSION = True
    API_KEY = 0
    API_VERSION = 12
    RESPONSE_TYPE = _Produced
    SCHEMA = Schema()

    def __init__(self, pieces: list[Any]) -> None:
        super().__init__()
        self._pieces = pieces

    def encode(self) -> Body:
        """Return the body in pieces, as large record batches want it."""
        return Body(self._pieces, befores=2)


class Produce(Request[_ProduceStruct]):  # type: ignore[misc]  # aiokafka's classes have no types
    """A produce request whose records join the transaction that their producer has open."""

    API_KEY = 0

    def __init__(
        self, transactional_id: str, acks: int, timeout_milliseconds: int, topics: list[tuple[str, list[Any]]]
    ) -> None:
        self._arguments = transactional_id, acks, timeout_milliseconds, topics
        self.required_acks = acks

    def build(self, request_struct_class: type[_ProduceStruct]) -> _ProduceStruct:
        """Return the request, ready to encode itself."""
        return request_struct_class(encoded(*self._arguments))


def encoded(
    transactional_id: str, acks: int, timeout_milliseconds: int, topics: list[tuple[str, list[tuple[int, Any]]]]
) -> list[Any]:
    """Return a produce request's body in pieces, versions 9 to 12."""
    pieces: list[Any] = [_TEXT.encode(transactional_id), struct.pack(">hi", acks, timeout_milliseconds)]
    pieces.append(_count(topics))
    for topic, partitions in topics:
        pieces += [_TEXT.encode(topic), _count(partitions)]
        for partition, batch in partitions:
            pieces.append(struct.pack(">i", partition) + _count(batch))
            pieces += batch.parts if isinstance(batch, Pieces) else [batch]
            pieces.append(_NO_TAGS)
        pieces.append(_NO_TAGS)
    return [*pieces, _NO_TAGS]


class _OffsetsCommitted(Response):  # type: ignore[misc]  # aiokafka's classes have no types
    API_KEY = 28
    API_VERSION = 5
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("errors", _by_partition(("error_code", Int16))),
        _TAGS,
    )


class _CommitOffsetsStruct(RequestStruct):  # type: ignore[misc]  # aiokafka's classes have no types
    FLEXIBLE_VERSION = True
    API_KEY = 28
    API_VERSION = 5
    RESPONSE_TYPE = _OffsetsCommitted
    SCHEMA = Schema(
        ("transactional_id", _TEXT),
        ("group_id", _TEXT),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("generation_id", Int32),
        ("member_id", _TEXT),
        ("group_instance_id", _TEXT),
        ("topics", _by_partition(("offset", Int64), ("leader_epoch", Int32), ("metadata", _TEXT))),
        _TAGS,
    )


class CommitOffsets(Request[_CommitOffsetsStruct]):  # type: ignore[misc]  # aiokafka's classes have no types
    """TxnOffsetCommit: offsets that join the transaction. The transactional id fences, so no generation is named."""

    API_KEY = 28

    def __init__(
        self,
        transactional_id: str,
        group: str,
        producer: tuple[int, int],
        topics: list[tuple[str, list[tuple[int, int, str]]]],
    ) -> None:
        self._arguments = transactional_id, group, *producer
        self._topics = topics

    def build(self, request_struct_class: type[Struct]) -> Struct:
        """Return the request, ready to encode itself."""
        topics: list[Any] = [
            (topic, [(partition, offset, _NO_LEADER_EPOCH, said, {}) for partition, offset, said in partitions], {})
            for topic, partitions in self._topics
        ]
        return request_struct_class(*self._arguments, _NO_GENERATION, "", None, topics, {})


class _Ended(Response):  # type: ignore[misc]  # aiokafka's classes have no types
    API_KEY = 26
    API_VERSION = 5
    SCHEMA = Schema(
        ("throttle_time_ms", Int32), ("error_code", Int16), ("producer_id", Int64), ("producer_epoch", Int16), _TAGS
    )


class _EndStruct(RequestStruct):  # type: ignore[misc]  # aiokafka's classes have no types
    FLEXIBLE_VERSION = True
    API_KEY = 26
    API_VERSION = 5
    RESPONSE_TYPE = _Ended
    SCHEMA = Schema(
        ("transactional_id", _TEXT), ("producer_id", Int64), ("producer_epoch", Int16), ("committed", Boolean), _TAGS
    )


class End(Request[_EndStruct]):  # type: ignore[misc]  # aiokafka's classes have no types
    """EndTxn: its answer says which producer id and epoch the next transaction has."""

    API_KEY = 26

    def __init__(self, transactional_id: str, producer: tuple[int, int], committed: bool) -> None:
        self._arguments = transactional_id, *producer, committed

    def build(self, request_struct_class: type[Struct]) -> Struct:
        """Return the request, ready to encode itself."""
        return request_struct_class(*self._arguments, {})


class _Versions(Response):  # type: ignore[misc]  # aiokafka's classes have no types
    API_KEY = 18
    API_VERSION = 3
    SCHEMA = Schema(
        ("error_code", Int16),
        ("apis", CompactArray(("api_key", Int16), ("min_version", Int16), ("max_version", Int16), _TAGS)),
        ("throttle_time_ms", Int32),
        _TAGS,
    )


class _VersionsStruct(RequestStruct):  # type: ignore[misc]  # aiokafka's classes have no types
    FLEXIBLE_VERSION = True
    API_KEY = 18
    API_VERSION = 3
    RESPONSE_TYPE = _Versions
    SCHEMA = Schema(("software_name", _TEXT), ("software_version", _TEXT), _TAGS)

    def parse_response_header(self, read_buffer: BytesIO | bytes) -> ResponseHeader_v0:
        """Return the header: this answer alone has the old one in all versions (KIP-511)."""
        return ResponseHeader_v0.decode(read_buffer)


class _ApiVersions(Request[_VersionsStruct]):  # type: ignore[misc]  # aiokafka's classes have no types
    API_KEY = 18

    def build(self, request_struct_class: type[Struct]) -> Struct:
        return request_struct_class("interlock", "1", {})


async def see_version(client: Any) -> None:
    """Raise IncompatibleBrokerVersion where the cluster's transactions are not yet of version 2."""
    answer = await client.send(client.get_random_node(), _ApiVersions())
    found = _features(answer.tags.get(_FINALIZED_FEATURES, b"\x01")).get(FEATURE, 0)
    if found < VERSION_MIN:
        raise IncompatibleBrokerVersion(
            f"Kafka has {FEATURE} {found}, exactly once needs {VERSION_MIN} (Kafka 4.0 and later): "
            f"kafka-features.sh upgrade --feature {FEATURE}={VERSION_MIN}"
        )


def without_tags(topics: list[Any]) -> list[tuple[str, list[Any]]]:
    """Return topics and what is said of their partitions as the driver's handlers know them."""
    return [(topic, [each[:-1] for each in partitions]) for topic, partitions, _ in topics]


def _features(finalized: bytes) -> dict[str, int]:
    """Return the cluster's features, each with the highest version that is switched on."""
    array = CompactArray(("name", _TEXT), ("max_version", Int16), ("min_version", Int16), _TAGS)
    return {name: version for name, version, _, _ in array.decode(BytesIO(finalized))}


def _count(things: Any) -> bytes:
    """Return how many things or bytes follow, as compact arrays and bytes are told."""
    return bytes(UnsignedVarInt32.encode(len(things) + 1))
