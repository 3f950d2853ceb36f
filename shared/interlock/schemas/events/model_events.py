"""The events of `interlock.model.events`: what happened to models, versions, endpoints, approvals and promotions.

Generated from schemas/ by `make generate`; not written by hand.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from interlock.schemas.event import Event


class ModelCreated(Event, frozen=True, kw_only=True):
    """A model was named, and somebody owns it."""

    SCHEMA_ID: ClassVar[int] = 1
    TOPIC: ClassVar[str] = "interlock.model.events"
    TYPE: ClassVar[str] = "io.interlock.model_created.v1"
    KEY: ClassVar[str] = "model"
    SCHEMA: ClassVar[str] = (
        '{"type":"record","namespace":"io.interlock","name":"ModelCreated","doc":"A model was named, and some'
        'body owns it.","fields":[{"name":"model","type":"string","doc":"The model\'s name."}'
        ',{"name":"owner","type":"string","doc":"The team or person who answers for the model."}'
        ',{"name":"created_by","type":"string","doc":"The subject whose command or push named the model."}'
        ',{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"When it happened, in UT'
        'C."}]}'
    )

    model: str
    """The model's name."""
    owner: str
    """The team or person who answers for the model."""
    created_by: str
    """The subject whose command or push named the model."""
    at: datetime
    """When it happened, in UTC."""


class VersionRegistered(Event, frozen=True, kw_only=True):
    """A version was pushed and taken in: it has a number and an identity; nothing is proven about it yet."""

    SCHEMA_ID: ClassVar[int] = 2
    TOPIC: ClassVar[str] = "interlock.model.events"
    TYPE: ClassVar[str] = "io.interlock.version_registered.v1"
    KEY: ClassVar[str] = "model"
    SCHEMA: ClassVar[str] = (
        '{"type":"record","namespace":"io.interlock","name":"VersionRegistered","doc":"A version was pushed a'
        'nd taken in: it has a number and an identity; nothing is proven about it yet.","fields":[{"name":"mo'
        'del","type":"string","doc":"The model\'s name."}'
        ',{"name":"version","type":"int","doc":"The version\'s number within its model, from 1."}'
        ',{"name":"digest","type":"string","doc":"The version\'s identity: `sha256:` and 64 hexadecimal digits'
        ' over manifest and artifact."}'
        ',{"name":"manifest","type":"string","doc":"The text of `interlock.toml`, as pushed."}'
        ',{"name":"manifest_digest","type":"string","doc":"The content address of the manifest\'s bytes."}'
        ',{"name":"artifact_digest","type":"string","doc":"The content address of the artifact\'s bytes."}'
        ',{"name":"artifact_format","type":"string","doc":"The artifact\'s format: onnx, xgboost or lightgbm."'
        "}"
        ',{"name":"artifact_bytes","type":"long","doc":"The artifact\'s size in bytes."}'
        ',{"name":"files","type":{"type":"map","values":"string"},"doc":"Every file that the manifest names, '
        'by its path in the tree, with its content address."}'
        ',{"name":"commit","type":"string","doc":"The git commit that was pushed, 40 hexadecimal digits."}'
        ',{"name":"author","type":"string","doc":"The subject who pushed; never allowed to approve this versi'
        'on."}'
        ',{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"When it happened, in UT'
        'C."}]}'
    )

    model: str
    """The model's name."""
    version: int
    """The version's number within its model, from 1."""
    digest: str
    """The version's identity: `sha256:` and 64 hexadecimal digits over manifest and artifact."""
    manifest: str
    """The text of `interlock.toml`, as pushed."""
    manifest_digest: str
    """The content address of the manifest's bytes."""
    artifact_digest: str
    """The content address of the artifact's bytes."""
    artifact_format: str
    """The artifact's format: onnx, xgboost or lightgbm."""
    artifact_bytes: int
    """The artifact's size in bytes."""
    files: dict[str, str]
    """Every file that the manifest names, by its path in the tree, with its content address."""
    commit: str
    """The git commit that was pushed, 40 hexadecimal digits."""
    author: str
    """The subject who pushed; never allowed to approve this version."""
    at: datetime
    """When it happened, in UTC."""


class VersionApproved(Event, frozen=True, kw_only=True):
    """A person other than the author consented to one digest with one body of evidence for one endpoint."""

    SCHEMA_ID: ClassVar[int] = 3
    TOPIC: ClassVar[str] = "interlock.model.events"
    TYPE: ClassVar[str] = "io.interlock.version_approved.v1"
    KEY: ClassVar[str] = "model"
    SCHEMA: ClassVar[str] = (
        '{"type":"record","namespace":"io.interlock","name":"VersionApproved","doc":"A person other than the '
        'author consented to one digest with one body of evidence for one endpoint.","fields":[{"name":"model'
        '","type":"string","doc":"The model\'s name."}'
        ',{"name":"version","type":"int","doc":"The version\'s number within its model, from 1."}'
        ',{"name":"digest","type":"string","doc":"The version\'s identity: `sha256:` and 64 hexadecimal digits'
        ' over manifest and artifact."}'
        ',{"name":"endpoint","type":"string","doc":"The endpoint\'s name, which its topics begin with."}'
        ',{"name":"evidence_digest","type":"string","doc":"The content address of the evidence that the appro'
        'ver consented to."}'
        ',{"name":"approver","type":"string","doc":"The subject who approved."}'
        ',{"name":"note","type":"string","doc":"What the approver had to say; may be empty."}'
        ',{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"When it happened, in UT'
        'C."}]}'
    )

    model: str
    """The model's name."""
    version: int
    """The version's number within its model, from 1."""
    digest: str
    """The version's identity: `sha256:` and 64 hexadecimal digits over manifest and artifact."""
    endpoint: str
    """The endpoint's name, which its topics begin with."""
    evidence_digest: str
    """The content address of the evidence that the approver consented to."""
    approver: str
    """The subject who approved."""
    note: str
    """What the approver had to say; may be empty."""
    at: datetime
    """When it happened, in UTC."""


class EndpointCreated(Event, frozen=True, kw_only=True):
    """An endpoint was created for a model; its topics follow."""

    SCHEMA_ID: ClassVar[int] = 4
    TOPIC: ClassVar[str] = "interlock.model.events"
    TYPE: ClassVar[str] = "io.interlock.endpoint_created.v1"
    KEY: ClassVar[str] = "model"
    SCHEMA: ClassVar[str] = (
        '{"type":"record","namespace":"io.interlock","name":"EndpointCreated","doc":"An endpoint was created '
        'for a model; its topics follow.","fields":[{"name":"endpoint","type":"string","doc":"The endpoint\'s '
        'name, which its topics begin with."}'
        ',{"name":"model","type":"string","doc":"The model\'s name."}'
        ',{"name":"partitions","type":"int","doc":"How many partitions the endpoint\'s topics have; as many la'
        'nes work side by side."}'
        ',{"name":"created_by","type":"string","doc":"The subject who created it."}'
        ',{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"When it happened, in UT'
        'C."}]}'
    )

    endpoint: str
    """The endpoint's name, which its topics begin with."""
    model: str
    """The model's name."""
    partitions: int
    """How many partitions the endpoint's topics have; as many lanes work side by side."""
    created_by: str
    """The subject who created it."""
    at: datetime
    """When it happened, in UTC."""


class VersionPromoted(Event, frozen=True, kw_only=True):
    """A proven, approved version was ordered to become champion: the event that outside services subscribe to."""

    SCHEMA_ID: ClassVar[int] = 5
    TOPIC: ClassVar[str] = "interlock.model.events"
    TYPE: ClassVar[str] = "io.interlock.version_promoted.v1"
    KEY: ClassVar[str] = "model"
    SCHEMA: ClassVar[str] = (
        '{"type":"record","namespace":"io.interlock","name":"VersionPromoted","doc":"A proven, approved versi'
        'on was ordered to become champion: the event that outside services subscribe to.","fields":[{"name":'
        '"endpoint","type":"string","doc":"The endpoint\'s name, which its topics begin with."}'
        ',{"name":"model","type":"string","doc":"The model\'s name."}'
        ',{"name":"version","type":"int","doc":"The version\'s number within its model, from 1."}'
        ',{"name":"digest","type":"string","doc":"The version\'s identity: `sha256:` and 64 hexadecimal digits'
        ' over manifest and artifact."}'
        ',{"name":"promotion","type":"long","doc":"The number of the order; it rises per endpoint over promot'
        'ions and rollbacks alike."}'
        ',{"name":"actor","type":"string","doc":"The subject who ordered it."}'
        ',{"name":"previous_version","type":["null","int"],"default":null,"doc":"The champion before this one'
        ", or null for the endpoint's first.\"}"
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
    promotion: int
    """The number of the order; it rises per endpoint over promotions and rollbacks alike."""
    actor: str
    """The subject who ordered it."""
    previous_version: int | None = None
    """The champion before this one, or null for the endpoint's first."""
    at: datetime
    """When it happened, in UTC."""


class RollbackOrdered(Event, frozen=True, kw_only=True):
    """An operator ordered the endpoint back to an earlier version."""

    SCHEMA_ID: ClassVar[int] = 6
    TOPIC: ClassVar[str] = "interlock.model.events"
    TYPE: ClassVar[str] = "io.interlock.rollback_ordered.v1"
    KEY: ClassVar[str] = "model"
    SCHEMA: ClassVar[str] = (
        '{"type":"record","namespace":"io.interlock","name":"RollbackOrdered","doc":"An operator ordered the '
        'endpoint back to an earlier version.","fields":[{"name":"endpoint","type":"string","doc":"The endpoi'
        "nt's name, which its topics begin with.\"}"
        ',{"name":"model","type":"string","doc":"The model\'s name."}'
        ',{"name":"promotion","type":"long","doc":"The number of the order; it rises per endpoint over promot'
        'ions and rollbacks alike."}'
        ',{"name":"from_version","type":"int","doc":"The version that is champion now."}'
        ',{"name":"to_version","type":"int","doc":"The version to go back to."}'
        ',{"name":"to_digest","type":"string","doc":"That version\'s identity."}'
        ',{"name":"actor","type":"string","doc":"The subject who ordered it."}'
        ',{"name":"reason","type":"string","doc":"Why, in the operator\'s words; may be empty."}'
        ',{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"When it happened, in UT'
        'C."}]}'
    )

    endpoint: str
    """The endpoint's name, which its topics begin with."""
    model: str
    """The model's name."""
    promotion: int
    """The number of the order; it rises per endpoint over promotions and rollbacks alike."""
    from_version: int
    """The version that is champion now."""
    to_version: int
    """The version to go back to."""
    to_digest: str
    """That version's identity."""
    actor: str
    """The subject who ordered it."""
    reason: str
    """Why, in the operator's words; may be empty."""
    at: datetime
    """When it happened, in UTC."""
