"""The events of `{endpoint}.batches`: one small record for each committed batch: what the audit log keeps.

Generated from schemas/ by `make generate`; not written by hand.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

import msgspec

from interlock.schemas.event import Event


class AnsweredBy(msgspec.Struct, frozen=True, kw_only=True):
    """A version that answered in a batch."""

    arm: str
    """The arm of the route that answered, such as champion."""
    model: str
    """The model's name."""
    version: int
    """The version's number within its model, from 1."""
    digest: str
    """The version's identity: `sha256:` and 64 hexadecimal digits over manifest and artifact."""
    rows: int
    """How many requests it answered."""


class BatchAnswered(Event, frozen=True, kw_only=True):
    """One committed batch of results, in so few bytes that it can be kept for ever."""

    SCHEMA_ID: ClassVar[int] = 20
    TOPIC: ClassVar[str] = "{endpoint}.batches"
    TYPE: ClassVar[str] = "io.interlock.batch_answered.v1"
    KEY: ClassVar[str] = "endpoint"
    SCHEMA: ClassVar[str] = (
        '{"type":"record","namespace":"io.interlock","name":"BatchAnswered","doc":"One committed batch of res'
        'ults, in so few bytes that it can be kept for ever.","fields":[{"name":"endpoint","type":"string","d'
        'oc":"The endpoint\'s name, which its topics begin with."}'
        ',{"name":"topic","type":"string","doc":"The topic that the requests came from."}'
        ',{"name":"partition","type":"int","doc":"Its partition; the results stand in the same one."}'
        ',{"name":"from_offset","type":"long","doc":"Where the batch began: the offset behind the batch befor'
        'e."}'
        ',{"name":"next_offset","type":"long","doc":"The offset behind the batch."}'
        ',{"name":"first_offset","type":"long","doc":"The offset of the batch\'s first request."}'
        ',{"name":"rows","type":"int","doc":"How many results the batch has."}'
        ',{"name":"rejected","type":"int","doc":"How many of them are rejections."}'
        ',{"name":"epoch","type":"long","doc":"The epoch of the route by which the batch was answered."}'
        ',{"name":"results_digest","type":"string","doc":"`blake3:` and BLAKE3 over how many results there ar'
        'e, where each ends (four bytes big-endian) and they."}'
        ',{"name":"requests_digest","type":"string","doc":"The same over the requests\' values; where there is'
        ' none, the highest bit of its end is set."}'
        ',{"name":"versions","doc":"The versions that answered.","type":{"type":"array","items":{"type":"reco'
        'rd","name":"AnsweredBy","doc":"A version that answered in a batch.","fields":[{"name":"arm","type":"'
        'string","doc":"The arm of the route that answered, such as champion."}'
        ',{"name":"model","type":"string","doc":"The model\'s name."}'
        ',{"name":"version","type":"int","doc":"The version\'s number within its model, from 1."}'
        ',{"name":"digest","type":"string","doc":"The version\'s identity: `sha256:` and 64 hexadecimal digits'
        ' over manifest and artifact."}'
        ',{"name":"rows","type":"int","doc":"How many requests it answered."}]}}}'
        ',{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"When the batch was scor'
        'ed, in UTC: `scored_at` of its results."}]}'
    )

    endpoint: str
    """The endpoint's name, which its topics begin with."""
    topic: str
    """The topic that the requests came from."""
    partition: int
    """Its partition; the results stand in the same one."""
    from_offset: int
    """Where the batch began: the offset behind the batch before."""
    next_offset: int
    """The offset behind the batch."""
    first_offset: int
    """The offset of the batch's first request."""
    rows: int
    """How many results the batch has."""
    rejected: int
    """How many of them are rejections."""
    epoch: int
    """The epoch of the route by which the batch was answered."""
    results_digest: str
    """`blake3:` and BLAKE3 over how many results there are, where each ends (four bytes big-endian) and they."""
    requests_digest: str
    """The same over the requests' values; where there is none, the highest bit of its end is set."""
    versions: tuple[AnsweredBy, ...]
    """The versions that answered."""
    at: datetime
    """When the batch was scored, in UTC: `scored_at` of its results."""
