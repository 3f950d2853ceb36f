"""The four kinds of failure, and the codes by which people recognise them.

A *refusal* is the domain saying no; a *transient* failure passes if one waits; *poison* is a record that no
retry will mend; anything else that is raised is a bug, and the process ends with its offset where it was.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

ALL_CODES: list[Code] = []


@dataclass(frozen=True)
class Code:
    """One refusal that a user can meet: its stable id, HTTP status, title and what to do about it."""

    id: str
    status: int
    title: str
    hint: str = field(default="")

    def __post_init__(self) -> None:
        """Register the code, so that the reference page and its test can list every one."""
        ALL_CODES.append(self)


class Reason(StrEnum):
    """Why a request became a dead letter: a closed list, so that it can be counted and acted upon."""

    BAD_FRAMING = "BAD_FRAMING"
    UNKNOWN_SCHEMA = "UNKNOWN_SCHEMA"
    TRUNCATED = "TRUNCATED"
    TRAILING_BYTES = "TRAILING_BYTES"
    MALFORMED = "MALFORMED"
    MISSING_FEATURE = "MISSING_FEATURE"
    TOO_LARGE = "TOO_LARGE"
    EMPTY = "EMPTY"
    MODEL_RAISED = "MODEL_RAISED"
    MODEL_TIMEOUT = "MODEL_TIMEOUT"
    MODEL_CRASHED = "MODEL_CRASHED"
    MODEL_NOT_FINITE = "MODEL_NOT_FINITE"
    MODEL_OUT_OF_RANGE = "MODEL_OUT_OF_RANGE"
    MODEL_WRONG_SHAPE = "MODEL_WRONG_SHAPE"


REASON_MEANINGS: dict[Reason, str] = {
    Reason.BAD_FRAMING: "The value does not begin with the Confluent frame (a zero byte and a schema id).",
    Reason.UNKNOWN_SCHEMA: "The schema id in the frame is not registered.",
    Reason.TRUNCATED: "The record ends before its schema does.",
    Reason.TRAILING_BYTES: "Bytes are left over after the record was read whole.",
    Reason.MALFORMED: "A value inside the record is impossible (a union branch, a length, text that is not UTF-8).",
    Reason.MISSING_FEATURE: "A feature that the version needs is absent or null.",
    Reason.TOO_LARGE: "The record is larger than the router accepts.",
    Reason.EMPTY: "The record has no value (a tombstone is not a request).",
    Reason.MODEL_RAISED: "The model raised an error for this row.",
    Reason.MODEL_TIMEOUT: "The model did not answer within its time.",
    Reason.MODEL_CRASHED: "The model's process died each time this row was scored.",
    Reason.MODEL_NOT_FINITE: "The model answered NaN or infinity.",
    Reason.MODEL_OUT_OF_RANGE: "The model's answer lies outside the range its signature declares.",
    Reason.MODEL_WRONG_SHAPE: "The model answered with another number of rows or outputs than asked.",
}


class InterlockError(Exception):
    """Root of what Interlock raises on purpose."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Refusal(InterlockError):
    """The domain says no. Never retried; over HTTP it becomes a problem document (RFC 9457)."""

    def __init__(self, code: Code, detail: str, **fields: Any) -> None:
        super().__init__(detail)
        self.code = code
        self.fields = fields

    def __str__(self) -> str:
        """Say the detail, and the hint where the code has one."""
        return f"{self.detail} {self.code.hint}".strip()


class Transient(InterlockError):
    """It may work later: back off for `retry_seconds`, keep the offset, try again."""

    def __init__(self, detail: str, retry_seconds: float = 1.0) -> None:
        super().__init__(detail)
        self.retry_seconds = retry_seconds


class Poison(InterlockError):
    """A record that no retry will mend: it becomes a dead letter with this reason."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
