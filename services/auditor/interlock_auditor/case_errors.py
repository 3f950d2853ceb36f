"""Why there is no case: the refusals of the auditor's case routes."""

from __future__ import annotations

from typing import Final

from interlock.errors import Code

CASE_COORDINATES: Final = Code(
    "CASE_COORDINATES",
    422,
    "A case is asked for by the request's coordinates",
    "Write them topic/partition/offset, such as fraud.requests/2/12345; each result carries them.",
)
CASE_UNKNOWN: Final = Code(
    "CASE_UNKNOWN",
    404,
    "There is no such request",
    "Look at topic, partition and offset; `interlock endpoint list` shows the endpoints.",
)
CASE_UNANSWERED: Final = Code(
    "CASE_UNANSWERED",
    409,
    "The request is not in the log yet",
    "Ask again in a moment; `interlock top` shows the endpoint's lag, `interlock audit head` how far the log is.",
)
CASE_UNWITNESSED: Final = Code(
    "CASE_UNWITNESSED",
    409,
    "No witness has seen the answer yet",
    "Ask again when the witness is back; `interlock audit head` shows it.",
)
CASE_GONE: Final = Code(
    "CASE_GONE",
    410,
    "The result is not in its topic any more",
    "Topics keep results for their retention; the log's entry of the batch remains: `interlock audit entries`.",
)
CASE_CONTRADICTED: Final = Code(
    "CASE_CONTRADICTED",
    409,
    "What the topics hold is not what the log says",
    "Somebody has changed a topic or the log: keep both as they are, and run `interlock audit verify`.",
)
CASE_INCOMPLETE: Final = Code(
    "CASE_INCOMPLETE",
    409,
    "The log does not hold all that the case needs",
    "The auditor may still be catching up: `interlock audit head` shows it. Ask again when it has.",
)
CASE_AMBIGUOUS: Final = Code(
    "CASE_AMBIGUOUS",
    409,
    "Several requests have this id",
    "Ask for one of the coordinates named.",
)
