"""A produce request in one piece is, byte for byte, the one that the driver would have written."""

from __future__ import annotations

import pytest
from aiokafka.protocol.produce import ProduceRequest

from interlock.kafka.produce import WholeRequest

TOPICS = [
    ("fraud.results", [(3, bytearray(b"first")), (4, bytearray())]),
    ("é.observations", [(3, bytearray(b"x" * 70_000))]),
]


@pytest.mark.parametrize("version", range(8))
@pytest.mark.parametrize("transactional_id", ["interlock.router.fraud.requests.3", None])
def test_the_bytes_are_those_of_the_driver(version: int, transactional_id: str | None) -> None:
    """Every version that a broker may ask for, with and without a transaction."""
    arguments = (transactional_id, -1, 40_000, TOPICS)
    if version < 3 and transactional_id is not None:
        return  # the driver refuses: transactions came with version 3
    plain = ProduceRequest(*arguments).prepare({0: (version, version)})
    whole = WholeRequest(*arguments).prepare({0: (version, version)})
    assert version == whole.API_VERSION
    header = b"\x00\x00\x00\x01"
    message = header + whole.encode()
    assert len(message) == len(header + plain.encode())
    assert b"size" + message == b"size" + header + plain.encode()
