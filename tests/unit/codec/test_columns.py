"""The columnar decoder agrees with fastavro on every valid record, and no hostile byte makes it raise or lie."""

from __future__ import annotations

import io
import math
import random
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interlock.codec.columns import Columns, decode
from interlock.codec.plan import compile_plan
from interlock.errors import Reason

FRAME = b"\x00\x00\x00\x03\xe8"
FIELD_TYPES: tuple[Any, ...] = (
    "double",
    "float",
    "long",
    "int",
    "boolean",
    "string",
    "bytes",
    {"type": "long", "logicalType": "timestamp-millis"},
    {"type": "enum", "name": "Colour", "symbols": ["RED", "GREEN", "BLUE"]},
    {"type": "fixed", "name": "Four", "size": 4},
)


def record_schema(types: list[Any]) -> dict[str, Any]:
    """Make a record of these types; named types get a name of their own each time."""
    fields = []
    for index, kind in enumerate(types):
        fields.append({"name": f"f{index}", "type": _own_name(kind, index)})
    return {"type": "record", "name": "R", "namespace": "t", "fields": fields}


def _own_name(kind: Any, index: int) -> Any:
    if isinstance(kind, list):
        return [_own_name(each, index) for each in kind]
    return {**kind, "name": f"{kind['name']}{index}"} if isinstance(kind, dict) and "name" in kind else kind


def write(schema: Any, record: dict[str, Any]) -> bytes:
    """Write a framed record by fastavro, the independent implementation."""
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema, named_schemas={}), record)
    return FRAME + stream.getvalue()


def value_of(kind: Any) -> st.SearchStrategy[Any]:
    """Draw a value that a type can hold."""
    if isinstance(kind, list):
        return st.none() | value_of(next(each for each in kind if each != "null"))
    name = kind if isinstance(kind, str) else kind.get("logicalType", kind["type"])
    return st.sampled_from(kind["symbols"]) if name == "enum" else VALUES[name]


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "double": st.floats(allow_nan=False),
    "float": st.floats(allow_nan=False, width=32),
    "long": st.integers(-(2**63), 2**63 - 1),
    "int": st.integers(-(2**31), 2**31 - 1),
    "boolean": st.booleans(),
    "string": st.text(max_size=20),
    "bytes": st.binary(max_size=20),
    "timestamp-millis": st.integers(0, 2**42),
    "fixed": st.binary(min_size=4, max_size=4),
}

KINDS = st.sampled_from(FIELD_TYPES).flatmap(lambda kind: st.sampled_from([kind, ["null", kind], [kind, "null"]]))


@st.composite
def batches(draw: st.DrawFn) -> tuple[Any, list[dict[str, Any]]]:
    """Draw a flat schema and some records of it; runs of doubles are likely."""
    types = draw(st.lists(KINDS | st.sampled_from(["double", ["null", "double"]]), min_size=1, max_size=12))
    schema = record_schema(types)
    row = st.fixed_dictionaries({each["name"]: value_of(each["type"]) for each in schema["fields"]})
    return schema, draw(st.lists(row, min_size=1, max_size=12))


def cell(columns: Columns, name: str, row: int) -> Any:
    """Read one cell as plain Python."""
    column = columns.columns[name]
    if column.null is not None and column.null[row]:
        return None
    if column.texts is not None:
        text = column.texts[row]
        return None if text is None else text.decode()
    assert column.numbers is not None
    number = column.numbers[row].item()
    return column.symbols[int(number)].decode() if column.symbols else number


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batches())
def test_every_valid_batch_reads_as_fastavro_reads_it(batch: tuple[Any, list[dict[str, Any]]]) -> None:
    """Cells of all flat types, nullable on either side, equal what was written; nothing has a fault."""
    schema, rows = batch
    columns = decode([write(schema, row) for row in rows], compile_plan(schema), skip=5)
    assert not columns.faults
    for each in schema["fields"]:
        kind = str(each["type"])
        if "bytes" in kind or "fixed" in kind:
            continue
        for index, row in enumerate(rows):
            wanted, found = row[each["name"]], cell(columns, each["name"], index)
            assert found == wanted or (isinstance(wanted, float) and math.isclose(found, wanted))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batches(), st.randoms(use_true_random=False), st.integers(1, 4))
def test_mutated_records_never_raise_and_never_disturb_their_neighbours(
    batch: tuple[Any, list[dict[str, Any]]], chance: random.Random, changes: int
) -> None:
    """One record of a batch is cut, lengthened or overwritten: it gets fastavro's verdict, the others keep theirs."""
    schema, rows = batch
    values = [write(schema, row) for row in rows]
    victim = chance.randrange(len(values))
    values[victim] = mutate(values[victim], chance, changes)
    columns = decode(values, compile_plan(schema), skip=5)
    assert [row for row, _, _ in columns.faults.items()] in ([], [victim])
    if columns.faults[victim] is None:
        agree_with_fastavro(schema, values[victim], columns, victim)


def mutate(value: bytes, chance: random.Random, changes: int) -> bytes:
    """Change some bytes behind the frame."""
    body = bytearray(value[5:])
    for _ in range(changes):
        match chance.randrange(3):
            case 0 if body:
                body[chance.randrange(len(body))] = chance.randrange(256)
            case 1 if body:
                del body[chance.randrange(len(body)) :]
            case _:
                body += chance.randbytes(chance.randrange(1, 6))
    return value[:5] + bytes(body)


def agree_with_fastavro(schema: Any, value: bytes, columns: Columns, row: int) -> None:
    """What we accept, fastavro reads whole and the same (we are stricter, never laxer)."""
    stream = io.BytesIO(value[5:])
    expected: Any = fastavro.schemaless_reader(stream, fastavro.parse_schema(schema, named_schemas={}), None)
    assert stream.tell() == len(value) - 5
    for each in schema["fields"]:
        kind = str(each["type"])
        if any(word in kind for word in ("bytes", "fixed", "timestamp")):
            continue
        wanted, found = expected[each["name"]], cell(columns, each["name"], row)
        assert found == wanted or (math.isnan(wanted) and math.isnan(found))


FLAT = record_schema(["string", "double", "double", ["null", "double"], "long"])
GOOD = {"f0": "a", "f1": 1.5, "f2": 2.5, "f3": None, "f4": 7}


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda value: value[:-1], Reason.TRUNCATED),
        (lambda value: value[:7], Reason.TRUNCATED),
        (lambda value: value[:5], Reason.TRUNCATED),
        (lambda value: value[:3], Reason.TRUNCATED),
        (lambda value: value + b"\x00", Reason.TRAILING_BYTES),
        (lambda value: value[:5] + b"\x01" + value[6:], Reason.MALFORMED),  # a text of length -1
        (lambda value: value[:5] + b"\x02\xff" + value[7:], Reason.MALFORMED),  # not UTF-8
        (lambda value: value[:23] + b"\x04" + value[24:], Reason.MALFORMED),  # a third union branch
        (lambda value: value[:5] + b"\xff" * 9 + b"\x01" + value[6:], Reason.MALFORMED),  # a text of length -2**63
        (lambda value: value[:5] + b"\xfe" + b"\xff" * 8 + b"\x01" + value[6:], Reason.TRUNCATED),  # a text of 2**63-1
        (lambda value: value[:-1] + b"\xff" * 11, Reason.MALFORMED),  # a number longer than 64 bits
    ],
)
def test_each_damage_has_its_reason(damage: Any, reason: Reason) -> None:
    """A damaged record between two sound ones is named, and the sound ones read as before."""
    good = write(FLAT, GOOD)
    columns = decode([good, damage(good), good], compile_plan(FLAT), skip=5)
    assert [(row, why) for row, why, _ in columns.faults.items()] == [(1, reason)]
    assert [cell(columns, "f4", row) for row in (0, 2)] == [7, 7]
    assert columns.texts("f0")[0] == b"a" and columns.texts("f0")[2] == b"a"  # type: ignore[index]


def test_a_schema_that_is_not_flat_is_read_row_by_row_with_the_same_faults() -> None:
    """A record with a list falls back to fastavro; truncation and trailing bytes are still found."""
    schema = {
        "type": "record",
        "name": "R",
        "fields": [
            {"name": "request_id", "type": "string"},
            {"name": "x", "type": "double"},
            {"name": "more", "type": {"type": "array", "items": "long"}},
        ],
    }
    plan = compile_plan(schema)
    assert not plan.columnar and plan.refusal is None
    good = write(schema, {"request_id": "r", "x": 0.5, "more": [1, 2]})
    columns = decode([good, good[:-1], good + b"!", good], plan, skip=5)
    assert [(row, why) for row, why, _ in columns.faults.items()] == [(1, Reason.TRUNCATED), (2, Reason.TRAILING_BYTES)]
    numbers, missing = columns.feature("x", None)  # type: ignore[misc]
    assert numbers[0] == numbers[3] == 0.5 and not missing[0]
    assert columns.texts("request_id")[3] == b"r"  # type: ignore[index]


@pytest.mark.parametrize(
    "schema",
    [
        "string",
        {"type": "record", "name": "R", "fields": []},
        {"type": "record", "name": "R", "fields": [{"name": "next", "type": ["null", "R"]}]},
        {"type": "record", "name": "R", "fields": [{"name": "x", "type": {"type": "array", "items": "null"}}]},
    ],
)
def test_hostile_schemas_are_refused_without_reading(schema: Any) -> None:
    """Recursive, empty and zero-width schemas make every record malformed instead of exhausting the reader."""
    columns = decode([FRAME + b"\x02", FRAME], compile_plan(schema), skip=5)
    assert [why for _, why, _ in columns.faults.items()] == [Reason.MALFORMED, Reason.MALFORMED]


def test_features_know_null_nan_and_unknown_categories() -> None:
    """Null and NaN are missing; an unknown category is NaN but not missing; an enum maps like a text."""
    enum = {"type": "enum", "name": "E", "symbols": ["b", "c", "a"]}
    schema = record_schema([["null", "double"], ["null", "string"], enum, "boolean"])
    rows = [(None, "a", "a", True), (math.nan, "z", "b", False), (2.0, None, "c", True)]
    values = [write(schema, {f"f{i}": v for i, v in enumerate(row)}) for row in rows]
    columns = decode(values, compile_plan(schema), skip=5)
    numbers, missing = columns.feature("f0", None)  # type: ignore[misc]
    assert missing.tolist() == [True, True, False] and numbers[2] == 2.0
    numbers, missing = columns.feature("f1", ("a", "b"))  # type: ignore[misc]
    assert missing.tolist() == [False, False, True] and numbers[0] == 0.0 and np.isnan(numbers[1:]).all()
    numbers, _ = columns.feature("f2", ("a", "b"))  # type: ignore[misc]
    assert numbers[0] == 0.0 and numbers[1] == 1.0 and np.isnan(numbers[2])
    numbers, _ = columns.feature("f3", None)  # type: ignore[misc]
    assert numbers.tolist() == [1.0, 0.0, 1.0]
    assert columns.feature("f1", None) is None and columns.feature("absent", None) is None


def test_a_run_of_doubles_is_handed_out_as_it_lies() -> None:
    """Only names that stand one behind the other, and only where nothing is null; else column by column."""
    fields = [{"name": f"f{index}", "type": ["null", "double"] if index > 2 else "double"} for index in range(6)]
    schema = {"type": "record", "name": "r", "fields": fields}
    rows = [{f"f{index}": float(10 * row + index) for index in range(6)} for row in range(3)]
    columns = decode([write(schema, row) for row in rows], compile_plan(schema), skip=5)
    np.testing.assert_array_equal(columns.matrix(("f1", "f2")), [[1, 2], [11, 12], [21, 22]])
    np.testing.assert_array_equal(columns.matrix(("f4",)), [[4], [14], [24]])
    assert columns.matrix(("f2", "f1")) is None and columns.matrix(("f0", "x")) is None and columns.matrix(()) is None
    rows[1]["f5"] = None  # type: ignore[assignment]  # as a nullable field may be
    columns = decode([write(schema, row) for row in rows], compile_plan(schema), skip=5)
    assert columns.matrix(("f4",)) is None and columns.matrix(("f0", "f1", "f2")) is not None
