"""A control event as strangers meet it: Confluent's own client reads the record that the outbox relay would send."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import fastavro
import pytest
from confluent_kafka.schema_registry.serde import SchemaId

from interlock.codec import rows
from interlock.codec.framing import frame
from interlock.kafka.headers import cloudevents, parse
from interlock.schemas.events import BY_SCHEMA_ID, EVENTS, ModelCreated, VersionPromoted

AT = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
PROMOTED = VersionPromoted(
    endpoint="fraud",
    model="fraud",
    version=2,
    digest="sha256:" + "1" * 64,
    promotion=7,
    actor="ada",
    previous_version=1,
    at=AT,
)


def test_the_stock_frame_and_the_schema_alone_read_an_event() -> None:
    """With Confluent's SchemaId and plain Avro, no code of ours: every field, and nothing left over."""
    stream: BytesIO = SchemaId("AVRO").from_bytes(BytesIO(rows.encode(PROMOTED)))
    record: Any = fastavro.schemaless_reader(stream, json.loads(VersionPromoted.SCHEMA), None)
    assert stream.read() == b""
    assert record["promotion"] == 7
    assert record["at"] == AT


def test_an_event_written_by_a_stranger_is_read_by_us() -> None:
    """Plain Avro behind a stock frame decodes to our class."""
    body = BytesIO()
    record = {"model": "fraud", "owner": "risk", "created_by": "ada", "at": AT}
    fastavro.schemaless_writer(body, json.loads(ModelCreated.SCHEMA), record)
    stock = SchemaId("AVRO", ModelCreated.SCHEMA_ID).id_to_bytes() + body.getvalue()
    assert stock == frame(ModelCreated.SCHEMA_ID, body.getvalue())
    assert rows.decode(stock) == ModelCreated(model="fraud", owner="risk", created_by="ada", at=AT)


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_every_event_has_an_id_a_type_and_a_key_of_its_own(kind: Any) -> None:
    """Fixed ids from 1 to 999, reverse-DNS types with a version, and a key field that exists (or is derived)."""
    assert BY_SCHEMA_ID[kind.SCHEMA_ID] is kind
    assert 1 <= kind.SCHEMA_ID <= 999
    assert kind.TYPE.startswith("io.interlock.")
    assert kind.TYPE.rsplit(".", 1)[1].startswith("v")
    assert kind.KEY in kind.__struct_fields__


def test_headers_survive_the_trip_as_bytes() -> None:
    """What cloudevents() writes, parse() reads; names and values are what a stock client would show."""
    headers = cloudevents(
        VersionPromoted.TYPE, event_id="i", source="/interlock/registry", at=AT, subject="fraud", actor="ada"
    )
    envelope = parse(headers)
    assert (envelope.id, envelope.source, envelope.type, envelope.subject) == (
        "i",
        "/interlock/registry",
        VersionPromoted.TYPE,
        "fraud",
    )
    assert all(isinstance(value, bytes) for _, value in headers)
