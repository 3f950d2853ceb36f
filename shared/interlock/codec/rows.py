"""One platform event to framed Avro and back, row by row."""

from __future__ import annotations

import json
import secrets
import struct
from datetime import datetime
from functools import lru_cache
from io import BytesIO
from typing import Any, cast

import fastavro
import msgspec
from fastavro.validation import ValidationError

from interlock.codec import varints
from interlock.codec.framing import frame, unframe
from interlock.errors import Poison, Reason

LARGE_BYTES = 8192
"""Byte fields that are at least so long are set apart while an event is written."""

# What stands in place of a large byte field until the event is written; nobody else knows it, so nothing else holds it.
_MARK = secrets.token_bytes(16)
_IN_PLACE = varints.encode(len(_MARK)) + _MARK

# What fastavro raises for bytes that are not what the schema says; all of it is the record's fault.
_MALFORMED = (
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
    struct.error,
    fastavro.schema.SchemaParseException,
)


def encode(event: Any) -> bytes:
    """Return the event (a generated struct) as framed Avro.

    Raises ValueError for a value that Avro would silently distort: a naive time, an int beyond 32 bits, a
    missing or surplus field.
    """
    return b"".join(pieces(event))


def pieces(event: Any) -> list[bytes]:
    """Return the same in pieces to be joined: byte fields of LARGE_BYTES or more are the event's own, not copies.

    A byte field may be a memoryview of bytes as well.
    """
    large: list[bytes] = []
    record = _looked_through(msgspec.to_builtins(event, builtin_types=(datetime, bytes, memoryview)), large)
    schema = _parsed(type(event).SCHEMA)
    # First without a reason: to word one for every branch of a union that is not meant would take most of the time.
    if not fastavro.validate(record, schema, raise_errors=False, strict=True):
        try:
            fastavro.validate(record, schema, strict=True)
        except ValidationError as error:
            raise ValueError(f"{type(event).__name__} does not fit its schema: {error}") from error
    written = BytesIO()
    fastavro.schemaless_writer(written, schema, record)
    first, *rest = frame(type(event).SCHEMA_ID, written.getvalue()).split(_IN_PLACE)
    return [first, *(piece for each, after in zip(large, rest, strict=True) for piece in (_length(each), each, after))]


def decode(value: bytes) -> Any:
    """Return the event struct in framed Avro bytes; raises Poison with the closest reason.

    Every byte must be consumed: a record read with the wrong schema often decodes, but seldom to the very end.
    """
    from interlock.schemas.events import BY_SCHEMA_ID

    schema_id, body = unframe(value)
    kind = BY_SCHEMA_ID.get(schema_id)
    if kind is None:
        raise Poison(Reason.UNKNOWN_SCHEMA, f"Schema id {schema_id} is not an event of this platform.")
    return decode_as(kind, body)


def decode_as(kind: Any, body: bytes | memoryview) -> Any:
    """Return `body` (Avro without a frame) as the struct class `kind`, or raise Poison."""
    record = read_record(kind.SCHEMA, body)
    try:
        return msgspec.convert(record, kind)
    except msgspec.ValidationError as error:
        raise Poison(Reason.MALFORMED, f"{kind.__name__}: {error}") from error


def read_record(schema: str, body: bytes | memoryview) -> dict[str, Any]:
    """Return one Avro record as a dict, reading all of `body`; raises Poison(TRUNCATED|TRAILING_BYTES|MALFORMED)."""
    stream = BytesIO(body)
    try:
        record = fastavro.schemaless_reader(stream, _parsed(schema), None)
    except EOFError as error:
        raise Poison(Reason.TRUNCATED, f"The record ends after {len(body)} bytes, before its schema does.") from error
    except _MALFORMED as error:
        raise Poison(Reason.MALFORMED, f"{type(error).__name__}: {error}") from error
    left = len(body) - stream.tell()
    if left:
        raise Poison(Reason.TRAILING_BYTES, f"{left} of {len(body)} bytes are left over after the record.")
    assert isinstance(record, dict), "platform schemas are records"
    return record


@lru_cache(maxsize=256)
def _parsed(schema: str) -> Any:
    """Return the parsed schema; parsing on each call would double the cost of a row."""
    return fastavro.parse_schema(json.loads(schema))


def _looked_through(value: Any, large: list[bytes]) -> Any:
    """Return the value with a mark in place of each large byte string, which is added to `large`.

    Raises ValueError for a datetime without a zone: fastavro would take it as local time.
    """
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"{value.isoformat()} has no time zone; events carry aware UTC times")
    elif isinstance(value, dict):
        return {name: _looked_through(item, large) for name, item in value.items()}
    elif isinstance(value, list | tuple):
        return [_looked_through(item, large) for item in value]
    elif isinstance(value, bytes | memoryview):
        if len(value) < LARGE_BYTES:
            return bytes(value)
        large.append(cast("bytes", value))
        return _MARK
    return value


def _length(value: bytes) -> bytes:
    return varints.encode(len(value))
