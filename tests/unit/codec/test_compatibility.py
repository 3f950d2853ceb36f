"""The compatibility check agrees with what fastavro can and cannot read, and names what stands in the way."""

from __future__ import annotations

import copy
import io
import itertools
from typing import Any

import fastavro
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interlock.codec.compatibility import LEVELS, check, check_level, refuse_dangerous

PRIMITIVES = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
VALUES: dict[str, Any] = dict(zip(PRIMITIVES, (None, True, 7, 7, 0.5, 0.5, b"seven", "seven"), strict=True))


def record(*fields: dict[str, Any], name: str = "R", **more: Any) -> dict[str, Any]:
    """Return a record schema in the namespace x."""
    return {"type": "record", "namespace": "x", "name": name, "fields": list(fields), **more}


def field(name: str, schema: Any, **more: Any) -> dict[str, Any]:
    """Return a field of a record schema."""
    return {"name": name, "type": schema, **more}


def enum(*symbols: str, **more: Any) -> dict[str, Any]:
    """Return an enum schema in the namespace x."""
    return {"type": "enum", "namespace": "x", "name": "E", "symbols": list(symbols), **more}


def test_a_schema_reads_its_own_data() -> None:
    """Every kind of schema is compatible with itself."""
    everything = record(
        field("a", ["null", "string"], default=None),
        field("b", {"type": "array", "items": enum("A", "B")}),
        field("c", {"type": "map", "values": {"type": "fixed", "name": "F", "size": 4}}),
        field("d", "E"),
        field("e", {"type": "long", "logicalType": "timestamp-millis"}),
    )
    assert check(everything, copy.deepcopy(everything)) == []


@pytest.mark.parametrize(("writer", "reader"), list(itertools.product(PRIMITIVES, PRIMITIVES)))
def test_primitives_promote_as_the_specification_says(writer: str, reader: str) -> None:
    """int, long, float and double widen, string and bytes interchange, and nothing else does."""
    widening = ("int", "long", "float", "double")
    allowed = writer == reader or {writer, reader} == {"string", "bytes"}
    if writer in widening and reader in widening:
        allowed = widening.index(writer) <= widening.index(reader)
    assert (check(writer, reader) == []) is allowed


def test_a_field_that_is_new_to_the_reader_needs_a_default() -> None:
    """The path of the missing field is named, and a default mends it."""
    old, new = record(field("a", "int")), record(field("a", "int"), field("b", "string"))
    assert check(old, new) == ["x.R.b: the writer has no such field and the reader no default"]
    new["fields"][1]["default"] = ""
    assert check(old, new) == []
    assert check(new, old) == []


def test_a_field_renamed_is_found_by_its_alias() -> None:
    """The reader's alias finds the writer's field; the other way round there is none."""
    old, new = record(field("a", "int")), record(field("b", "int", aliases=["a"]))
    assert check(old, new) == []
    assert check(new, old) != []


def test_a_record_renamed_is_found_by_its_alias() -> None:
    """Records match by their unqualified name or by the reader's alias."""
    old, new = record(name="Old"), record(name="New")
    assert check(old, new) == ["x.New: the record x.Old cannot be read as x.New"]
    assert check(old, {**new, "aliases": ["Old"]}) == []
    assert check(old, {**old, "namespace": "elsewhere"}) == []


def test_an_enum_that_loses_a_symbol_needs_a_default() -> None:
    """Lost symbols are named; the reader's default stands in for them."""
    assert check(enum("A", "B"), enum("A")) == ["x.E: the reader does not know the symbols B and has no default"]
    assert check(enum("A", "B"), enum("A", default="A")) == []
    assert check(enum("A"), enum("A", "B")) == []


def test_unions_are_compared_branch_by_branch() -> None:
    """Each branch that can be written must be readable, by any branch of the reader."""
    assert check("int", ["null", "long"]) == []
    assert check(["null", "int"], ["null", "long"]) == []
    assert check(["null", "int"], "long") == ["$<null>: null cannot be read as long"]
    assert check("string", ["null", "int"]) == ["$: string is none of the reader's branches (null, int)"]


def test_paths_lead_to_the_place() -> None:
    """A problem deep inside arrays, maps and records is found by its path."""
    old = record(
        field("a", {"type": "array", "items": {"type": "map", "values": record(field("b", "long"), name="S")}})
    )
    new = copy.deepcopy(old)
    new["fields"][0]["type"]["items"]["values"]["fields"][0]["type"] = "int"
    assert check(old, new) == ["x.R.a[]{}.b: long cannot be read as int"]


def test_fixed_must_keep_its_size() -> None:
    """Four bytes are not eight."""
    four, eight = ({"type": "fixed", "name": "F", "size": size} for size in (4, 8))
    assert check(four, eight) == ["F: fixed of 4 bytes cannot be read as one of 8"]


def test_recursive_schemas_end() -> None:
    """A list that contains itself is compared without end neither in time nor in stack."""
    node = record(field("next", ["null", "R"]), field("a", "int"))
    wider = record(field("next", ["null", "R"]), field("a", "long"))
    assert check(node, wider) == []
    assert check(wider, node) != []


def test_levels_look_in_their_direction_and_as_far_as_they_say() -> None:
    """A new schema that only some of the old ones bear passes exactly the levels that do not ask them."""
    first, second = record(field("a", "int")), record(field("a", "int"), field("b", "int", default=0))
    third = record(field("a", "int"), field("b", "int"))
    verdicts = {level: check_level(level, third, [first, second]) == [] for level in LEVELS}
    assert verdicts == {
        "NONE": True, "BACKWARD": True, "FORWARD": True, "FULL": True,
        "BACKWARD_TRANSITIVE": False, "FORWARD_TRANSITIVE": True, "FULL_TRANSITIVE": False,
    }  # fmt: skip
    with pytest.raises(ValueError, match="known are NONE, BACKWARD"):
        check_level("SIDEWARD", third, [first])


def test_recursion_is_refused() -> None:
    """A record inside itself, also by a detour, is named with its place."""
    assert refuse_dangerous(record(field("next", ["null", "R"]))) != []
    detour = record(
        field("a", {"type": "array", "items": record(field("b", {"type": "map", "values": "R"}), name="S")})
    )
    assert "x.R contains itself" in refuse_dangerous(detour)[0]
    twice = record(field("a", record(field("b", "int"), name="S")), field("c", "S"))
    assert refuse_dangerous(twice) == []


@pytest.mark.parametrize(
    "items",
    [
        "null",
        record(name="Empty"),
        {"type": "fixed", "name": "F", "size": 0},
        record(field("a", record(field("b", "null"), name="Inner")), name="Outer"),
    ],
)
def test_array_items_without_bytes_are_refused(items: Any) -> None:
    """Items that take no bytes let a short message claim millions of them; a union branch takes one byte."""
    where = refuse_dangerous(record(field("list", {"type": "array", "items": items})))
    assert where == ["x.R.list: the array's items take no bytes; a short message could claim millions of them"]
    assert refuse_dangerous(record(field("list", {"type": "array", "items": ["null", "int"]}))) == []


# A writer's schema and a reader's, close to one another, over one set of names: where the check finds nothing,
# fastavro must read every witness; where it finds something, at least one witness must be unreadable.


def schemas(depth: int = 2) -> st.SearchStrategy[Any]:
    """Draw schemas without repeated definitions of one name (each named type takes its name from its depth)."""
    leaves = st.sampled_from([name for name in PRIMITIVES if name != "null"])
    enums = st.builds(
        lambda symbols, default: {
            "type": "enum",
            "name": f"E{depth}",
            "symbols": list(symbols),
            **({"default": symbols[0]} if default else {}),
        },
        st.sampled_from([("A",), ("A", "B"), ("B", "C"), ("A", "B", "C")]),
        st.booleans(),
    )  # fmt: skip
    fixed = st.sampled_from([2, 3]).map(lambda size: {"type": "fixed", "name": f"F{depth}", "size": size})
    simple = st.one_of(leaves, leaves, enums, fixed)
    if depth == 0:
        return simple
    below = schemas(depth - 1)
    nullable = below.filter(lambda schema: not isinstance(schema, list)).map(lambda schema: ["null", schema])
    return st.one_of(
        simple,
        nullable,
        below.map(lambda schema: {"type": "array", "items": schema}),
        below.map(lambda schema: {"type": "map", "values": schema}),
        records(depth),
    )


def records(depth: int) -> st.SearchStrategy[Any]:
    """Draw records with one field that nests and others that are primitive, optional or renamed."""
    primitive = st.sampled_from(["int", "long", "double", "string"])
    plain = st.tuples(st.sampled_from(["b", "c"]), primitive, st.booleans(), st.booleans())

    def build(inner: Any, others: list[tuple[str, str, bool, bool]]) -> dict[str, Any]:
        fields: list[dict[str, Any]] = [{"name": "a", "type": inner}]
        for name, schema, default, renamed in others:
            item: dict[str, Any] = {"name": name, "type": schema}
            if default:
                item["default"] = {"string": "", "double": 0.5}.get(schema, 0)
            if renamed:
                item |= {"name": f"{name}_new", "aliases": [name]}
            fields.append(item)
        return {"type": "record", "name": f"R{depth}", "fields": fields}

    inner = st.one_of(st.just("int"), schemas(depth - 1))
    return st.builds(build, inner, st.lists(plain, max_size=2, unique_by=lambda item: item[0]))


def witnesses(schema: Any) -> list[Any]:
    """Return values that take every branch and every symbol of the schema at least once."""
    if isinstance(schema, list):
        return [value for branch in schema for value in witnesses(branch)]
    if isinstance(schema, str):
        return [VALUES[schema]]
    match schema["type"]:
        case "array":
            return [[value] for value in witnesses(schema["items"])]
        case "map":
            return [{"k": value} for value in witnesses(schema["values"])]
        case "enum":
            return list(schema["symbols"])
        case "fixed":
            return [b"x" * schema["size"]]
    columns = [witnesses(item["type"]) for item in schema["fields"]]
    rows = max(len(column) for column in columns)
    names = [item["name"] for item in schema["fields"]]
    return [
        dict(zip(names, [column[min(row, len(column) - 1)] for column in columns], strict=True)) for row in range(rows)
    ]


def readable(value: Any, writer: Any, reader: Any) -> bool:
    """Say whether fastavro reads with one schema what it wrote with the other."""
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(copy.deepcopy(writer)), value)
    buffer.seek(0)
    try:
        fastavro.schemaless_reader(
            buffer, fastavro.parse_schema(copy.deepcopy(writer)), fastavro.parse_schema(copy.deepcopy(reader))
        )
    except (fastavro.read.SchemaResolutionError, ValueError, TypeError, EOFError, IndexError):
        return False
    return True


@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(writer=schemas(), reader=schemas())
def test_the_check_agrees_with_fastavro_on_any_two_schemas(writer: Any, reader: Any) -> None:
    """No problems found means that every witness is read; problems found means that one is not."""
    assert (check(writer, reader) == []) is all(readable(value, writer, reader) for value in witnesses(writer))


@settings(max_examples=600, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(writer=records(2), reader=records(2))
def test_the_check_agrees_with_fastavro_on_two_records_of_one_name(writer: Any, reader: Any) -> None:
    """The same for records that resemble one another, where most of the rules come to bear."""
    assert (check(writer, reader) == []) is all(readable(value, writer, reader) for value in witnesses(writer))
