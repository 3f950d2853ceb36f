"""The Confluent frame: a zero byte, a schema id, then the Avro body.

Source: Confluent wire format, version 0. A null value is a tombstone and is never framed.
"""

from __future__ import annotations

from interlock.errors import Poison, Reason

MAGIC = 0
HEADER_BYTES = 5
SCHEMA_ID_MAX = 2**31 - 1


def frame(schema_id: int, body: bytes) -> bytes:
    """Return `body` behind its five-byte header; raises ValueError for an id that no registry can issue."""
    if not 0 < schema_id <= SCHEMA_ID_MAX:
        raise ValueError(f"schema id {schema_id} is outside 1..{SCHEMA_ID_MAX}")
    return b"\x00" + schema_id.to_bytes(4, "big") + body


def unframe(value: bytes) -> tuple[int, memoryview]:
    """Return (schema id, body without a copy); raises Poison(BAD_FRAMING) where there is no frame."""
    if len(value) < HEADER_BYTES or value[0] != MAGIC:
        raise Poison(
            Reason.BAD_FRAMING,
            f"The value begins with {bytes(value[:HEADER_BYTES]).hex() or 'nothing'}, not with 00 and a schema id.",
        )
    schema_id = int.from_bytes(value[1:HEADER_BYTES], "big")
    if not 0 < schema_id <= SCHEMA_ID_MAX:
        raise Poison(Reason.BAD_FRAMING, f"The frame names schema id {schema_id}, which no registry issues.")
    return schema_id, memoryview(value)[HEADER_BYTES:]
