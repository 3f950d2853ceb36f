"""Requests of many schemas, and the ways in which a byte string can be spoilt; all of it follows from a seed."""

from __future__ import annotations

import io
import json
import math
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import fastavro

from interlock.codec import varints
from interlock.codec.contract import request_schema
from interlock.codec.framing import frame
from interlock.codec.plan import Plan, compile_plan
from interlock.signature import Input, Output, Signature

REQUEST_BYTES_MAX = 4096
UNKNOWN_ID = 4711
_TEXTS = ("", "a", "card-17", "Zürich", "日本", "x" * 70)
_DOUBLES = (0.0, -0.0, 1.5, -2.25e300, 5e-324, math.inf, -math.inf, math.nan)
_LONGS = (0, -1, 1, 63, 64, -64, -65, 2**31, -(2**63), 2**63 - 1, 1_700_000_000_000)
_LENGTHS = (0, 1, 2, 127, 128, 2**15, 2**31 - 1, 2**31, 2**62, 2**63 - 1, -1, -(2**31), -(2**63))
_INSTANT = {"type": "long", "logicalType": "timestamp-millis"}


@dataclass(frozen=True)
class Shape:
    """One schema under its id, as its writers and its reader know it."""

    name: str
    schema_id: int
    schema: Any
    parsed: Any = field(repr=False)
    plan: Plan = field(repr=False)


def _signature(*inputs: Input) -> Signature:
    return Signature(inputs=inputs, outputs=(Output("score"),))


def _field(name: str, kind: Any) -> dict[str, Any]:
    return {"name": name, "type": kind}


def _list(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


_PLACE = {"type": "record", "name": "Place", "fields": [_field("x", "double"), _field("tags", _list("string"))]}


def _flat() -> dict[str, Any]:
    """Every flat type that a plan knows, bare and nullable on either side."""
    kinds: list[Any] = ["boolean", "int", "long", "float", "double", "bytes", "string", _INSTANT]
    fields = [_field("request_id", "string"), _field("requested_at", _INSTANT)]
    for index, kind in enumerate(kinds):
        fields += [
            _field(f"a{index}", kind),
            _field(f"b{index}", ["null", kind]),
            _field(f"c{index}", [kind, "null"]),
        ]
    fields.append(_field("colour", {"type": "enum", "name": "Colour", "symbols": ["RED", "GREEN", "BLUE"]}))
    fields.append(_field("maybe", ["null", {"type": "enum", "name": "Tint", "symbols": [f"T{n}" for n in range(200)]}]))
    fields.append(_field("four", {"type": "fixed", "name": "Four", "size": 4}))
    fields += [_field(f"tail{index}", ["null", "double"]) for index in range(4)]
    return {"type": "record", "name": "Flat", "namespace": "t", "fields": fields}


def _nested() -> dict[str, Any]:
    """What is read row by row: lists, maps, records in records, unions of many branches, one inside the other."""
    deep: Any = ["null", "double", "string", _list(["null", "long", _list(["null", "boolean", "t.Place"])])]
    fields = [
        _field("request_id", "string"),
        _field("requested_at", _INSTANT),
        _field("x", "double"),
        _field("amounts", _list("double")),
        _field("counts", {"type": "map", "values": "long"}),
        _field("place", _PLACE),
        _field("deep", deep),
    ]
    return {"type": "record", "name": "Nested", "namespace": "t", "fields": fields}


def _parsed(schema: Any) -> Any:
    """Parse a schema for fastavro, instants as the longs they are: a datetime has fewer years than those."""
    plain = json.loads(json.dumps(schema).replace(json.dumps(_INSTANT), '"long"'))
    return fastavro.parse_schema(plain, named_schemas={})


def _shapes() -> tuple[Shape, ...]:
    thirty = _signature(*(Input(f"f{index}", "double") for index in range(30)))
    mixed = _signature(
        Input("amount", "double", nullable=True),
        Input("category", "string", categories=("a", "b", "card-17")),
        Input("second", "string", nullable=True, categories=("x", "Zürich")),
        Input("count", "long"),
        Input("age", "int", nullable=True),
        Input("ratio", "float"),
        Input("known", "boolean"),
        Input("maybe", "boolean", nullable=True),
    )
    nullable = _signature(*(Input(f"f{index}", "double", nullable=True) for index in range(30)))
    schemas = {
        "thirty": request_schema("e", thirty),
        "nullable": request_schema("e", nullable),
        "mixed": request_schema("e", mixed),
        "flat": _flat(),
        "nested": _nested(),
    }
    return tuple(
        Shape(name, 1001 + index, schema, _parsed(schema), compile_plan(schema))
        for index, (name, schema) in enumerate(schemas.items())
    )


SHAPES = _shapes()
BY_ID = {shape.schema_id: shape for shape in SHAPES}


def _float(chance: random.Random) -> float:
    wide = chance.choice((0.0, 1.5, -2.25e30, math.inf, math.nan))
    return float(struct.unpack("<f", struct.pack("<f", wide))[0])


_DRAWN: dict[str, Callable[[random.Random], Any]] = {
    "null": lambda _: None,
    "boolean": lambda chance: chance.random() < 0.5,
    "int": lambda chance: chance.choice([value for value in _LONGS if -(2**31) <= value < 2**31]),
    "long": lambda chance: chance.choice(_LONGS),
    "float": _float,
    "double": lambda chance: chance.choice(_DOUBLES) if chance.random() < 0.3 else chance.gauss(0, 100),
    "bytes": lambda chance: chance.randbytes(chance.randrange(20)),
    "string": lambda chance: chance.choice(_TEXTS),
}


def drawn(kind: Any, chance: random.Random) -> Any:
    """Draw a value of an Avro type; extremes are likely."""
    if isinstance(kind, list):
        return drawn(chance.choice(kind), chance)
    if kind == _INSTANT:
        return chance.randrange(2**41)
    if isinstance(kind, str):
        return _DRAWN[kind](chance) if kind in _DRAWN else drawn(_PLACE, chance)
    match kind["type"]:
        case "enum":
            return chance.choice(kind["symbols"])
        case "fixed":
            return chance.randbytes(kind["size"])
        case "array":
            return [drawn(kind["items"], chance) for _ in range(chance.randrange(4))]
        case "map":
            return {f"k{n}": drawn(kind["values"], chance) for n in range(chance.randrange(4))}
    return {each["name"]: drawn(each["type"], chance) for each in kind["fields"]}


def written(shape: Shape, record: Any) -> bytes:
    """Write a record by fastavro and frame it."""
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, shape.parsed, record)
    return frame(shape.schema_id, stream.getvalue())


Mutation = Callable[[bytearray, random.Random], bytearray | None]


def _flip(value: bytearray, chance: random.Random) -> bytearray:
    for _ in range(chance.choice((1, 1, 2, 8))):
        place = chance.randrange(len(value))
        value[place] ^= 1 << chance.randrange(8)
    return value


def _overwrite(value: bytearray, chance: random.Random) -> bytearray:
    place, count = chance.randrange(len(value)), chance.randrange(1, 9)
    value[place : place + count] = chance.choice((b"\x00", b"\xff", b"\x80", chance.randbytes(1))) * count
    return value


def _cut(value: bytearray, chance: random.Random) -> bytearray:
    return value[: chance.randrange(len(value) + 1)]


def _take_out(value: bytearray, chance: random.Random) -> bytearray:
    place = chance.randrange(len(value))
    del value[place : place + chance.randrange(1, 9)]
    return value


def _insert(value: bytearray, chance: random.Random) -> bytearray:
    place = chance.randrange(len(value) + 1)
    return value[:place] + chance.randbytes(chance.randrange(1, 9)) + value[place:]


def _lengthen(value: bytearray, chance: random.Random) -> bytearray:
    return value + chance.choice((b"\x00", b"\x00" * 9, b"\xff" * 11, chance.randbytes(chance.randrange(1, 6))))


def _edit_length(value: bytearray, chance: random.Random) -> bytearray:
    """Put the number of a length, a branch or a symbol in the place of a byte: the first length stands behind five."""
    place = 5 if chance.random() < 0.5 else chance.randrange(5, max(6, len(value) + 1))
    number = chance.choice(_LENGTHS) if chance.random() < 0.5 else len(value) + chance.randrange(-8, 9)
    return value[:place] + varints.encode(number) + value[place + 1 :]


def _overlong(value: bytearray, chance: random.Random) -> bytearray:
    """Write a number in more bytes than it takes: the same value to a reader that does not look."""
    places = [place for place in range(5, len(value)) if value[place] < 0x80] or [len(value) - 1]
    place = chance.choice(places[:3]) if chance.random() < 0.5 else chance.choice(places)
    padding = b"\x80" * chance.choice((0, 0, 1, 7, 8, 9, 12)) + chance.choice((b"\x00", b"\x00", b"\x01"))
    return value[:place] + bytes([value[place] | 0x80]) + padding + value[place + 1 :]


def _edit_frame(value: bytearray, chance: random.Random) -> bytearray:
    if chance.random() < 0.3:
        value[0:1] = bytes([chance.randrange(256)])
        return value
    ids = (*BY_ID, UNKNOWN_ID, 0, 2**31 - 1, 2**31, 2**32 - 1)
    value[1:5] = chance.choice(ids).to_bytes(4, "big")
    return value


def _twice(value: bytearray, chance: random.Random) -> bytearray:
    return value + (value if chance.random() < 0.5 else value[5:])


def _huge(value: bytearray, chance: random.Random) -> bytearray:
    return value + bytes(REQUEST_BYTES_MAX + chance.randrange(-300, 300))


def _nothing(value: bytearray, chance: random.Random) -> bytearray | None:
    return None if chance.random() < 0.5 else value[:0]


MUTATIONS: tuple[tuple[Mutation, int], ...] = (
    (_flip, 6),
    (_overwrite, 3),
    (_cut, 3),
    (_take_out, 3),
    (_insert, 3),
    (_lengthen, 2),
    (_edit_length, 4),
    (_overlong, 4),
    (_edit_frame, 2),
    (_twice, 1),
    (_huge, 1),
    (_nothing, 1),
)
_ALL, _WEIGHTS = zip(*MUTATIONS, strict=True)


def mutated(values: list[bytes], chance: random.Random) -> bytes | None:
    """Return a request of the stock, spoilt one to three times; now and then two of them, one behind the other."""
    value = bytearray(chance.choice(values))
    if chance.random() < 0.05:
        other = chance.choice(values)
        value = value[: chance.randrange(len(value) + 1)] + other[chance.randrange(len(other)) :]
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        if not value:
            break
        spoilt = chance.choices(_ALL, _WEIGHTS)[0](value, chance)
        if spoilt is None:
            return None
        value = spoilt
    return bytes(value)


def stock(chance: random.Random, each: int) -> list[bytes]:
    """Return sound requests, so many of each shape."""
    found = []
    for shape in SHAPES:
        for number in range(each):
            record = drawn(shape.schema, chance) | {"request_id": f"r{number}"}
            found.append(written(shape, record))
    return found
