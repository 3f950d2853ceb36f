"""What can go wrong in the router alone: an answer that is not the routed version's, and a lane that must end."""

from __future__ import annotations

from interlock.errors import InterlockError, Transient


class WrongVersion(Transient):
    """A replica echoed another digest than the route names: nothing may be answered until that is mended."""


class RouteMoved(InterlockError):
    """The route changed while a batch waited for its version: the batch is scored by the new route."""
