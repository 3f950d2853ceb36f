"""A message: one record on its way to Kafka."""

from __future__ import annotations

from datetime import datetime

import msgspec


class Message(msgspec.Struct, frozen=True):
    """Topic and record; `at` becomes the record's timestamp."""

    topic: str
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
    at: datetime
