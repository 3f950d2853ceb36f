"""The Confluent frame."""

from __future__ import annotations

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as some

from interlock.codec.framing import SCHEMA_ID_MAX, frame, unframe
from interlock.errors import Poison, Reason


@given(some.integers(1, SCHEMA_ID_MAX), some.binary(max_size=100))
def test_what_was_framed_is_found_again(schema_id: int, body: bytes) -> None:
    """Any id and any body."""
    found, rest = unframe(frame(schema_id, body))
    assert (found, bytes(rest)) == (schema_id, body)


@given(some.binary(max_size=20))
def test_any_bytes_give_a_body_or_bad_framing(value: bytes) -> None:
    """Nothing else is ever raised."""
    try:
        schema_id, rest = unframe(value)
    except Poison as poison:
        reason: Reason | None = poison.reason
    else:
        reason = None
        assert frame(schema_id, bytes(rest)) == value
    assert reason in (None, Reason.BAD_FRAMING)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x00",
        b"\x00\x00\x00\x00",
        b"\x01\x00\x00\x00\x01x",
        b"{}",
        b"\x00\x00\x00\x00\x00x",
        b"\x00\xff\xff\xff\xffx",
    ],
)
def test_what_is_no_frame_is_bad_framing(value: bytes) -> None:
    """Too short, another magic byte, JSON, an id of zero, a negative id."""
    with pytest.raises(Poison) as caught:
        unframe(value)
    assert caught.value.reason is Reason.BAD_FRAMING


def test_the_stock_client_reads_our_frame_and_we_read_its() -> None:
    """Confluent's own classes are the oracle."""
    serde = pytest.importorskip("confluent_kafka.schema_registry.serde")
    theirs = serde.SchemaId("AVRO")
    rest = theirs.from_bytes(BytesIO(frame(77, b"body")))
    assert theirs.id == 77
    assert rest.read() == b"body"
    schema_id, body = unframe(serde.SchemaId("AVRO", 78).id_to_bytes() + b"x")
    assert (schema_id, bytes(body)) == (78, b"x")
