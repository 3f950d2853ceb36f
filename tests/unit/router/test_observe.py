"""What a lane tells of a batch: arms whole and in order, reasons counted, and no gap where offsets were lost."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np

from interlock.codec.observations import OFFSETS_MAX, columns
from interlock.codec.ragged import Ragged
from interlock.codec.rows import decode
from interlock.errors import Reason
from interlock.kafka.headers import parse
from interlock.kafka.partition import TopicPartition
from interlock.signature import Input, Output, Signature
from interlock_router.batch import Batch, Rejection, Share
from interlock_router.model import Arm, RouteTable
from interlock_router.observe import Stretch, batches_answered, begin, observations
from interlock_router.results import Answer, Rejected
from interlock_router.score import Scored
from tests.unit.router.requests import Request

SOURCE = TopicPartition("fraud.requests", 3)

AT = datetime(2026, 11, 27, 12, 0, 0, 345_000, tzinfo=UTC)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SIGNATURE = Signature(inputs=(Input("a", "double"), Input("b", "double")), outputs=(Output("score"),))


def arm(name: str, version: int) -> Arm:
    """Return an arm of model m."""
    return Arm(name, "m", version, f"sha256:{version}", f"m-{version}", 5000, SIGNATURE)


CHAMPION, CANARY = arm("champion", 1), arm("canary", 2)
TABLE = RouteTable("fraud", 9, (CHAMPION, CANARY), 1002, ("score",))


def batch(*offsets: int) -> Batch:
    """Return a batch of requests at these offsets."""
    count = len(offsets)
    return Batch(
        [Request(offset) for offset in offsets],
        [Share(SOURCE, 0, count)],
        [f"r{offset}".encode() for offset in offsets],
        np.array(offsets, dtype=np.int64) * 10,
        np.ones(count, dtype=np.int64),
    )


def answer(who: Arm, *rows: int) -> Answer:
    """Return an answer whose numbers name their rows."""
    places = np.array(rows, dtype=np.intp)
    numbers = places.astype(np.float64)
    return Answer(who, places, numbers[:, None] / 10, np.stack([numbers, -numbers], axis=1))


def told(read: Batch, scored: Scored, start: int = 0) -> tuple[Any, Any]:
    """Return the observation and the batch as they are read back."""
    stretch = Stretch(SOURCE, start, read.records[-1].offset + 1, AT)
    [[key, value, headers]] = observations(stretch, read, scored, AT, 2**30, TRACE)
    [[_, other, _]] = batches_answered(stretch, read, scored, Ragged.of([b"x"] * len(read.records)), AT, TRACE)
    assert key == b"fraud"
    assert parse(headers).traceparent == TRACE
    assert parse(headers).id == f"Observation/fraud.requests/3/{start}"
    return decode(bytes(value)), decode(bytes(other))


def test_an_arm_that_was_asked_in_parts_is_one_group_in_the_order_of_offsets() -> None:
    """A version that failed answered the later rows first: outputs and features still stand beside their request."""
    read = batch(100, 101, 103, 104, 107)
    parts = [answer(CHAMPION, 3, 4), answer(CANARY, 2), answer(CHAMPION, 0, 1)]
    observation, answered = told(read, Scored(TABLE, parts, []), 95)
    champion, canary = observation.groups
    found = columns(champion)
    assert (found.offsets + 95).tolist() == [100, 101, 104, 107]
    assert found.request_ids == ["r100", "r101", "r104", "r107"]
    assert found.requested_at.tolist() == [1000, 1010, 1040, 1070]
    assert found.outputs.tolist() == [[0.0], [0.1], [0.3], [0.4]]
    assert found.features is not None
    assert found.features.tolist() == [[0, 1, 3, 4], [-0.0, -1, -3, -4]]
    assert columns(canary).request_ids == ["r103"]
    assert champion.feature_names == ("a", "b")
    assert [(each.arm, each.version, each.rows) for each in answered.versions] == [("champion", 1, 4), ("canary", 2, 1)]
    assert (answered.from_offset, answered.first_offset, answered.rows, answered.rejected) == (95, 100, 5, 0)


def test_rejections_are_counted_by_arm_and_reason() -> None:
    """Those that no version was asked about stand for themselves, without a model."""
    read = batch(0, 1, 2, 3, 4)
    rejected = [
        Rejected(0, Rejection(Reason.EMPTY, ""), None),
        Rejected(1, Rejection(Reason.MODEL_NOT_FINITE, "1"), CHAMPION),
        Rejected(2, Rejection(Reason.EMPTY, ""), None),
        Rejected(3, Rejection(Reason.MODEL_NOT_FINITE, "2"), CHAMPION),
        Rejected(4, Rejection(Reason.MODEL_NOT_FINITE, "3"), CANARY),
    ]
    observation, answered = told(read, Scored(TABLE, [], rejected))
    assert [(each.arm, each.digest, each.reason, each.rows) for each in observation.rejected] == [
        ("", "", "EMPTY", 2),
        ("champion", "sha256:1", "MODEL_NOT_FINITE", 2),
        ("canary", "sha256:2", "MODEL_NOT_FINITE", 1),
    ]
    assert np.frombuffer(observation.rejected[1].requested_at, "<i8").tolist() == [10, 30]
    assert (observation.rows, observation.groups, answered.rejected, answered.versions) == (5, (), 5, ())


def test_a_batch_begins_behind_the_last_one() -> None:
    """Where nothing was ever committed at its first request; and there too where too much was lost in between."""
    assert begin(None, 17) == 17
    assert begin(5, 17) == 5
    assert begin(17, 17) == 17
    assert begin(0, OFFSETS_MAX) == OFFSETS_MAX
