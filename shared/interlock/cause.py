"""A cause: who or what brought something about, carried from the first command to the last event."""

from __future__ import annotations

import re

import msgspec

from interlock.ids import uuid7

_TRACEPARENT = re.compile(r"^[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?$")


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """Why a unit of work happens: the event or request before it, the whole story it belongs to, and the person."""

    event_id: str
    """Id of the event or request that directly led here; becomes `ce_causationid` of what follows."""
    correlation_id: str
    """Id of the first command of the story; never changes on the way."""
    traceparent: str | None = None
    """W3C trace context of the work in hand, or None where nothing is traced."""
    actor: str = "interlock"
    """Subject of the person or service that gave the first command."""

    @classmethod
    def start(cls, actor: str, traceparent: str | None = None) -> Cause:
        """Begin a story: the request's own new id is both its cause and its correlation."""
        name = uuid7()
        return cls(event_id=name, correlation_id=name, traceparent=valid_traceparent(traceparent), actor=actor)


def valid_traceparent(text: str | None) -> str | None:
    """Return the text if it is a W3C traceparent with non-zero ids, else None: a bad one begins a new trace."""
    if text is None or text[:2] == "ff" or not _TRACEPARENT.match(text):
        return None
    return text
