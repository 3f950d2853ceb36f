"""How a call to a version can fail, other than by its servers being away (`Transient`)."""

from __future__ import annotations

from typing import Final

from interlock.errors import InterlockError

DETAIL_CHARACTERS_MAX: Final = 2000
_LINE_CHARACTERS_MAX: Final = 300


class ModelRaised(InterlockError):
    """The model raised an error for the rows given; the replica lives. `detail` is the error's own text."""


class ModelTimedOut(InterlockError):
    """The model did not answer within its time; the replica ends itself and is started again."""


class ModelDied(InterlockError):
    """The replica died while it had the call: the rows may have killed it, or something else may have."""


def raised(error: BaseException) -> ModelRaised:
    """Return what callers are told of a model's own error: its type and first line.

    The error itself never leaves the replica: its class may be unknown elsewhere, or not fit to be sent.
    """
    return ModelRaised(f"{type(error).__name__}: {first_line(error)}"[:DETAIL_CHARACTERS_MAX])


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its type's name where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:_LINE_CHARACTERS_MAX]
