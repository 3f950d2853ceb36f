"""The events of `interlock.audit.checkpoints`: signed heads of the audit log, for anyone to keep.

Generated from schemas/ by `make generate`; not written by hand.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from interlock.schemas.event import Event


class CheckpointSigned(Event, frozen=True, kw_only=True):
    """A signed head of the audit log: so many entries, this root."""

    SCHEMA_ID: ClassVar[int] = 27
    TOPIC: ClassVar[str] = "interlock.audit.checkpoints"
    TYPE: ClassVar[str] = "io.interlock.checkpoint_signed.v1"
    KEY: ClassVar[str] = "log"
    SCHEMA: ClassVar[str] = (
        '{"type":"record","namespace":"io.interlock","name":"CheckpointSigned","doc":"A signed head of the au'
        'dit log: so many entries, this root.","fields":[{"name":"log","type":"string","doc":"The log\'s name '
        '(the origin of its checkpoints)."}'
        ',{"name":"size","type":"long","doc":"How many entries."}'
        ',{"name":"root","type":"string","doc":"`sha256:` and the RFC 6962 tree hash."}'
        ',{"name":"note","type":"string","doc":"The checkpoint as a signed note (C2SP tlog-checkpoint), co-si'
        'gned where `witnessed`."}'
        ',{"name":"witnessed","type":"boolean","doc":"Whether the witness has signed it."}'
        ',{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"When it happened, in UT'
        'C."}]}'
    )

    log: str
    """The log's name (the origin of its checkpoints)."""
    size: int
    """How many entries."""
    root: str
    """`sha256:` and the RFC 6962 tree hash."""
    note: str
    """The checkpoint as a signed note (C2SP tlog-checkpoint), co-signed where `witnessed`."""
    witnessed: bool
    """Whether the witness has signed it."""
    at: datetime
    """When it happened, in UTC."""


class WitnessLost(Event, frozen=True, kw_only=True):
    """The witness has not signed for too long: scoring goes on, promotions wait."""

    SCHEMA_ID: ClassVar[int] = 28
    TOPIC: ClassVar[str] = "interlock.audit.checkpoints"
    TYPE: ClassVar[str] = "io.interlock.witness_lost.v1"
    KEY: ClassVar[str] = "log"
    SCHEMA: ClassVar[str] = (
        '{"type":"record","namespace":"io.interlock","name":"WitnessLost","doc":"The witness has not signed f'
        'or too long: scoring goes on, promotions wait.","fields":[{"name":"log","type":"string","doc":"The l'
        "og's name.\"}"
        ',{"name":"size","type":"long","doc":"The newest size that the witness has signed."}'
        ',{"name":"detail","type":"string","doc":"What is the matter, in words."}'
        ',{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"When it happened, in UT'
        'C."}]}'
    )

    log: str
    """The log's name."""
    size: int
    """The newest size that the witness has signed."""
    detail: str
    """What is the matter, in words."""
    at: datetime
    """When it happened, in UTC."""


class WitnessReturned(Event, frozen=True, kw_only=True):
    """The witness signs again; promotions go on."""

    SCHEMA_ID: ClassVar[int] = 29
    TOPIC: ClassVar[str] = "interlock.audit.checkpoints"
    TYPE: ClassVar[str] = "io.interlock.witness_returned.v1"
    KEY: ClassVar[str] = "log"
    SCHEMA: ClassVar[str] = (
        '{"type":"record","namespace":"io.interlock","name":"WitnessReturned","doc":"The witness signs again;'
        ' promotions go on.","fields":[{"name":"log","type":"string","doc":"The log\'s name."}'
        ',{"name":"size","type":"long","doc":"The size that it has signed."}'
        ',{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"When it happened, in UT'
        'C."}]}'
    )

    log: str
    """The log's name."""
    size: int
    """The size that it has signed."""
    at: datetime
    """When it happened, in UTC."""
