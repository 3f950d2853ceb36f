"""What may be counted: every request once, by the offsets that an observation covers (pure)."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from interlock.schemas.events import Observation

OBSERVATIONS = ".observations"
LABELS = ".labels"


class Place(NamedTuple):
    """A partition of observations, labels or requests."""

    topic: str
    partition: int


class Fit(StrEnum):
    """How an observation joins on to what is covered."""

    NEXT = "next"
    """It begins where the last one ended, or it is the first."""
    REPLAY = "replay"
    """All of it is covered: it was counted before."""
    MISSING = "missing"
    """Something between was never counted."""
    OVERLAP = "overlap"
    """A part of it is covered, a part not."""


def fit(covered: int | None, from_offset: int, next_offset: int) -> Fit:
    """Say how an observation of [from_offset, next_offset) joins on where everything up to `covered` was counted.

    Lanes write each observation in the transaction that moves their offset, so only NEXT should ever be seen.
    """
    if covered is None or from_offset == covered:
        return Fit.NEXT
    if from_offset > covered:
        return Fit.MISSING
    return Fit.REPLAY if next_offset <= covered else Fit.OVERLAP


def endpoint_of(topic: str) -> str:
    """Return the endpoint that a topic of observations or labels belongs to; raises ValueError for another topic."""
    for ending in (OBSERVATIONS, LABELS):
        if topic.endswith(ending):
            return topic.removesuffix(ending)
    raise ValueError(f"{topic} is neither one of observations nor one of labels")


def check(observation: Observation, topic: str, partition: int) -> None:
    """Raise ValueError for an observation that contradicts itself, or the place where it lies."""
    if observation.endpoint != endpoint_of(topic) or observation.partition != partition:
        raise ValueError(f"it is of {observation.endpoint}/{observation.partition} and lies in {topic}/{partition}")
    if observation.next_offset <= observation.from_offset:
        raise ValueError(f"it covers {observation.from_offset} to {observation.next_offset}")
    rows = sum(group.rows for group in observation.groups) + sum(each.rows for each in observation.rejected)
    if rows != observation.rows or rows > observation.next_offset - observation.from_offset:
        raise ValueError(f"its parts have {rows} rows, itself {observation.rows}")
