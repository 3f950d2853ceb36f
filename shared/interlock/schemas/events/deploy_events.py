"""The events of `interlock.deploy.events`: what happened to versions on their way into and out of live traffic.

Generated from schemas/ by `make generate`; not written by hand.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from interlock.schemas.event import Event


class VersionWarmed(Event, frozen=True, kw_only=True):
    """The version's application is up and proved with its vectors, digest echoed; it takes no live traffic yet."""

    SCHEMA_ID: ClassVar[int] = 11
    TOPIC: ClassVar[str] = "interlock.deploy.events"
    TYPE: ClassVar[str] = "io.interlock.version_warmed.v1"
    KEY: ClassVar[str] = "endpoint"
    SCHEMA: ClassVar[str] = (
        '{"type":"record","namespace":"io.interlock","name":"VersionWarmed","doc":"The version\'s application '
        'is up and proved with its vectors, digest echoed; it takes no live traffic yet.","fields":[{"name":"'
        'endpoint","type":"string","doc":"The endpoint\'s name, which its topics begin with."}'
        ',{"name":"model","type":"string","doc":"The model\'s name."}'
        ',{"name":"version","type":"int","doc":"The version\'s number within its model, from 1."}'
        ',{"name":"digest","type":"string","doc":"The version\'s identity: `sha256:` and 64 hexadecimal digits'
        ' over manifest and artifact."}'
        ',{"name":"application","type":"string","doc":"The Ray Serve application that runs the version."}'
        ',{"name":"vectors","type":"int","doc":"How many self-test vectors it answered as expected."}'
        ',{"name":"seconds","type":"double","doc":"From the start of the application to the proof, in seconds'
        '."}'
        ',{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"When it happened, in UT'
        'C."}]}'
    )

    endpoint: str
    """The endpoint's name, which its topics begin with."""
    model: str
    """The model's name."""
    version: int
    """The version's number within its model, from 1."""
    digest: str
    """The version's identity: `sha256:` and 64 hexadecimal digits over manifest and artifact."""
    application: str
    """The Ray Serve application that runs the version."""
    vectors: int
    """How many self-test vectors it answered as expected."""
    seconds: float
    """From the start of the application to the proof, in seconds."""
    at: datetime
    """When it happened, in UTC."""


class VersionServing(Event, frozen=True, kw_only=True):
    """The version answers live traffic of the endpoint from this epoch on."""

    SCHEMA_ID: ClassVar[int] = 12
    TOPIC: ClassVar[str] = "interlock.deploy.events"
    TYPE: ClassVar[str] = "io.interlock.version_serving.v1"
    KEY: ClassVar[str] = "endpoint"
    SCHEMA: ClassVar[str] = (
        '{"type":"record","namespace":"io.interlock","name":"VersionServing","doc":"The version answers live '
        'traffic of the endpoint from this epoch on.","fields":[{"name":"endpoint","type":"string","doc":"The'
        " endpoint's name, which its topics begin with.\"}"
        ',{"name":"model","type":"string","doc":"The model\'s name."}'
        ',{"name":"version","type":"int","doc":"The version\'s number within its model, from 1."}'
        ',{"name":"digest","type":"string","doc":"The version\'s identity: `sha256:` and 64 hexadecimal digits'
        ' over manifest and artifact."}'
        ',{"name":"application","type":"string","doc":"The Ray Serve application that runs the version."}'
        ',{"name":"epoch","type":"long","doc":"The route\'s epoch; it rises with every change of the endpoint\''
        's route."}'
        ',{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"When it happened, in UT'
        'C."}]}'
    )

    endpoint: str
    """The endpoint's name, which its topics begin with."""
    model: str
    """The model's name."""
    version: int
    """The version's number within its model, from 1."""
    digest: str
    """The version's identity: `sha256:` and 64 hexadecimal digits over manifest and artifact."""
    application: str
    """The Ray Serve application that runs the version."""
    epoch: int
    """The route's epoch; it rises with every change of the endpoint's route."""
    at: datetime
    """When it happened, in UTC."""


class RouteCause(StrEnum):
    """What can change a route."""

    PROMOTION = "PROMOTION"
    ROLLBACK = "ROLLBACK"


class RouteChanged(Event, frozen=True, kw_only=True):
    """The endpoint's route changed."""

    SCHEMA_ID: ClassVar[int] = 13
    TOPIC: ClassVar[str] = "interlock.deploy.events"
    TYPE: ClassVar[str] = "io.interlock.route_changed.v1"
    KEY: ClassVar[str] = "endpoint"
    SCHEMA: ClassVar[str] = (
        '{"type":"record","namespace":"io.interlock","name":"RouteChanged","doc":"The endpoint\'s route change'
        'd.","fields":[{"name":"endpoint","type":"string","doc":"The endpoint\'s name, which its topics begin '
        'with."}'
        ',{"name":"epoch","type":"long","doc":"The route\'s epoch; it rises with every change of the endpoint\''
        's route."}'
        ',{"name":"champion_version","type":"int","doc":"The version that is champion from this epoch on."}'
        ',{"name":"previous_version","type":["null","int"],"default":null,"doc":"The champion before, or null'
        " for the endpoint's first.\"}"
        ',{"name":"cause","type":{"type":"enum","name":"RouteCause","doc":"What can change a route.","symbols'
        '":["PROMOTION","ROLLBACK"]},"doc":"What changed it."}'
        ',{"name":"promotion","type":"long","doc":"The number of the order that this change carries out."}'
        ',{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"When it happened, in UT'
        'C."}]}'
    )

    endpoint: str
    """The endpoint's name, which its topics begin with."""
    epoch: int
    """The route's epoch; it rises with every change of the endpoint's route."""
    champion_version: int
    """The version that is champion from this epoch on."""
    previous_version: int | None = None
    """The champion before, or null for the endpoint's first."""
    cause: RouteCause
    """What changed it."""
    promotion: int
    """The number of the order that this change carries out."""
    at: datetime
    """When it happened, in UTC."""


class RolledBack(Event, frozen=True, kw_only=True):
    """The endpoint went back to an earlier version."""

    SCHEMA_ID: ClassVar[int] = 14
    TOPIC: ClassVar[str] = "interlock.deploy.events"
    TYPE: ClassVar[str] = "io.interlock.rolled_back.v1"
    KEY: ClassVar[str] = "endpoint"
    SCHEMA: ClassVar[str] = (
        '{"type":"record","namespace":"io.interlock","name":"RolledBack","doc":"The endpoint went back to an '
        'earlier version.","fields":[{"name":"endpoint","type":"string","doc":"The endpoint\'s name, which its'
        ' topics begin with."}'
        ',{"name":"model","type":"string","doc":"The model\'s name."}'
        ',{"name":"from_version","type":"int","doc":"The version that was champion."}'
        ',{"name":"to_version","type":"int","doc":"The version that is champion again."}'
        ',{"name":"epoch","type":"long","doc":"The route\'s epoch; it rises with every change of the endpoint\''
        's route."}'
        ',{"name":"actor","type":"string","doc":"The subject who ordered it."}'
        ',{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"When it happened, in UT'
        'C."}]}'
    )

    endpoint: str
    """The endpoint's name, which its topics begin with."""
    model: str
    """The model's name."""
    from_version: int
    """The version that was champion."""
    to_version: int
    """The version that is champion again."""
    epoch: int
    """The route's epoch; it rises with every change of the endpoint's route."""
    actor: str
    """The subject who ordered it."""
    at: datetime
    """When it happened, in UTC."""


class VersionDrained(Event, frozen=True, kw_only=True):
    """The version answered its last request at this endpoint and its application was deleted."""

    SCHEMA_ID: ClassVar[int] = 15
    TOPIC: ClassVar[str] = "interlock.deploy.events"
    TYPE: ClassVar[str] = "io.interlock.version_drained.v1"
    KEY: ClassVar[str] = "endpoint"
    SCHEMA: ClassVar[str] = (
        '{"type":"record","namespace":"io.interlock","name":"VersionDrained","doc":"The version answered its '
        'last request at this endpoint and its application was deleted.","fields":[{"name":"endpoint","type":'
        '"string","doc":"The endpoint\'s name, which its topics begin with."}'
        ',{"name":"model","type":"string","doc":"The model\'s name."}'
        ',{"name":"version","type":"int","doc":"The version\'s number within its model, from 1."}'
        ',{"name":"digest","type":"string","doc":"The version\'s identity: `sha256:` and 64 hexadecimal digits'
        ' over manifest and artifact."}'
        ',{"name":"application","type":"string","doc":"The Ray Serve application that runs the version."}'
        ',{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"When it happened, in UT'
        'C."}]}'
    )

    endpoint: str
    """The endpoint's name, which its topics begin with."""
    model: str
    """The model's name."""
    version: int
    """The version's number within its model, from 1."""
    digest: str
    """The version's identity: `sha256:` and 64 hexadecimal digits over manifest and artifact."""
    application: str
    """The Ray Serve application that runs the version."""
    at: datetime
    """When it happened, in UTC."""


class DeployFailed(Event, frozen=True, kw_only=True):
    """The version could not be brought up for the endpoint; the route stays as it was."""

    SCHEMA_ID: ClassVar[int] = 16
    TOPIC: ClassVar[str] = "interlock.deploy.events"
    TYPE: ClassVar[str] = "io.interlock.deploy_failed.v1"
    KEY: ClassVar[str] = "endpoint"
    SCHEMA: ClassVar[str] = (
        '{"type":"record","namespace":"io.interlock","name":"DeployFailed","doc":"The version could not be br'
        'ought up for the endpoint; the route stays as it was.","fields":[{"name":"endpoint","type":"string",'
        '"doc":"The endpoint\'s name, which its topics begin with."}'
        ',{"name":"model","type":"string","doc":"The model\'s name."}'
        ',{"name":"version","type":"int","doc":"The version\'s number within its model, from 1."}'
        ',{"name":"digest","type":"string","doc":"The version\'s identity: `sha256:` and 64 hexadecimal digits'
        ' over manifest and artifact."}'
        ',{"name":"code","type":"string","doc":"The id of the refusal, as in the reference of errors."}'
        ',{"name":"detail","type":"string","doc":"What failed, in words for the operator."}'
        ',{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"When it happened, in UT'
        'C."}]}'
    )

    endpoint: str
    """The endpoint's name, which its topics begin with."""
    model: str
    """The model's name."""
    version: int
    """The version's number within its model, from 1."""
    digest: str
    """The version's identity: `sha256:` and 64 hexadecimal digits over manifest and artifact."""
    code: str
    """The id of the refusal, as in the reference of errors."""
    detail: str
    """What failed, in words for the operator."""
    at: datetime
    """When it happened, in UTC."""
