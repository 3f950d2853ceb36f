"""The requests of version 2 of the transaction protocol: their bytes, and what is said to a cluster without it."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.types import CompactArray, CompactBytes, CompactString, Int16, Int32, Schema, TaggedFields

from interlock.kafka.prepared import Pieces
from interlock.kafka.transaction_requests import Produce, see_version

TEXT = CompactString("utf-8")
TAGS = ("tags", TaggedFields)
PRODUCE = Schema(
    ("transactional_id", TEXT),
    ("acks", Int16),
    ("timeout", Int32),
    (
        "topics",
        CompactArray(
            ("topic", TEXT),
            ("partitions", CompactArray(("partition", Int32), ("records", CompactBytes), TAGS)),
            TAGS,
        ),
    ),
    TAGS,
)
"""ProduceRequest.json, versions 9 to 12."""
VERSIONS = {0: (0, 13), 18: (0, 4)}


def test_a_produce_request_is_laid_out_as_kafka_defines_it() -> None:
    """Small and large record batches, whole and in pieces."""
    large = b"x" * 70_000
    topics: list[tuple[str, list[Any]]] = [
        ("fraud.results", [(3, b"first"), (4, Pieces([b"sec", b"ond"]))]),
        ("é.observations", [(3, Pieces([large, b"y"]))]),
    ]
    written = b"header" + Produce("interlock.3", -1, 40_000, topics).prepare(VERSIONS).encode()
    plain: list[Any] = [(topic, [(number, bytes(batch), {}) for number, batch in found], {}) for topic, found in topics]
    assert b"size" + written == b"sizeheader" + PRODUCE.encode(("interlock.3", -1, 40_000, plain, {}))


class _Broker:
    """Answers ApiVersions as a broker whose cluster has these features."""

    def __init__(self, features: list[tuple[str, int]]) -> None:
        array = CompactArray(("name", TEXT), ("max", Int16), ("min", Int16), TAGS)
        finalized = array.encode([(name, version, 0, {}) for name, version in features])
        tagged = b"\x01\x02" + bytes([len(finalized)]) + finalized
        self._answer = b"\x00\x00" + b"\x01" + b"\x00\x00\x00\x00" + tagged

    def get_random_node(self) -> int:
        return 1

    async def send(self, _: int, request: Any) -> Any:
        struct = request.prepare(VERSIONS)
        assert struct.encode()
        return struct.RESPONSE_TYPE.decode(self._answer)


@pytest.mark.parametrize("features", [[], [("metadata.version", 29)], [("transaction.version", 1)]])
async def test_a_cluster_without_the_protocol_is_told_what_to_do(features: list[tuple[str, int]]) -> None:
    """Too old, or not switched on: the error names what there is, what is needed and the command."""
    with pytest.raises(IncompatibleBrokerVersion, match=r"kafka-features.sh upgrade --feature transaction.version=2"):
        await see_version(_Broker(features))


async def test_a_cluster_with_the_protocol_passes() -> None:
    """Version 2 or later, whatever else there is."""
    await see_version(_Broker([("group.version", 1), ("transaction.version", 2)]))
