"""What a batch leaves behind for those who watch: its observation for the monitor, its digest for the audit log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from interlock.codec import batches, rows
from interlock.codec.observations import OFFSETS_MAX, Answered, Refused, Seen, observe_all
from interlock.codec.ragged import Ragged
from interlock.ids import request_name
from interlock.kafka.headers import cloudevents
from interlock.kafka.partition import TopicPartition
from interlock.kafka.prepared import Pieces, Record
from interlock.schemas.events import AnsweredBy, BatchAnswered, Observation
from interlock_router.batch import Batch
from interlock_router.dead_letters import SOURCE
from interlock_router.model import Arm
from interlock_router.results import Answer, Rejected
from interlock_router.score import Scored

OBSERVATION_BYTES_MAX = 3 * 1024 * 1024
"""What one observation takes at most as columns; its topic takes records of 4 MiB."""

_NO_ARM = ("", "", 0, "")


@dataclass(frozen=True)
class Stretch:
    """Where a batch lies in its partition of requests, and when the lane had it."""

    source: TopicPartition
    from_offset: int
    next_offset: int
    taken_at: datetime


def begin(behind: int | None, first_offset: int) -> int:
    """Return where a batch begins: behind the batch before, or at its first request where nothing was ever committed.

    Also there where so many offsets were lost between the two that an observation could not count them.
    """
    return first_offset if behind is None or first_offset - behind >= OFFSETS_MAX // 2 else behind


def observations(
    stretch: Stretch, batch: Batch, scored: Scored, at: datetime, columns_bytes_max: int, traceparent: str | None
) -> list[Record]:
    """Return the records for the endpoint's topic of observations: one, or several for a very wide model."""
    seen = Seen(
        endpoint=scored.table.endpoint,
        topic=stretch.source.topic,
        partition=stretch.source.partition,
        from_offset=stretch.from_offset,
        next_offset=stretch.next_offset,
        epoch=scored.table.epoch,
        taken_at=stretch.taken_at,
        at=at,
        answered=tuple(_answered(batch, arm, answers) for arm, answers in _by_arm(scored.answers)),
        refused=tuple(_refused(batch, scored.rejected)),
    )
    return [_record(each, traceparent) for each in observe_all(seen, columns_bytes_max, OBSERVATION_BYTES_MAX)]


def batches_answered(
    stretch: Stretch, batch: Batch, scored: Scored, values: Ragged, at: datetime, traceparent: str | None
) -> list[Record]:
    """Return the one record for the endpoint's topic of batches; `values` are the results as they are written."""
    answered = BatchAnswered(
        endpoint=scored.table.endpoint,
        topic=stretch.source.topic,
        partition=stretch.source.partition,
        from_offset=stretch.from_offset,
        next_offset=stretch.next_offset,
        first_offset=batch.records[0].offset,
        rows=len(values),
        rejected=len(scored.rejected),
        epoch=scored.table.epoch,
        results_digest=batches.digest(values),
        requests_digest=batches.digest(_requests(batch)),
        versions=tuple(
            AnsweredBy(
                arm=arm.name,
                model=arm.model,
                version=arm.version,
                digest=arm.digest,
                rows=sum(answer.rows.size for answer in answers),
            )
            for arm, answers in _by_arm(scored.answers)
        ),
        at=at,
    )
    return [_record(answered, traceparent)]


def _requests(batch: Batch) -> Ragged | list[bytes | None]:
    """Return the requests' values, as they were joined to be read, where none is missing."""
    return batch.values if batch.contents is None else batch.contents


def _by_arm(answers: Sequence[Answer]) -> list[tuple[Arm, list[Answer]]]:
    """Gather what each arm answered: a version that failed was asked in parts."""
    found: dict[str, tuple[Arm, list[Answer]]] = {}
    for answer in answers:
        found.setdefault(answer.arm.name, (answer.arm, []))[1].append(answer)
    return list(found.values())


def _answered(batch: Batch, arm: Arm, answers: Sequence[Answer]) -> Answered:
    if len(answers) == 1:
        places, outputs, features = answers[0].rows, answers[0].outputs, answers[0].features
    else:
        places = np.concatenate([each.rows for each in answers])
        order = np.argsort(places)
        places = places[order]
        outputs = np.concatenate([each.outputs for each in answers])[order]
        features = np.concatenate([each.features for each in answers])[order]
    whole = places.size == len(batch.records)
    return Answered(
        arm=arm.name,
        model=arm.model,
        version=arm.version,
        digest=arm.digest,
        offsets=batch.offsets if whole else batch.offsets[places],
        requested_at=batch.requested_at if whole else batch.requested_at[places],
        request_ids=batch.ids if whole else batch.ids.some(places),
        output_names=tuple(each.name for each in arm.signature.outputs),
        outputs=outputs,
        feature_names=tuple(each.name for each in arm.signature.inputs),
        features=features,
    )


def _refused(batch: Batch, rejected: Sequence[Rejected]) -> list[Refused]:
    found: dict[tuple[str, str, int, str, str], list[int]] = {}
    for each in rejected:  # in the order of their offsets
        arm = each.arm
        asked = (arm.name, arm.model, arm.version, arm.digest) if arm else _NO_ARM
        found.setdefault((*asked, each.rejection.reason.value), []).append(each.row)
    return [Refused(*key, batch.offsets[places], batch.requested_at[places]) for key, places in found.items()]


def _record(event: Observation | BatchAnswered, traceparent: str | None) -> Record:
    """Frame an event; its id is made of where it begins, which no other committed event of its kind shares."""
    envelope = cloudevents(
        event.TYPE,
        event_id=f"{type(event).__name__}/{request_name(event.topic, event.partition, event.from_offset)}",
        source=SOURCE,
        at=event.at,
        subject=event.endpoint,
        traceparent=traceparent,
    )
    return event.endpoint.encode(), Pieces([*rows.pieces(event)]), envelope
