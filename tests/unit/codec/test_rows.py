"""Events to framed Avro and back."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from io import BytesIO
from typing import Any

import fastavro
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from interlock.codec import rows
from interlock.codec.framing import frame
from interlock.errors import Poison, Reason
from interlock.schemas.events import (
    Arm,
    GateEvaluated,
    ModelCreated,
    Observation,
    ObservedGroup,
    Route,
    Verdict,
    VersionRegistered,
)

AT = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
EVENTS: list[Any] = [
    ModelCreated(model="fraud", owner="risk", created_by="ada", at=AT),
    GateEvaluated(
        model="fraud",
        version=2,
        digest="sha256:x",
        gate="auc",
        metric="roc_auc",
        verdict=Verdict.NOT_ENOUGH_EVIDENCE,
        value=None,
        bound=0.9,
        champion_version=None,
        champion_value=0.91,
        margin=None,
        rows=10,
        detail="few",
        at=AT,
    ),
    Route(
        endpoint="fraud",
        epoch=3,
        promotion=2,
        result_schema="{}",
        result_schema_id=1001,
        at=AT,
        arms=(
            Arm(
                arm="champion",
                model="fraud",
                version=2,
                digest="sha256:x",
                application="a",
                weight=10_000,
                signature="{}",
            ),
        ),
    ),
]


def test_large_byte_fields_are_set_apart_and_the_bytes_are_the_same() -> None:
    """A small one, two large ones in different groups and an empty one; the large ones are not copied."""
    sizes = [rows.LARGE_BYTES - 1, rows.LARGE_BYTES, 0, 3 * rows.LARGE_BYTES]
    group = ObservedGroup(
        arm="champion",
        model="fraud",
        version=1,
        digest="sha256:x",
        rows=0,
        offsets=b"",
        requested_at=b"",
        request_ids=b"",
        request_id_lengths=b"",
        output_names=(),
        outputs=b"",
        feature_names=(),
        features=b"",
        sketches=(),
    )
    groups = tuple(msgspec.structs.replace(group, features=bytes([number]) * size) for number, size in enumerate(sizes))
    event = Observation(
        endpoint="fraud",
        topic="fraud.requests",
        partition=3,
        from_offset=0,
        next_offset=0,
        rows=0,
        epoch=1,
        taken_at=AT,
        groups=groups,
        rejected=(),
        at=AT,
    )
    plain = BytesIO()
    record = msgspec.to_builtins(event, builtin_types=(datetime, bytes))
    fastavro.schemaless_writer(plain, fastavro.parse_schema(json.loads(Observation.SCHEMA)), record)
    found = rows.pieces(event)
    assert b"".join(found) == frame(Observation.SCHEMA_ID, plain.getvalue())
    assert [groups.index(group) for group in groups if any(each is group.features for each in found)] == [1, 3]
    assert rows.decode(b"".join(found)) == event


def _poisoned(value: bytes) -> Reason:
    with pytest.raises(Poison) as caught:
        rows.decode(value)
    return caught.value.reason


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_comes_back_as_itself(event: Any) -> None:
    """Nulls, enums, nested arms and times included."""
    assert rows.decode(rows.encode(event)) == event


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_truncation_and_every_surplus_is_poison(event: Any) -> None:
    """A record cut anywhere is TRUNCATED (or not even framed); a byte more is TRAILING_BYTES."""
    value = rows.encode(event)
    for length in range(len(value)):
        assert _poisoned(value[:length]) in (Reason.TRUNCATED, Reason.BAD_FRAMING, Reason.MALFORMED)
    assert _poisoned(value + b"\x00") is Reason.TRAILING_BYTES


def test_an_unknown_schema_id_is_poison() -> None:
    """An id that no event of this platform has."""
    assert _poisoned(frame(999_999, b"")) is Reason.UNKNOWN_SCHEMA


@given(some.binary(max_size=300), some.sampled_from(EVENTS))
def test_any_body_is_an_event_or_poison(body: bytes, event: Any) -> None:
    """Fuzz: nothing but Poison is ever raised."""
    try:
        decoded = rows.decode(frame(type(event).SCHEMA_ID, body))
    except Poison:
        return
    assert type(decoded) is type(event)


@given(some.sampled_from(EVENTS), some.data())
def test_a_changed_byte_is_an_event_or_poison(event: Any, data: some.DataObject) -> None:
    """Fuzz near the truth: one byte of a good record is changed."""
    value = bytearray(rows.encode(event))
    value[data.draw(some.integers(5, len(value) - 1))] = data.draw(some.integers(0, 255))
    try:
        rows.decode(bytes(value))
    except Poison:
        return


def test_a_naive_time_is_refused() -> None:
    """Fastavro would take it as the machine's local time."""
    with pytest.raises(ValueError, match="no time zone"):
        rows.encode(msgspec.structs.replace(EVENTS[0], at=datetime(2026, 1, 2)))  # noqa: DTZ001 - the fault under test


def test_another_zone_is_the_same_instant() -> None:
    """Times come back in UTC."""
    local = msgspec.structs.replace(EVENTS[0], at=AT.astimezone(timezone(timedelta(hours=5))))
    assert rows.decode(rows.encode(local)).at == AT


@pytest.mark.parametrize("changes", [{"version": 2**40}, {"version": "2"}, {"model": None}, {"files": {"a": 1}}])
def test_a_value_that_avro_would_distort_is_refused(changes: dict[str, Any]) -> None:
    """Fastavro itself would write 2^40 into an int without a word."""
    event = VersionRegistered(
        model="fraud",
        version=1,
        digest="d",
        manifest="m",
        manifest_digest="d",
        artifact_digest="d",
        artifact_format="onnx",
        artifact_bytes=1,
        files={"a": "d"},
        commit="c",
        author="a",
        at=AT,
    )
    with pytest.raises(ValueError, match="VersionRegistered"):
        rows.encode(msgspec.structs.replace(event, **changes))
