"""The platform's events and topics: generated from `schemas/`, with the few words that are written by hand."""

from __future__ import annotations

import msgspec

from interlock.schemas.event import Event
from interlock.schemas.topic import Topic
from interlock.schemas.topics import TOPICS

__all__ = ["TOPICS", "Event", "Topic", "control_topics", "endpoint_topic", "endpoint_topics"]


def control_topics() -> tuple[Topic, ...]:
    """Return the topics that exist once for the whole platform."""
    return tuple(topic for topic in TOPICS if not topic.template)


def endpoint_topics(endpoint: str, partitions: int) -> tuple[Topic, ...]:
    """Return the topics of one endpoint, each with that many partitions."""
    return tuple(
        msgspec.structs.replace(topic, name=endpoint_topic(topic.name, endpoint), partitions=partitions, template=False)
        for topic in TOPICS
        if topic.template
    )


def endpoint_topic(template: str, endpoint: str) -> str:
    """Return the name of an endpoint's topic, such as `fraud.requests` for `{endpoint}.requests`."""
    return template.replace("{endpoint}", endpoint)
