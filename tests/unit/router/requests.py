"""A request as a batch needs it of a Kafka record, for tests that make their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class Request:
    """A record of requests."""

    offset: int
    value: bytes | None = b"v"
    timestamp: int = 1_700_000_000_000
    key: bytes | None = b"k"
    headers: Sequence[tuple[str, bytes]] = ()
