"""Online features: what the store answers becomes values, masks and ages as plain Python would have it, and results."""

from __future__ import annotations

import io
import math
import struct
from datetime import UTC, datetime
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.clock import milliseconds
from interlock.codec.contract import result_schema
from interlock.codec.rows import encode
from interlock.errors import Poison, Reason, Transient
from interlock.kafka.partition import TopicPartition
from interlock.schemas.events import FeatureUpdated, RolledBack
from interlock.signature import Input, Online, Output, Signature
from interlock_router.batch import Batch, Rejection, Share
from interlock_router.features import NO_AGE, NOBODY, Joined, joined, nothing_known, packed
from interlock_router.features_feed import update
from interlock_router.features_store import FAILURES_MAX, Features
from interlock_router.model import Arm, RouteTable, Rows
from interlock_router.results import Answer, Rejected, ResultEncoder
from interlock_router.settings import Settings
from tests.unit.router.test_results import Record
from tests.unit.router.test_score import Clock

NOW = 1_800_000_000_000
SIGNATURE = Signature(
    inputs=(
        Input("amount", "double"),
        Input("spent", "double", online=Online(60.0, 5.0)),
        Input("visits", "int", online=Online(10.0, 2.0)),
        Input("home", "boolean", online=Online(60.0, 1.0)),
        Input("mood", "double", nullable=True, online=Online(60.0)),
    ),
    outputs=(Output("score"),),
)
NAMES = tuple(each.name for each in SIGNATURE.online)
PLAIN = Signature(inputs=(Input("amount", "double"),), outputs=(Output("score"),))
SCHEMA = fastavro.parse_schema(result_schema("e", SIGNATURE))
AT = datetime(2027, 1, 15, 8, 0, tzinfo=UTC)

VALUES = st.one_of(st.none(), st.sampled_from([0.0, 1.0, 3.0, -7.0, 0.5]), st.floats(allow_nan=False))
ENTITY = st.dictionaries(
    st.sampled_from([*NAMES, "other"]), st.tuples(VALUES, st.integers(NOW - 120_000, NOW + 2_000)), max_size=5
)


def known(entities: list[dict[str, tuple[float | None, int]]], places: list[int]) -> Joined:
    """Make what the store answers about these entities into what is known of a batch."""
    contents = [b"".join(packed({name: value}, at) for name, (value, at) in each.items()) for each in entities]
    answer = b"".join(struct.pack("<I", len(each)) for each in contents) + b"".join(contents)
    return joined(np.array(places, dtype=np.intp), len(entities), answer, NOW)


def expected(entity: dict[str, tuple[float | None, int]]) -> tuple[list[float], list[bool], int]:
    """Return values, mask and age as the declaration says, one entity at a time."""
    values, missing, ages = [], [], [NO_AGE]
    for wanted in SIGNATURE.online:
        assert wanted.online
        value, at = entity.get(wanted.name, (None, 0))
        age = max(NOW - at, 0)
        fits = value is not None and math.isfinite(value) and age <= wanted.online.age_seconds_max * 1000
        fits = fits and (wanted.type != "int" or value == math.floor(value or 0.0))
        fits = fits and (wanted.type != "boolean" or value in (0.0, 1.0))
        values.append(value if fits and value is not None else wanted.online.stand_in)
        missing.append(not fits)
        ages.append(age if fits else NO_AGE)
    return values, missing, max(ages)


@settings(max_examples=300)
@given(st.lists(ENTITY, max_size=6), st.data())
def test_values_masks_and_ages_are_what_the_declaration_says(
    entities: list[dict[str, tuple[float | None, int]]], data: st.DataObject
) -> None:
    """Any entities, known or not, any values and times: the same as one by one."""
    places = data.draw(st.lists(st.integers(NOBODY, len(entities) - 1), min_size=1, max_size=12))
    used = known(entities, places).used(SIGNATURE)
    for row, place in enumerate(places):
        values, missing, age = expected(entities[place] if place != NOBODY else {})
        assert np.array_equal(used.values[row], values, equal_nan=True)
        assert used.missing[row].tolist() == missing and used.age_milliseconds[row] == age


@pytest.mark.parametrize("answer", [b"", b"\x05\0\0\0abcde", struct.pack("<I", 24), struct.pack("<I", 0) + bytes(24)])
def test_an_answer_that_does_not_add_up_is_refused(answer: bytes) -> None:
    """Sizes that do not fit the bytes are never made into somebody's values."""
    with pytest.raises(ValueError, match="bytes"):
        joined(np.zeros(1, dtype=np.intp), 1, answer, NOW)


def batch(rows: int, found: Joined | None) -> Batch:
    """Make a batch of requests without features of their own."""
    return Batch(
        [Record(offset) for offset in range(rows)],
        [Share(TopicPartition("fraud.requests", 0), 0, rows)],
        [b"r%d" % row for row in range(rows)],
        np.full(rows, NOW),
        np.full(rows, 1001),
        joined=found,
    )


def arm(signature: Signature, version: int = 1) -> Arm:
    """Make an arm of a version."""
    return Arm(f"arm{version}", "m", version, "sha256:00", f"m{version}", 5_000, signature)


def read(value: bytes) -> dict[str, Any]:
    """Read a framed result whole, by fastavro."""
    stream = io.BytesIO(value[5:])
    row = fastavro.schemaless_reader(stream, SCHEMA, None)
    assert isinstance(row, dict) and stream.tell() == len(value) - 5
    return row


@settings(max_examples=150)
@given(st.lists(ENTITY, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_results_name_the_values_that_the_model_was_given(
    entities: list[dict[str, tuple[float | None, int]]], chance: Any
) -> None:
    """Read by fastavro: value, age and bit of each; null for a version without the input, and in a rejection."""
    rows = 3 * len(entities)
    whole = batch(rows, known(entities, [chance.randrange(-1, len(entities)) for _ in range(rows)]))
    table = RouteTable("e", 1, (arm(SIGNATURE), arm(PLAIN, 2)), 1002, ("score",), NAMES)
    kinds = [chance.randrange(3) for _ in range(rows)]
    answers = []
    for index, asked in enumerate(table.arms):
        places = np.array([row for row, kind in enumerate(kinds) if kind == index], dtype=np.intp)
        if places.size:
            given_to, _, _ = whole.matrix(asked.signature, places)
            answers.append(Answer(asked, places, places[:, None].astype(np.float64), given_to))
    rejected = [
        Rejected(row, Rejection(Reason.MODEL_RAISED, "x"), table.arms[0]) for row, kind in enumerate(kinds) if kind == 2
    ]
    found = [read(value) for value in ResultEncoder(table, "e.requests", 0, AT).encode(whole, answers, rejected)]
    used = whole.used(SIGNATURE)
    for row, (kind, result) in enumerate(zip(kinds, found, strict=True)):
        named = [result[f"online_{name}"] for name in NAMES]
        if kind:
            assert (named, result["features_age_milliseconds"], result["features_missing"]) == ([None] * 4, None, None)
            continue
        values, mask, age = used.values[row], used.missing[row], int(used.age_milliseconds[row])
        assert named == [None if math.isnan(value) else value for value in values.tolist()]
        assert result["features_missing"] == sum(1 << bit for bit, missing in enumerate(mask.tolist()) if missing)
        assert result["features_age_milliseconds"] == (None if age == NO_AGE else age)
        place = answers[0].rows.tolist().index(row)
        assert np.array_equal(answers[0].features[place, 1:], values, equal_nan=True)


def test_without_a_look_up_defaults_are_used_and_nothing_is_lacking() -> None:
    """An online input is never a reason to reject: its default, or NaN where it may be null."""
    matrix, rows, lacking = batch(2, None).matrix(Signature(SIGNATURE.inputs[1:], SIGNATURE.outputs), np.arange(2))
    assert rows.tolist() == [0, 1] and not lacking
    assert np.array_equal(matrix, [[5.0, 2.0, 1.0, np.nan]] * 2, equal_nan=True)
    assert nothing_known(2, NOW).used(SIGNATURE).missing.all()


class Store:
    """A store that fails when told to."""

    def __init__(self) -> None:
        self.away = True
        self.asked = 0

    async def read(self, endpoint: str, entities: Any) -> bytes:
        """Answer that nobody is known."""
        self.asked += 1
        if self.away:
            raise Transient("away")
        return bytes(4 * len(entities))


async def test_a_store_that_fails_is_left_alone_and_tried_again_after_a_pause() -> None:
    """Dead for a thousand batches: asked a few times only, at growing pauses; when it is back it is asked each time."""
    clock, store = Clock(), Store()
    features = Features(Settings(features_pause_seconds=1.0, features_pause_seconds_max=8.0), store, clock)  # type: ignore[arg-type]  # as far as it looks
    for _ in range(1000):
        clock.seconds += 0.04
        found = await features.join("e", batch(1, None), np.arange(1))
        assert found.used(SIGNATURE).missing.all()
    assert FAILURES_MAX < store.asked < 15
    store.away = False
    clock.seconds += 8.0
    before = store.asked
    for _ in range(10):
        await features.join("e", batch(1, None), np.arange(1))
    assert store.asked == before + 10


async def test_each_entity_is_asked_for_once_and_none_for_requests_without_one() -> None:
    """Same keys share a look-up; no key and a monstrous one have no entity; a batch of such asks for nothing."""
    clock, store = Clock(), Store()
    store.away = False
    features = Features(Settings(), store, clock)  # type: ignore[arg-type]  # as far as it looks
    whole = batch(5, None)
    whole.records = [Record(row, key=key) for row, key in enumerate((b"a", None, b"b", b"a", b"x" * 2000))]
    rows: Rows = np.array([0, 1, 2, 3, 4])
    found = await features.join("e", whole, rows)
    assert found.places.tolist() == [0, NOBODY, 1, 0, NOBODY] and found.entities == 2
    await features.join("e", whole, np.array([1, 4]))
    assert store.asked == 1


def event(**changes: Any) -> bytes:
    """Return an update as bytes."""
    fields: dict[str, Any] = {"endpoint": "e", "entity": "card", "values": {"spent": 1.0}, "at": AT}
    return encode(FeatureUpdated(**(fields | changes)))


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"", "begins with nothing"),
        (event(endpoint="other"), "other"),
        (event(entity=""), "entity of 0 bytes"),
        (event(entity="x" * 1025), "entity of 1025 bytes"),
        (event(values={}), "0 values"),
        (event(values={str(number): 0.0 for number in range(257)}), "257 values"),
        (event(values={"spent": math.inf}), "no finite number"),
        (event(values={"spent": math.nan}), "no finite number"),
        (event(at=datetime(2027, 1, 15, 8, 2, tzinfo=UTC)), "ahead"),
        (
            encode(RolledBack(endpoint="e", model="m", from_version=2, to_version=1, epoch=1, actor="a", at=AT)),
            "RolledBack is not",
        ),
    ],
)
def test_records_that_say_nothing_sensible_are_poison(value: bytes, why: str) -> None:
    """Each is refused with a sentence; none is half taken."""
    with pytest.raises(Poison, match=why):
        update("e", Record(1, key=b"card", value=value), milliseconds(AT) + 60_000)


def test_an_update_is_entries_and_a_tombstone_a_time() -> None:
    """24 bytes a value, and eight for "whatever is not newer than this is gone"."""
    taken = update("e", Record(1, key=b"card", value=event(values={"a": 1.0, "b": None})), milliseconds(AT))
    assert (taken.entity, len(taken.content)) == (b"card", 48)
    gone = update("e", Record(1, timestamp=7, key=b"card", value=None), 0)
    assert gone.content == struct.pack("<d", 7.0)
