"""An entry of the log: what one record of Kafka becomes, as fixed bytes that follow from the record and its number.

The bytes are Avro by a fixed schema without floats, written in its one way, so that anyone can make them again:
from the columns of the table, or from the topic. The record's value lies beside the entry; its digest is inside.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

from interlock import merkle
from interlock.codec import rows, varints
from interlock.codec.framing import unframe
from interlock.errors import Poison
from interlock.ids import digest_of, request_name
from interlock.kafka import headers
from interlock.kafka.chunks import ChunkRecord
from interlock.schemas.events import BY_SCHEMA_ID, BatchAnswered
from interlock_auditor.tiles import DIGEST_PREFIX

SCHEMA: Final = (
    '{"type":"record","name":"Entry","namespace":"io.interlock.audit","fields":['
    '{"name":"seq","type":"long"},{"name":"topic","type":"string"},{"name":"partition","type":"int"},'
    '{"name":"offset","type":"long"},{"name":"event_id","type":"string"},{"name":"action","type":"string"},'
    '{"name":"source","type":"string"},{"name":"actor","type":"string"},{"name":"subject","type":"string"},'
    '{"name":"time","type":"long"},{"name":"schema_digest","type":"string"},{"name":"payload_digest","type":"string"}'
    "]}"
)
"""The schema of every entry; it never changes."""

TOMBSTONE: Final = "Tombstone"
"""The action of a record without a value."""
UNREADABLE: Final = "Unreadable"
"""The action of a record that is no event of this platform."""
LETTERS_MAX: Final = 200
"""Texts of a record's headers are kept up to this length."""
_CONTROL: Final = dict.fromkeys((*range(32), 127), "\ufffd")


class Entry(msgspec.Struct, frozen=True):
    """One entry, in the order of its fields in the table and in the bytes; `time` in ms, the record's own."""

    seq: int
    topic: str
    partition: int
    offset: int
    event_id: str
    action: str
    source: str
    actor: str
    subject: str
    time: int
    schema_digest: str
    payload: bytes

    @property
    def payload_digest(self) -> str:
        """The digest of the record's value as it lies in Kafka, frame included; of a tombstone, that of nothing."""
        return digest_of(self.payload)

    @property
    def entry(self) -> bytes:
        """The canonical bytes."""
        return encode([self])[0]

    @property
    def leaf(self) -> bytes:
        """The leaf hash of the canonical bytes."""
        return merkle.leaf_hash(self.entry)

    @property
    def place(self) -> str:
        """The record's coordinates, `topic/partition/offset`."""
        return request_name(self.topic, self.partition, self.offset)

    @property
    def event(self) -> Any:
        """The event that the payload holds; raises Poison where there is none."""
        return rows.decode(self.payload)


def of_record(seq: int, record: ChunkRecord) -> Entry:
    """Return the entry that a record becomes as number `seq`; nothing but the record decides."""
    named, value = headers.parse(record.headers), record.value or b""
    action, schema_digest, subject = _told(value)
    return Entry(
        seq,
        record.topic,
        record.partition,
        record.offset,
        _clean(named.id) or request_name(record.topic, record.partition, record.offset),
        action,
        _clean(named.source),
        _clean(named.actor),
        subject,
        record.timestamp,
        schema_digest,
        value,
    )


def endpoint_of(topic: str) -> str:
    """Return the endpoint that a topic of batches belongs to."""
    return topic.removesuffix(BatchAnswered.TOPIC.removeprefix("{endpoint}"))


def encode(entries: Sequence[Entry]) -> list[bytes]:
    """Return the canonical bytes of each entry."""
    return [
        varints.encode(each.seq)
        + _text(each.topic)
        + varints.encode(each.partition)
        + varints.encode(each.offset)
        + varints.encode_text(each.event_id)
        + _text(each.action)
        + _text(each.source)
        + _text(each.actor)
        + varints.encode_text(each.subject)
        + varints.encode(each.time)
        + _text(each.schema_digest)
        + DIGEST_PREFIX
        + hashlib.sha256(each.payload).hexdigest().encode()
        for each in entries
    ]


def leaves(entries: Sequence[Entry]) -> list[bytes]:
    """Return the leaf hash of each entry."""
    return [merkle.leaf_hash(each) for each in encode(entries)]


@lru_cache(maxsize=4096)
def _text(text: str) -> bytes:
    """Return a text that comes again and again as Avro writes it."""
    return varints.encode_text(text)


def _told(value: bytes) -> tuple[str, str, str]:
    """Return action, digest of the writer's schema and subject of a record's value."""
    if not value:
        return TOMBSTONE, "", ""
    try:
        kind = BY_SCHEMA_ID.get(unframe(value)[0])
        if kind is None:
            return UNREADABLE, "", ""
        event = rows.decode(value)
    except Poison:
        return UNREADABLE, "", ""
    return kind.__name__, _schema_digest(kind.SCHEMA), subject_of(event)


def subject_of(event: Any) -> str:
    """Return what an event is about: `model/version/endpoint`, each empty where the event names none.

    A batch's is `//endpoint/from_offset/next_offset`, which is how the batch of a request is found. The table cuts its
    columns out of this text, and this text is inside the entry's bytes: no column can say anything else.
    """
    endpoint = _part(getattr(event, "endpoint", ""))
    if isinstance(event, BatchAnswered):
        return f"//{endpoint}/{event.from_offset}/{event.next_offset}"
    version = getattr(event, "version", None) or ""
    return f"{_part(getattr(event, 'model', ''))}/{version}/{endpoint}"


@lru_cache(maxsize=256)
def _schema_digest(schema: str) -> str:
    return digest_of(schema.encode())


def _clean(text: str | None) -> str:
    """Return a header's text without control characters, which no column could hold, and cut to its bound."""
    return (text or "")[:LETTERS_MAX].translate(_CONTROL)


def _part(text: str) -> str:
    return _clean(text).replace("/", "\ufffd")
