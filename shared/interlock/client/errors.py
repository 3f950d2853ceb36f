"""What goes wrong between a client and the platform, each with what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from interlock.errors import Code, InterlockError, Refusal, Transient

ADDRESS_UNKNOWN = Code(
    "ADDRESS_UNKNOWN",
    400,
    "The client does not know where the platform is",
    "Start one here with `interlock up`, or set the variables that `interlock env` prints where it runs.",
)
FEATURE_MISSING = Code(
    "FEATURE_MISSING",
    422,
    "A request lacks a feature",
    "Give every feature that `interlock endpoint show` lists as required.",
)
FEATURE_UNKNOWN = Code(
    "FEATURE_UNKNOWN",
    422,
    "A request has a feature that the endpoint does not know",
    "Leave it out, or correct its name.",
)
FEATURE_TYPE = Code(
    "FEATURE_TYPE", 422, "A feature's value has the wrong type", "Give the type that `interlock endpoint show` lists."
)
ENDPOINT_NOT_READY = Code(
    "ENDPOINT_NOT_READY",
    409,
    "The endpoint cannot take requests yet",
    "It gets its schemas with the first version of its model: push one, then try again.",
)


class RequestInvalid(Refusal):
    """A request that would be refused, caught before anything is sent. `problems` lists every one of them."""

    def __init__(self, code: Code, problems: Sequence[str]) -> None:
        super().__init__(code, "; ".join(problems), problems=list(problems))
        self.problems = list(problems)


class MissingFeature(RequestInvalid):
    """A feature without a value that must have one."""


class UnknownFeature(RequestInvalid):
    """A name that is none of the endpoint's features."""


class WrongType(RequestInvalid):
    """A value that its feature's type does not allow."""


class Refused(InterlockError):
    """The platform said no: its problem document (RFC 9457) as an exception.

    `status` is the HTTP status, `code` the stable name of the refusal, `why` its title, `do` what to do about it,
    and `fields` whatever else the document says.
    """

    def __init__(self, status: int, document: dict[str, Any]) -> None:
        super().__init__(str(document.get("detail") or document.get("title") or f"HTTP status {status}"))
        kind = str(document.get("type", "")).rsplit("/", 1)[-1].rsplit(":", 1)[-1]
        self.status = status
        self.code = str(document.get("code") or kind)
        self.why = f"{document.get('title') or 'refused'} ({self.code or status})"
        self.do = str(document.get("hint") or "")
        self.fields = document


class Away(Transient):
    """The registry cannot be reached, or is not ready, after several tries."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"{url} does not answer: {reason}")
        self.do = "look at `interlock status`; if nothing runs there, `interlock up`."


class TimedOut(Transient):
    """A result that was waited for did not come in time. The request may still be answered."""
