"""What the builder refuses, by code: each of these can stand in a BuildFailed event."""

from __future__ import annotations

from typing import Final

from interlock.errors import Code, Reason

DIGEST_MISMATCH = Code(
    "DIGEST_MISMATCH", 422, "The stored bytes are not those that were registered", "Restore the blob store from a copy."
)
FILE_MISSING = Code("FILE_MISSING", 422, "A file that the manifest names is not in the version", "Commit it and push.")
FILE_TOO_LARGE = Code("FILE_TOO_LARGE", 422, "A file of the version is larger than the builder accepts", "Shrink it.")
DATA_INVALID = Code(
    "DATA_INVALID",
    422,
    "A gate's data set cannot be read",
    "It must be CSV or Parquet with a column for every input, by its name, and one for the label.",
)
ANSWER_NOT_FINITE = Code(
    "ANSWER_NOT_FINITE",
    422,
    "The model answers NaN or infinity",
    "Find the rows named; a missing value may be the cause.",
)
ANSWER_OUT_OF_RANGE = Code(
    "ANSWER_OUT_OF_RANGE",
    422,
    "The model answers outside the range that its signature declares",
    "Correct minimum and maximum of [[outputs]], or the model.",
)
ANSWER_SHAPE = Code(
    "ANSWER_SHAPE",
    422,
    "The model answers with another number of rows or outputs than asked",
    "Score several rows by the artifact on your own machine.",
)
BUILD_ABANDONED = Code(
    "BUILD_ABANDONED",
    422,
    "The build was begun several times and never ended",
    "Look at the builder's log; push a new version to try again.",
)

BY_REASON: Final = {
    Reason.MODEL_WRONG_SHAPE: ANSWER_SHAPE,
    Reason.MODEL_NOT_FINITE: ANSWER_NOT_FINITE,
    Reason.MODEL_OUT_OF_RANGE: ANSWER_OUT_OF_RANGE,
}
