"""How a call to a version can fail, other than by its servers being away (`Transient`)."""

from __future__ import annotations

from interlock.errors import InterlockError


class ModelRaised(InterlockError):
    """The model raised an error for the rows given; the replica lives. `detail` is the error's own text."""


class ModelTimedOut(InterlockError):
    """The model did not answer within its time; the replica ends itself and is started again."""


class ModelDied(InterlockError):
    """The replica died while it had the call: the rows may have killed it, or something else may have."""
