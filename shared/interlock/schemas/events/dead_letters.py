"""The events of `{endpoint}.dead-letters`: requests that cannot be scored, whole, with reason and coordinates.

Generated from schemas/ by `make generate`; not written by hand.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

import msgspec

from interlock.schemas.event import Event


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """One header of a Kafka record."""

    name: str
    """The header's name."""
    value: bytes
    """The header's value, as it came."""


class DeadLetter(Event, frozen=True, kw_only=True):
    """A request that cannot be scored, kept whole with its reason and coordinates, so that it can be replayed."""

    SCHEMA_ID: ClassVar[int] = 18
    TOPIC: ClassVar[str] = "{endpoint}.dead-letters"
    TYPE: ClassVar[str] = "io.interlock.dead_letter.v1"
    KEY: ClassVar[str] = "name"
    SCHEMA: ClassVar[str] = (
        '{"type":"record","namespace":"io.interlock","name":"DeadLetter","doc":"A request that cannot be scor'
        'ed, kept whole with its reason and coordinates, so that it can be replayed.","fields":[{"name":"name'
        '","type":"string","doc":"The dead letter\'s name: the request\'s coordinates, `topic/partition/offset`'
        '."}'
        ',{"name":"endpoint","type":"string","doc":"The endpoint\'s name, which its topics begin with."}'
        ',{"name":"reason","type":"string","doc":"Why, from the closed list in the reference of dead letters.'
        '"}'
        ',{"name":"detail","type":"string","doc":"What was wrong, in words."}'
        ',{"name":"topic","type":"string","doc":"The topic that the request came from."}'
        ',{"name":"partition","type":"int","doc":"Its partition."}'
        ',{"name":"offset","type":"long","doc":"Its offset."}'
        ',{"name":"timestamp","type":"long","doc":"The timestamp of the request\'s Kafka record, in millisecon'
        'ds; -1 where it has none."}'
        ',{"name":"key","type":["null","bytes"],"default":null,"doc":"The request\'s key, as it came."}'
        ',{"name":"value","type":["null","bytes"],"default":null,"doc":"The request\'s value, as it came."}'
        ',{"name":"headers","doc":"The request\'s headers, in their order.","type":{"type":"array","items":{"t'
        'ype":"record","name":"Header","doc":"One header of a Kafka record.","fields":[{"name":"name","type":'
        '"string","doc":"The header\'s name."}'
        ',{"name":"value","type":"bytes","doc":"The header\'s value, as it came."}]}}}'
        ',{"name":"schema_id","type":["null","int"],"default":null,"doc":"The schema id in the request\'s fram'
        'e, where it could be read."}'
        ',{"name":"model","type":["null","string"],"default":null,"doc":"The model that was asked, where the '
        'request got that far."}'
        ',{"name":"version","type":["null","int"],"default":null,"doc":"The version that was asked, where the'
        ' request got that far."}'
        ',{"name":"digest","type":["null","string"],"default":null,"doc":"That version\'s identity."}'
        ',{"name":"epoch","type":["null","long"],"default":null,"doc":"The route\'s epoch at the time, where t'
        'here was a route."}'
        ',{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"When it happened, in UT'
        'C."}]}'
    )

    name: str
    """The dead letter's name: the request's coordinates, `topic/partition/offset`."""
    endpoint: str
    """The endpoint's name, which its topics begin with."""
    reason: str
    """Why, from the closed list in the reference of dead letters."""
    detail: str
    """What was wrong, in words."""
    topic: str
    """The topic that the request came from."""
    partition: int
    """Its partition."""
    offset: int
    """Its offset."""
    timestamp: int
    """The timestamp of the request's Kafka record, in milliseconds; -1 where it has none."""
    key: bytes | None = None
    """The request's key, as it came."""
    value: bytes | None = None
    """The request's value, as it came."""
    headers: tuple[Header, ...]
    """The request's headers, in their order."""
    schema_id: int | None = None
    """The schema id in the request's frame, where it could be read."""
    model: str | None = None
    """The model that was asked, where the request got that far."""
    version: int | None = None
    """The version that was asked, where the request got that far."""
    digest: str | None = None
    """That version's identity."""
    epoch: int | None = None
    """The route's epoch at the time, where there was a route."""
    at: datetime
    """When it happened, in UTC."""
