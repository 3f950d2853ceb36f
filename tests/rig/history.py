"""What happened to an endpoint, as a stranger reads it from Kafka: the facts, and the words for what is wrong in them.

`tests.rig.history_reading.gather` collects a History by a plain Kafka client, `tests.rig.history_check.check` judges
it. Nothing here or there stands on the product's own code: what is recomputed is recomputed from its documents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int64]


class Kind(StrEnum):
    """Everything that can be wrong; the list is closed."""

    LOST = "lost"
    """A request without any result, or one that Kafka acknowledged and no longer has."""
    DUPLICATE = "duplicate"
    """A request with more than one result or more than one dead letter."""
    ABORTED_VISIBLE = "aborted-visible"
    """What was never committed had an effect: an aborted request was answered, or an aborted record was committed."""
    TORN = "torn"
    """Results, dead letters, observation, digest and offset of one batch that are not one transaction."""
    ORDER = "order"
    """Results of one key in another order than its requests."""
    OFFSET_REGRESSION = "offset-regression"
    """The group's committed offset went back."""
    OFFSET_AHEAD = "offset-ahead"
    """The group's committed offset is past what was answered."""
    WRONG_VERSION = "wrong-version"
    """The result names a version, digest or arm that did not give the score, or that the route does not ask."""
    WRONG_SCORE = "wrong-score"
    """The score is no version's answer to this request."""
    WRONG_COORDINATES = "wrong-coordinates"
    """Id, key, time, topic or partition of a result are not those of the request it answers."""
    HALF_REJECTED = "half-rejected"
    """A rejection without its dead letter, or a dead letter without its rejection, or one that differs."""
    OBSERVATION_GAP = "observation-gap"
    """Offsets that no observation (or no batch digest) covers, between two that do."""
    OBSERVATION_OVERLAP = "observation-overlap"
    """Offsets that two observations (or two batch digests) cover."""
    COUNT = "count"
    """An observation's rows or a batch's counts and digests that disagree with the results."""
    STALE_EPOCH = "stale-epoch"
    """An older epoch at work after a newer one: of the route in a partition, of a lease in a journal."""
    UNKNOWN_REQUEST = "unknown-request"
    """A result or a dead letter for coordinates that no request has."""
    UNREADABLE = "unreadable"
    """A record that its schema does not read to its last byte."""
    WEAK_ACKS = "weak-acks"
    """A produce request that did not ask for the acknowledgement of all replicas."""
    EVENT_LOST = "event-lost"
    """An event of the journal that was never published, or whose effect is missing."""
    EVENT_DUPLICATE = "event-duplicate"
    """An event that took effect twice, or that was published twice under different ids or with different bytes."""
    EVENT_ORDER = "event-order"
    """Events of one key that were published, or took effect, in another order than the journal's."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong: what, where, which request, and what should have been there."""

    kind: Kind
    topic: str
    partition: int
    offset: int
    """Where it shows; -1 where it is about no single record."""
    request_id: str
    expected: str
    found: str

    def __str__(self) -> str:
        """Return one line for a person."""
        where = f"{self.topic}/{self.partition}" + (f"/{self.offset}" if self.offset >= 0 else "")
        return f"{self.kind}: {where} {self.request_id or '-'}: expected {self.expected}; found {self.found}"


class Sent(NamedTuple):
    """A request that Kafka acknowledged to the test's own producer; a sequence of them is in the order of sending."""

    request_id: str
    key: bytes | None
    partition: int
    offset: int


class Request(NamedTuple):
    """A committed request; `number` and the texts are empty where its value cannot be read."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    request_id: str
    number: float | None
    requested_at: int


class Result(NamedTuple):
    """A committed result. `at_partition` and `position` are where it stands, the rest is what it says."""

    at_partition: int
    position: int
    key: bytes | None
    value: bytes
    request_id: str
    topic: str
    partition: int
    offset: int
    requested_at: int
    score: float | None
    model: str
    version: int
    digest: str
    epoch: int
    arm: str
    schema_id: int
    scored_at: int
    rejection: str | None
    dead_letter: str | None


class Letter(NamedTuple):
    """A committed dead letter."""

    at_partition: int
    position: int
    record_key: bytes | None
    name: str
    reason: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    version: int | None


class Group(NamedTuple):
    """What one arm answered in an observation, with the offsets made absolute."""

    arm: str
    version: int
    digest: str
    offsets: tuple[int, ...]
    request_ids: tuple[str, ...]
    scores: tuple[float, ...]


class Observed(NamedTuple):
    """A committed observation; `rejected` counts by (reason, arm, version)."""

    position: int
    partition: int
    from_offset: int
    next_offset: int
    rows: int
    epoch: int
    groups: tuple[Group, ...]
    rejected: Mapping[tuple[str, str, int], int]


class Digested(NamedTuple):
    """A committed batch digest; `versions` counts by (arm, version, digest)."""

    position: int
    partition: int
    from_offset: int
    next_offset: int
    first_offset: int
    rows: int
    rejected: int
    epoch: int
    results_digest: str
    requests_digest: str
    versions: Mapping[tuple[str, int, str], int]


class Commit(NamedTuple):
    """The group's offset of a partition, once committed; `position` is where its coordinator wrote it down."""

    position: int
    partition: int
    offset: int


class Arm(NamedTuple):
    """One arm of a route."""

    name: str
    version: int
    digest: str
    weight: int


def sums(number: float, version: int) -> float:
    """Return what version V of tests/integration/router/rig.py answers: the number, and V in the low digits."""
    return float(np.floor(number) + version / 1000)


def numbered(number: float, version: int) -> float:
    """Return what version V of `tests.fault.numbered` answers: V times 10^9, and the number."""
    return version * 1_000_000_000 + number


@dataclass
class History:
    """Everything that is known of an endpoint and the group that answers it; lists are in the order of the log."""

    endpoint: str
    group: str
    sent: Sequence[Sent] = ()
    requests: list[Request] = field(default_factory=list)
    aborted: set[tuple[int, int]] = field(default_factory=set)
    """Coordinates of requests whose transaction was aborted, or never ended."""
    results: list[Result] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    observed: list[Observed] = field(default_factory=list)
    digested: list[Digested] = field(default_factory=list)
    positions: dict[tuple[str, int], Positions] = field(default_factory=dict)
    """Of each topic (`results`, `dead-letters`, `observations`, `batches`) and partition: every offset that holds a
    record, aborted ones included; what is missing between them are the markers of transactions."""
    ends: dict[tuple[str, int], int] = field(default_factory=dict)
    """Of the same partitions: the offset behind everything."""
    commits: list[Commit] = field(default_factory=list)
    """The group's commits in the order in which its coordinator wrote them; aborted ones are not among them."""
    committed: dict[int, int] = field(default_factory=dict)
    """Where the group stands in the end."""
    markers: int | None = None
    """How many markers of transactions the partition of the group's coordinator holds; None where nobody looked."""
    acks: Mapping[int, int] = field(default_factory=dict)
    """How many produce requests asked for which acknowledgement (-1 is all), where a proxy counted them."""
    unreadable: list[Violation] = field(default_factory=list)


@dataclass(frozen=True)
class Rules:
    """What the test knows beside the history."""

    score: Callable[[float, int], float] = sums
    routes: Mapping[int, Sequence[Arm]] | None = None
    """The arms of each epoch; None where the test does not say, and then only what results say is compared."""
    complete: bool = True
    """Whether everything must be answered by now."""


class Journalled(NamedTuple):
    """An event that a service decided, as its journal holds it, in the order of the journal."""

    position: int
    event_id: str
    topic: str
    key: str
    value: bytes
    epoch: int | None = None
    """The epoch of the lease under which it was decided, where there was one."""


class Published(NamedTuple):
    """An event as a read_committed consumer got it."""

    topic: str
    partition: int
    offset: int
    key: str
    event_id: str
    value: bytes


class Effect(NamedTuple):
    """An effect that a reader of the events left behind, in the order in which it did."""

    key: str
    event_id: str


Schemas = Callable[[int], Any]
"""Returns the Avro schema of an id; raises KeyError for one that nobody registered."""
