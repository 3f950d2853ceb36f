"""Entries: bytes that follow from the record alone, readable as the Avro that the schema says."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import Any

import fastavro
import msgspec

from interlock.codec import rows
from interlock.ids import digest_of
from interlock.kafka import headers
from interlock.schemas.events import EVENTS, ModelCreated, VersionPromoted
from interlock_auditor.entry import SCHEMA, TOMBSTONE, UNREADABLE, of_record

NOW = datetime(2026, 11, 20, tzinfo=UTC)


class Record(msgspec.Struct):
    topic: str = "interlock.model.events"
    partition: int = 0
    offset: int = 41
    timestamp: int = 1_790_000_000_123
    key: bytes | None = b"fraud"
    value: bytes | None = None
    headers: Any = ()


def test_the_bytes_are_the_avro_of_the_schema() -> None:
    """Any Avro reader reads an entry by its schema, and writes the very same bytes."""
    event = VersionPromoted(
        endpoint="live", model="fraud", version=3, digest="sha256:" + "1" * 64, promotion=2, actor="olga",
        previous_version=None, at=NOW,
    )  # fmt: skip
    named = headers.cloudevents(event.TYPE, event_id="e-1", source="/interlock/registry", at=NOW, actor="olga")
    entry = of_record(9, Record(value=rows.encode(event), headers=named))
    schema = fastavro.parse_schema(json.loads(SCHEMA))
    read: Any = fastavro.schemaless_reader(io.BytesIO(entry.entry), schema, None)
    assert read == {
        "seq": 9,
        "topic": "interlock.model.events",
        "partition": 0,
        "offset": 41,
        "event_id": "e-1",
        "action": "VersionPromoted",
        "source": "/interlock/registry",
        "actor": "olga",
        "subject": "fraud/3/live",
        "time": 1_790_000_000_123,
        "schema_digest": digest_of(VersionPromoted.SCHEMA.encode()),
        "payload_digest": digest_of(rows.encode(event)),
    }
    again = io.BytesIO()
    fastavro.schemaless_writer(again, schema, read)
    assert again.getvalue() == entry.entry


def test_records_that_are_no_events_are_entered_as_what_they_are() -> None:
    """A tombstone, rubbish, and an unknown schema id have entries too: nothing of a topic is left out."""
    assert of_record(0, Record(value=None)).action == TOMBSTONE
    for value in (b"rubbish", b"\x00\x00\x00\x7f\xff", b"\x00\x00\x00\x00\x01"):
        entry = of_record(0, Record(value=value))
        assert (entry.action, entry.payload, entry.event_id) == (UNREADABLE, value, "interlock.model.events/0/41")


def test_header_texts_cannot_break_the_table() -> None:
    """NUL bytes, control characters and endless texts of a stranger's headers become texts that any column holds."""
    event = ModelCreated(model="a/b\x00c", owner="o", created_by="c", at=NOW)
    named = [("ce_id", b"\x00id\x1f" + b"x" * 10_000), ("ce_actor", b"\xff\xfe")]
    entry = of_record(0, Record(value=rows.encode(event), headers=named))
    assert len(entry.event_id) == 200
    assert entry.actor == ""
    assert entry.subject.count("/") == 2
    assert not any(ord(letter) < 32 for letter in entry.event_id + entry.subject)


def test_every_event_has_a_subject_of_three_or_five_parts() -> None:
    """Whatever fields an event has, the table can cut its subject into columns."""
    from interlock_auditor.entry import subject_of

    for kind in EVENTS:
        fields = {name: 1 if name == "version" else "x" for name in kind.__struct_fields__}
        subject = subject_of(msgspec.structs.replace(_hollow(kind), **fields))
        parts = subject.split("/")
        assert len(parts) in {3, 5}
        assert not parts[1] or parts[1].isdecimal()


def _hollow(kind: type[Any]) -> Any:
    return kind(**dict.fromkeys(kind.__struct_fields__))
