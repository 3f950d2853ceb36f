"""Labels as they arrive: which are refused, and which of several about one request stands."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from interlock.clock import milliseconds
from interlock.codec.observations import CLOCK_AHEAD_MILLISECONDS, REQUEST_ID_BYTES_MAX
from interlock.schemas.events import LabelRecorded

DAY_MILLISECONDS: Final = 86_400_000
TOPIC_SUFFIX: Final = ".labels"


class Arrived(NamedTuple):
    """A label and where it came from; `received_milliseconds` is the broker's own time of its record."""

    label: LabelRecorded
    topic: str
    partition: int
    offset: int
    received_milliseconds: int


class Refused(StrEnum):
    """Why a label is not kept."""

    NOT_FINITE = "not_finite"
    """Label or weight is no number: it would spoil every figure of its window."""
    NEGATIVE_WEIGHT = "negative_weight"
    """A decision cannot be worth less than nothing."""
    OTHER_ENDPOINT = "other_endpoint"
    """It stands in another endpoint's topic than the one that it names."""
    REQUEST_ID = "request_id"
    """Its request id is empty, or longer than the ids that observations tell: no request can ever be found."""
    LEARNT_IN_THE_FUTURE = "learnt_in_the_future"
    """It says to have been learnt after the broker received it: it would outrank every later correction."""
    TOO_LATE = "too_late"
    """It was learnt longer after its request than scores are kept."""


class Key(NamedTuple):
    """Which request a label is about: its id and its own time, exactly as in the request."""

    endpoint: str
    requested_at: int
    request_id: bytes


class Truth(NamedTuple):
    """What is known about a request. Of two truths the one learnt later stands, then the one recorded later."""

    at: int
    partition: int
    record: int
    label: float
    weight: float | None
    source: str

    @property
    def content(self) -> tuple[float, float | None, int, str]:
        """What was said, without where it was recorded."""
        return self.label, self.weight, self.at, self.source


class Said(NamedTuple):
    """A label that is kept: whose truth it is, what it says, and whether its sender's clock is ahead."""

    key: Key
    truth: Truth
    ahead: bool


class Change(NamedTuple):
    """What a run of labels does: the truths to write, the requests whose truth is another now, and the counts."""

    truths: dict[Key, Truth]
    changed: set[Key]
    counts: Counter[tuple[str, str]]


def endpoint_of(topic: str) -> str:
    """Return the endpoint that a topic of labels belongs to."""
    return topic.removesuffix(TOPIC_SUFFIX)


def read(arrived: Arrived, keep_days: float) -> Said | Refused:
    """Return what a label says, or why it is not kept.

    The label and the broker's time of its record decide, never the reader's clock: whoever reads the topic again
    comes to the same verdicts. `requested_at` may lie in the future, or behind `at`: that is what the labels of a
    sender look like whose clock is ahead. Such a label is kept as given, finds its request if there is one, and
    counts as `ahead`.
    """
    label = arrived.label
    request_id = label.request_id.encode()
    if endpoint_of(arrived.topic) != label.endpoint:
        return Refused.OTHER_ENDPOINT
    if not math.isfinite(label.label) or not math.isfinite(label.weight or 0.0):
        return Refused.NOT_FINITE
    if label.weight is not None and label.weight < 0:
        return Refused.NEGATIVE_WEIGHT
    if not 0 < len(request_id) <= REQUEST_ID_BYTES_MAX:
        return Refused.REQUEST_ID
    at, requested_at = milliseconds(label.at), milliseconds(label.requested_at)
    if at > arrived.received_milliseconds + CLOCK_AHEAD_MILLISECONDS:
        return Refused.LEARNT_IN_THE_FUTURE
    if at - requested_at > keep_days * DAY_MILLISECONDS:
        return Refused.TOO_LATE
    return Said(
        Key(label.endpoint, requested_at, request_id),
        Truth(at, arrived.partition, arrived.offset, label.label, label.weight, label.source),
        requested_at > min(at, arrived.received_milliseconds) + CLOCK_AHEAD_MILLISECONDS,
    )


def fold(known: Mapping[Key, Truth], labels: Iterable[Said]) -> Change:
    """Lay labels, in the order of their arrival, over what is known.

    Counts by (endpoint, what): `recorded` the first truth about a request, `corrected` another truth in place of an
    earlier one, `repeated` what changed nothing (the same again, or older than what is known); beside these `ahead`,
    whose request is dated after the broker received the label, or after the truth was learnt.
    """
    change = Change({}, set(), Counter())
    for key, truth, ahead in labels:
        before = change.truths.get(key) or known.get(key)
        change.counts[key.endpoint, _effect(before, truth)] += 1
        if ahead:
            change.counts[key.endpoint, "ahead"] += 1
        if before is None or truth[:3] > before[:3]:
            change.truths[key] = truth
            if before is None or truth.content != before.content:
                change.changed.add(key)
    return change


def _effect(before: Truth | None, truth: Truth) -> str:
    if before is None:
        return "recorded"
    stands = truth[:3] > before[:3] and (truth.label, truth.weight) != (before.label, before.weight)
    return "corrected" if stands else "repeated"
