"""What the monitor refuses, and what makes it begin again from what Postgres holds."""

from __future__ import annotations

from typing import Final

from interlock.errors import Code, Transient

ENDPOINT_UNKNOWN: Final = Code(
    "ENDPOINT_UNWATCHED",
    404,
    "The monitor knows no such endpoint",
    "An endpoint is watched from its first route on: promote a version for it.",
)
WINDOW_UNKNOWN: Final = Code(
    "WINDOW_UNKNOWN",
    404,
    "There is no such window, or its sketches are not kept any more",
    "GET /v1/endpoints/{endpoint}/windows lists those there are.",
)


class Stale(Transient):
    """Another monitor has moved a position that this one stood on: what was taken in here is thrown away."""


class Reread(Transient):
    """An observation does not join on to what is counted: the stream goes back to see whether one was skipped."""


class Stalled(Transient):
    """Something waits to be read and nothing moves: Faust, or the driver below it, has lost its way."""
