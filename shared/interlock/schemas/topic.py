"""A topic as the platform declares it: who owns it, who may write and read it, and how Kafka is to keep it."""

from __future__ import annotations

import msgspec


class Topic(msgspec.Struct, frozen=True, kw_only=True):
    """One topic, or the template of one topic per endpoint."""

    name: str
    """The name in Kafka; a template holds `{endpoint}`."""
    owner: str
    """The service that decides about the topic."""
    key: str
    """The field that is the record's key, or `any` where the writer chooses."""
    partitions: int
    """How many; 0 in a template, where the endpoint decides."""
    config: dict[str, str]
    """Kafka's own settings for the topic."""
    events: tuple[str, ...]
    """The names of the events on it; none where the endpoint's own schemas rule."""
    writers: tuple[str, ...]
    """The principals that may write."""
    readers: tuple[str, ...]
    """The principals that may read."""
    compatibility: str
    """The level that each new schema on the topic must keep."""
    template: bool
    """Whether every endpoint has one of its own."""
