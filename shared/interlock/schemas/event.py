"""The base of every event: an immutable record that knows its schema, its topic and its key."""

from __future__ import annotations

from typing import ClassVar

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What happened, as one Avro record; who, why and when it was sent stand in the headers.

    The classes of the events are generated from `schemas/` by `make generate`.
    """

    SCHEMA: ClassVar[str]
    """The Avro schema, as JSON."""
    SCHEMA_ID: ClassVar[int]
    """The schema's fixed id, from 1 to 999."""
    TOPIC: ClassVar[str]
    """The topic's name, or its template (`{endpoint}.dead-letters`)."""
    TYPE: ClassVar[str]
    """The CloudEvents type, such as `io.interlock.version_promoted.v1`."""
    KEY: ClassVar[str]
    """The field that becomes the Kafka key."""
