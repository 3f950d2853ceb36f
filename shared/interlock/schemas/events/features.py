"""The events of `{endpoint}.features`: the newest online features of every entity, fed to the lanes.

Generated from schemas/ by `make generate`; not written by hand.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from interlock.schemas.event import Event


class FeatureUpdated(Event, frozen=True, kw_only=True):
    """The newest values of some online features of one entity; features not named keep theirs."""

    SCHEMA_ID: ClassVar[int] = 22
    TOPIC: ClassVar[str] = "{endpoint}.features"
    TYPE: ClassVar[str] = "io.interlock.feature_updated.v1"
    KEY: ClassVar[str] = "entity"
    SCHEMA: ClassVar[str] = (
        '{"type":"record","namespace":"io.interlock","name":"FeatureUpdated","doc":"The newest values of some'
        ' online features of one entity; features not named keep theirs.","fields":[{"name":"endpoint","type"'
        ':"string","doc":"The endpoint\'s name, which its topics begin with."}'
        ',{"name":"entity","type":"string","doc":"The entity that the features describe: the key of its reque'
        'sts."}'
        ',{"name":"values","type":{"type":"map","values":["null","double"]},"doc":"The features\' values by na'
        'me; null takes a value away."}'
        ',{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"When the values were tr'
        'ue, in UTC; an older record never replaces a newer one."}]}'
    )

    endpoint: str
    """The endpoint's name, which its topics begin with."""
    entity: str
    """The entity that the features describe: the key of its requests."""
    values: dict[str, float | None]
    """The features' values by name; null takes a value away."""
    at: datetime
    """When the values were true, in UTC; an older record never replaces a newer one."""
