"""The events of `interlock.routes`: the route of every endpoint as it stands; the newest record of a key is the truth.

Generated from schemas/ by `make generate`; not written by hand.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

import msgspec

from interlock.schemas.event import Event


class Arm(msgspec.Struct, frozen=True, kw_only=True):
    """One version answering a share of an endpoint's keys."""

    arm: str
    """The arm's name, such as champion."""
    model: str
    """The model's name."""
    version: int
    """The version's number within its model, from 1."""
    digest: str
    """The version's identity: `sha256:` and 64 hexadecimal digits over manifest and artifact."""
    application: str
    """The Ray Serve application that runs the version."""
    weight: int
    """The arm's share of the keys, in ten-thousandths; the weights of a route sum to 10000."""
    signature: str
    """The version's input and output signature, as JSON."""


class Route(Event, frozen=True, kw_only=True):
    """The endpoint's whole route as it stands; the newest record of an endpoint is the truth."""

    SCHEMA_ID: ClassVar[int] = 17
    TOPIC: ClassVar[str] = "interlock.routes"
    TYPE: ClassVar[str] = "io.interlock.route.v1"
    KEY: ClassVar[str] = "endpoint"
    SCHEMA: ClassVar[str] = (
        '{"type":"record","namespace":"io.interlock","name":"Route","doc":"The endpoint\'s whole route as it s'
        'tands; the newest record of an endpoint is the truth.","fields":[{"name":"endpoint","type":"string",'
        '"doc":"The endpoint\'s name, which its topics begin with."}'
        ',{"name":"epoch","type":"long","doc":"The route\'s epoch; it rises with every change of the endpoint\''
        's route."}'
        ',{"name":"promotion","type":"long","doc":"The number of the newest order that this route carries out'
        '."}'
        ',{"name":"result_schema","type":"string","doc":"The Avro schema of the endpoint\'s results, as JSON."'
        "}"
        ',{"name":"result_schema_id","type":"int","doc":"The id of that schema in the schema registry."}'
        ',{"name":"arms","doc":"The versions that answer, with their shares.","type":{"type":"array","items":'
        '{"type":"record","name":"Arm","doc":"One version answering a share of an endpoint\'s keys.","fields":'
        '[{"name":"arm","type":"string","doc":"The arm\'s name, such as champion."}'
        ',{"name":"model","type":"string","doc":"The model\'s name."}'
        ',{"name":"version","type":"int","doc":"The version\'s number within its model, from 1."}'
        ',{"name":"digest","type":"string","doc":"The version\'s identity: `sha256:` and 64 hexadecimal digits'
        ' over manifest and artifact."}'
        ',{"name":"application","type":"string","doc":"The Ray Serve application that runs the version."}'
        ',{"name":"weight","type":"int","doc":"The arm\'s share of the keys, in ten-thousandths; the weights o'
        'f a route sum to 10000."}'
        ',{"name":"signature","type":"string","doc":"The version\'s input and output signature, as JSON."}]}}}'
        ',{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"When it happened, in UT'
        'C."}]}'
    )

    endpoint: str
    """The endpoint's name, which its topics begin with."""
    epoch: int
    """The route's epoch; it rises with every change of the endpoint's route."""
    promotion: int
    """The number of the newest order that this route carries out."""
    result_schema: str
    """The Avro schema of the endpoint's results, as JSON."""
    result_schema_id: int
    """The id of that schema in the schema registry."""
    arms: tuple[Arm, ...]
    """The versions that answer, with their shares."""
    at: datetime
    """When it happened, in UTC."""
