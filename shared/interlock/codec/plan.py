"""A schema compiled once: the steps that read its records, or the sentence that says why only row by row will do."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

DEPTH_MAX = 32
"""Deeper schemas are refused: a hostile one must not exhaust the stack of a reader."""

RUN_MAX = 512
"""At most so many doubles are gathered as one block, so that the padding behind a buffer stays small."""

_PRIMITIVES = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")


class Kind(Enum):
    """How the values of one step lie in a record."""

    NULL = "null"
    BOOLEAN = "boolean"
    INT = "int"
    LONG = "long"
    FLOAT = "float"
    DOUBLE = "double"
    BYTES = "bytes"
    STRING = "string"
    ENUM = "enum"
    FIXED = "fixed"


@dataclass(frozen=True)
class Step:
    """One field, or a run of neighbouring doubles, as the decoder reads it."""

    kind: Kind
    names: tuple[str, ...]
    null_branch: int | None = None  # the union branch that means null; None where the field is no union
    symbols: tuple[bytes, ...] = ()
    width: int = 0

    @property
    def nullable(self) -> bool:
        """Say whether each value is preceded by a union branch."""
        return self.null_branch is not None


@dataclass(frozen=True)
class Plan:
    """How records of one schema are read: by columns (`steps`), row by row (no steps), or not at all (`refusal`)."""

    schema: Any
    steps: tuple[Step, ...] = ()
    refusal: str | None = None
    parsed: Any = field(default=None, compare=False)

    @property
    def columnar(self) -> bool:
        """Say whether the fast path reads this schema."""
        return bool(self.steps)


def compile_plan(schema: Any) -> Plan:
    """Compile a writer's schema (parsed JSON).

    Flat records of primitive, enum, fixed and logical types and their nullable unions are read by columns; other
    records row by row; recursive schemas, records of nothing, lists of zero-width items and what is no record are
    refused, because a short hostile message could exhaust the reader.
    """
    refusal = _refusal(schema)
    if refusal:
        return Plan(schema, refusal=refusal)
    steps: list[Step] = []
    for each in schema["fields"]:
        step = _step(each["name"], each["type"])
        if step is None:
            return Plan(schema, parsed=_parse(schema))
        if steps and _joins(steps[-1], step):
            last = steps.pop()
            step = Step(last.kind, last.names + step.names, last.null_branch)
        steps.append(step)
    return Plan(schema, steps=tuple(steps))


def _joins(last: Step, step: Step) -> bool:
    same = last.kind is Kind.DOUBLE and step.kind is Kind.DOUBLE and last.null_branch == step.null_branch
    return same and len(last.names) < RUN_MAX


def _step(name: str, kind: Any) -> Step | None:
    """Return the step of one field, or None where the field is not flat."""
    null_branch: int | None = None
    if isinstance(kind, list):
        if len(kind) != 2 or kind.count("null") != 1:
            return None
        null_branch = kind.index("null")
        kind = kind[1 - null_branch]
    if isinstance(kind, dict):
        return _complex_step(name, kind, null_branch)
    if isinstance(kind, str) and kind in _PRIMITIVES:
        return Step(Kind(kind), (name,), null_branch)
    return None


def _complex_step(name: str, kind: dict[str, Any], null_branch: int | None) -> Step | None:
    match kind.get("type"):
        case "enum":
            return Step(Kind.ENUM, (name,), null_branch, symbols=tuple(each.encode() for each in kind["symbols"]))
        case "fixed":
            return Step(Kind.FIXED, (name,), null_branch, width=int(kind["size"]))
        case str(primitive) if primitive in _PRIMITIVES:
            return Step(Kind(primitive), (name,), null_branch)
    return None


def _parse(schema: Any) -> Any:
    from fastavro import parse_schema  # loaded only where a schema needs it

    return parse_schema(schema, named_schemas={})


def _refusal(schema: Any) -> str | None:
    if not isinstance(schema, dict) or schema.get("type") != "record":
        return "the schema is not a record"
    if not schema.get("fields"):
        return "the schema has no fields"
    return _fault(schema, (), 0)


def _fault(kind: Any, enclosing: tuple[str, ...], depth: int) -> str | None:
    """Return why a type is refused, or None."""
    if depth > DEPTH_MAX:
        return f"the schema is nested deeper than {DEPTH_MAX}"
    if isinstance(kind, str):
        return f"the schema refers to {kind} inside itself" if kind.rpartition(".")[2] in enclosing else None
    if isinstance(kind, list):
        return _first_fault(kind, enclosing, depth)
    if not isinstance(kind, dict):
        return "the schema has a type that is neither a name, a union nor an object"
    match kind.get("type"):
        case "record" | "error":
            inside = (*enclosing, str(kind.get("name", "")).rpartition(".")[2])
            return _first_fault([each.get("type") for each in kind.get("fields", ())], inside, depth)
        case "array" | "map" as shape:
            items = kind.get("items") if shape == "array" else kind.get("values")
            if shape == "array" and _width_is_zero(items):
                return "the schema has a list of items without width"
            return _fault(items, enclosing, depth + 1)
        case dict() | list() as nested:
            return _fault(nested, enclosing, depth + 1)
    return None


def _first_fault(kinds: list[Any], enclosing: tuple[str, ...], depth: int) -> str | None:
    return next((fault for each in kinds if (fault := _fault(each, enclosing, depth + 1))), None)


def _width_is_zero(kind: Any) -> bool:
    """Say whether a value may take no byte; a name that is not primitive is held for zero, to be safe."""
    if isinstance(kind, str):
        return kind == "null" or kind not in _PRIMITIVES
    if isinstance(kind, list):
        return False  # a union spends a byte on its branch
    if kind.get("type") == "record":
        return all(_width_is_zero(each["type"]) for each in kind.get("fields", ()))
    if kind.get("type") == "fixed":
        return int(kind.get("size", 0)) == 0
    return bool(kind.get("type") == "null")
