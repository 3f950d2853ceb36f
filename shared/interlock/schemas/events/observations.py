"""The events of `{endpoint}.observations`: what a lane tells the monitor about one batch, as columns or sketches.

Generated from schemas/ by `make generate`; not written by hand.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

import msgspec

from interlock.schemas.event import Event


class FeatureSketch(msgspec.Struct, frozen=True, kw_only=True):
    """One feature of one pane, where the columns would be too large."""

    name: str
    """The feature's name."""
    pane: datetime
    """The first moment of the pane, of event time."""
    rows: int
    """How many requests of the pane, missing values included."""
    missing: int
    """How many had no value."""
    minimum: float | None = None
    """The least value."""
    maximum: float | None = None
    """The greatest value."""
    kll: bytes
    """A KLL sketch of doubles (Apache DataSketches) over the values that were there."""


class ObservedGroup(msgspec.Struct, frozen=True, kw_only=True):
    """What one arm answered; byte columns hold a little-endian value per row, in the order of offsets."""

    arm: str
    """The arm of the route that answered, such as champion."""
    model: str
    """The model's name."""
    version: int
    """The version's number within its model, from 1."""
    digest: str
    """The version's identity: `sha256:` and 64 hexadecimal digits over manifest and artifact."""
    rows: int
    """How many requests the arm answered."""
    offsets: bytes
    """uint32: each request's offset, less `from_offset`."""
    requested_at: bytes
    """int64: each request's own time, in milliseconds since 1970."""
    request_ids: bytes
    """The request ids, in UTF-8, one behind the other."""
    request_id_lengths: bytes
    """uint32: how many bytes each request id has."""
    output_names: tuple[str, ...]
    """The outputs' names."""
    outputs: bytes
    """float64: the outputs, row after row."""
    feature_names: tuple[str, ...]
    """The features' names, in the order of the signature."""
    features: bytes
    """float64: the features, row after row, NaN where missing; empty if sketched."""
    sketches: tuple[FeatureSketch, ...]
    """Mergeable sketches in place of columns; empty where there are columns."""


class ObservedRejection(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of the batch that got no score for one reason."""

    arm: str
    """The arm of the route that answered, such as champion."""
    model: str
    """The model's name."""
    version: int
    """The version's number within its model, from 1."""
    digest: str
    """The version's identity, as in the groups; empty where no version was asked."""
    reason: str
    """Why, from the closed list of dead letters."""
    rows: int
    """How many."""
    requested_at: bytes
    """int64: each request's own time, in milliseconds since 1970, little-endian."""


class Observation(Event, frozen=True, kw_only=True):
    """What a lane saw in a batch or a part of it, in the batch's own transaction: it counts what was committed."""

    SCHEMA_ID: ClassVar[int] = 19
    TOPIC: ClassVar[str] = "{endpoint}.observations"
    TYPE: ClassVar[str] = "io.interlock.observation.v1"
    KEY: ClassVar[str] = "endpoint"
    SCHEMA: ClassVar[str] = (
        '{"type":"record","namespace":"io.interlock","name":"Observation","doc":"What a lane saw in a batch o'
        'r a part of it, in the batch\'s own transaction: it counts what was committed.","fields":[{"name":"en'
        'dpoint","type":"string","doc":"The endpoint\'s name, which its topics begin with."}'
        ',{"name":"topic","type":"string","doc":"The topic that the requests came from."}'
        ',{"name":"partition","type":"int","doc":"Its partition."}'
        ',{"name":"from_offset","type":"long","doc":"Where it begins: the offset behind the observation befor'
        'e, so that no gap is left."}'
        ',{"name":"next_offset","type":"long","doc":"The offset behind what was seen."}'
        ',{"name":"rows","type":"int","doc":"How many requests were seen, rejected ones included."}'
        ',{"name":"epoch","type":"long","doc":"The epoch of the route by which the batch was answered."}'
        ',{"name":"taken_at","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"When the lane too'
        'k the batch from Kafka, in UTC."}'
        ',{"name":"groups","doc":"What each arm answered; at most one group for each arm.","type":{"type":"ar'
        'ray","items":{"type":"record","name":"ObservedGroup","doc":"What one arm answered; byte columns hold'
        ' a little-endian value per row, in the order of offsets.","fields":[{"name":"arm","type":"string","d'
        'oc":"The arm of the route that answered, such as champion."}'
        ',{"name":"model","type":"string","doc":"The model\'s name."}'
        ',{"name":"version","type":"int","doc":"The version\'s number within its model, from 1."}'
        ',{"name":"digest","type":"string","doc":"The version\'s identity: `sha256:` and 64 hexadecimal digits'
        ' over manifest and artifact."}'
        ',{"name":"rows","type":"int","doc":"How many requests the arm answered."}'
        ',{"name":"offsets","type":"bytes","doc":"uint32: each request\'s offset, less `from_offset`."}'
        ',{"name":"requested_at","type":"bytes","doc":"int64: each request\'s own time, in milliseconds since '
        '1970."}'
        ',{"name":"request_ids","type":"bytes","doc":"The request ids, in UTF-8, one behind the other."}'
        ',{"name":"request_id_lengths","type":"bytes","doc":"uint32: how many bytes each request id has."}'
        ',{"name":"output_names","type":{"type":"array","items":"string"},"doc":"The outputs\' names."}'
        ',{"name":"outputs","type":"bytes","doc":"float64: the outputs, row after row."}'
        ',{"name":"feature_names","type":{"type":"array","items":"string"},"doc":"The features\' names, in the'
        ' order of the signature."}'
        ',{"name":"features","type":"bytes","doc":"float64: the features, row after row, NaN where missing; e'
        'mpty if sketched."}'
        ',{"name":"sketches","doc":"Mergeable sketches in place of columns; empty where there are columns.","'
        'type":{"type":"array","items":{"type":"record","name":"FeatureSketch","doc":"One feature of one pane'
        ', where the columns would be too large.","fields":[{"name":"name","type":"string","doc":"The feature'
        "'s name.\"}"
        ',{"name":"pane","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"The first moment of t'
        'he pane, of event time."}'
        ',{"name":"rows","type":"int","doc":"How many requests of the pane, missing values included."}'
        ',{"name":"missing","type":"int","doc":"How many had no value."}'
        ',{"name":"minimum","type":["null","double"],"default":null,"doc":"The least value."}'
        ',{"name":"maximum","type":["null","double"],"default":null,"doc":"The greatest value."}'
        ',{"name":"kll","type":"bytes","doc":"A KLL sketch of doubles (Apache DataSketches) over the values t'
        'hat were there."}]}}}]}}}'
        ',{"name":"rejected","doc":"What got no score, by arm and reason; without arm and model where no vers'
        'ion was asked.","type":{"type":"array","items":{"type":"record","name":"ObservedRejection","doc":"Re'
        'quests of the batch that got no score for one reason.","fields":[{"name":"arm","type":"string","doc"'
        ':"The arm of the route that answered, such as champion."}'
        ',{"name":"model","type":"string","doc":"The model\'s name."}'
        ',{"name":"version","type":"int","doc":"The version\'s number within its model, from 1."}'
        ',{"name":"digest","type":"string","doc":"The version\'s identity, as in the groups; empty where no ve'
        'rsion was asked."}'
        ',{"name":"reason","type":"string","doc":"Why, from the closed list of dead letters."}'
        ',{"name":"rows","type":"int","doc":"How many."}'
        ',{"name":"requested_at","type":"bytes","doc":"int64: each request\'s own time, in milliseconds since '
        '1970, little-endian."}]}}}'
        ',{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"When the batch was scor'
        'ed, in UTC: `scored_at` of its results."}]}'
    )

    endpoint: str
    """The endpoint's name, which its topics begin with."""
    topic: str
    """The topic that the requests came from."""
    partition: int
    """Its partition."""
    from_offset: int
    """Where it begins: the offset behind the observation before, so that no gap is left."""
    next_offset: int
    """The offset behind what was seen."""
    rows: int
    """How many requests were seen, rejected ones included."""
    epoch: int
    """The epoch of the route by which the batch was answered."""
    taken_at: datetime
    """When the lane took the batch from Kafka, in UTC."""
    groups: tuple[ObservedGroup, ...]
    """What each arm answered; at most one group for each arm."""
    rejected: tuple[ObservedRejection, ...]
    """What got no score, by arm and reason; without arm and model where no version was asked."""
    at: datetime
    """When the batch was scored, in UTC: `scored_at` of its results."""
