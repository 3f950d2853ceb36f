"""The events of `{endpoint}.labels`: the truth about past requests, arriving late.

Generated from schemas/ by `make generate`; not written by hand.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from interlock.schemas.event import Event


class LabelRecorded(Event, frozen=True, kw_only=True):
    """The truth about one past request; a later one about the same request replaces it."""

    SCHEMA_ID: ClassVar[int] = 21
    TOPIC: ClassVar[str] = "{endpoint}.labels"
    TYPE: ClassVar[str] = "io.interlock.label_recorded.v1"
    KEY: ClassVar[str] = "request_id"
    SCHEMA: ClassVar[str] = (
        '{"type":"record","namespace":"io.interlock","name":"LabelRecorded","doc":"The truth about one past r'
        'equest; a later one about the same request replaces it.","fields":[{"name":"endpoint","type":"string'
        '","doc":"The endpoint\'s name, which its topics begin with."}'
        ',{"name":"request_id","type":"string","doc":"The request\'s id, as its sender chose it."}'
        ',{"name":"requested_at","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"The request\'s'
        ' own time, exactly as in the request: it says in which window to look."}'
        ',{"name":"label","type":"double","doc":"The truth: 1 for positive (fraud), 0 for negative; for a reg'
        'ression, the number itself."}'
        ',{"name":"weight","type":["null","double"],"default":null,"doc":"What the decision is worth, such as'
        ' the amount at stake; 1 where it is missing."}'
        ',{"name":"source","type":"string","doc":"Who says so: `chargeback`, `analyst`, `customer`."}'
        ',{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"When the truth was lear'
        'nt, in UTC."}]}'
    )

    endpoint: str
    """The endpoint's name, which its topics begin with."""
    request_id: str
    """The request's id, as its sender chose it."""
    requested_at: datetime
    """The request's own time, exactly as in the request: it says in which window to look."""
    label: float
    """The truth: 1 for positive (fraud), 0 for negative; for a regression, the number itself."""
    weight: float | None = None
    """What the decision is worth, such as the amount at stake; 1 where it is missing."""
    source: str
    """Who says so: `chargeback`, `analyst`, `customer`."""
    at: datetime
    """When the truth was learnt, in UTC."""
