"""Whether data written with one Avro schema can be read with another, and which schemas are too dangerous to take.

Source: Apache Avro 1.12 specification, "Schema Resolution" and "Aliases"; the levels are those of Confluent's
Schema Registry. fastavro resolves while it reads but has no check beforehand; this is that check.
"""

from __future__ import annotations

from typing import Any

Schema = Any
"""An Avro schema as parsed JSON: a name, a union (list) or a definition (dict)."""

LEVELS = (
    "NONE",
    "BACKWARD",
    "FORWARD",
    "FULL",
    "BACKWARD_TRANSITIVE",
    "FORWARD_TRANSITIVE",
    "FULL_TRANSITIVE",
)
"""BACKWARD: the new schema reads old data; FORWARD: the old reads new; FULL: both; TRANSITIVE: with all of the old."""

_PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
_COMPLEX = frozenset({"record", "error", "enum", "fixed", "array", "map"})
_PROMOTIONS = {
    "int": {"long", "float", "double"},
    "long": {"float", "double"},
    "float": {"double"},
    "string": {"bytes"},
    "bytes": {"string"},
}


def check(writer: Schema, reader: Schema) -> list[str]:
    """Return what keeps data written with `writer` from being read with `reader`, each with its path; none is good."""
    writer, reader = _qualified(writer, ""), _qualified(reader, "")
    return _Resolution(_definitions(writer), _definitions(reader)).problems(writer, reader, _name_of(reader) or "$")


def check_level(level: str, new: Schema, olds: list[Schema]) -> list[str]:
    """Return what keeps `new` from following the old schemas (oldest first) at the level.

    Raises ValueError for an unknown level.
    """
    if level not in LEVELS:
        raise ValueError(f"Unknown compatibility level {level!r}; known are {', '.join(LEVELS)}.")
    if level == "NONE":
        return []
    direction, _, transitive = level.partition("_")
    problems: list[str] = []
    for number, old in enumerate(olds, start=1):
        if not transitive and number < len(olds):
            continue
        if direction in {"BACKWARD", "FULL"}:
            problems += [f"reading data of schema {number} with the new one: {text}" for text in check(old, new)]
        if direction in {"FORWARD", "FULL"}:
            problems += [f"reading new data with schema {number}: {text}" for text in check(new, old)]
    return problems


def refuse_dangerous(schema: Schema) -> list[str]:
    """Return why a schema must not be registered: recursion, and arrays whose items take no bytes.

    A recursive schema lets a message of some kilobytes nest deep enough to overflow the decoder's stack; an array
    of items that take no bytes lets five bytes stand for twenty million items.
    """
    schema = _qualified(schema, "")
    names = _definitions(schema)
    return [
        *_recursions(schema, names, (), _name_of(schema) or "$"),
        *_empty_items(schema, names, set(), _name_of(schema) or "$"),
    ]


class _Resolution:
    """One comparison: the named types of both sides, and the pairs already under comparison."""

    def __init__(self, writer_names: dict[str, Schema], reader_names: dict[str, Schema]) -> None:
        self._writer_names = writer_names
        self._reader_names = reader_names
        self._seen: set[tuple[str, str]] = set()

    def problems(self, writer: Schema, reader: Schema, path: str) -> list[str]:
        """Compare one pair of schemas at one place."""
        writer = _resolve(writer, self._writer_names)
        reader = _resolve(reader, self._reader_names)
        if isinstance(writer, list):
            return self._writer_union(writer, reader, path)
        if isinstance(reader, list):
            return self._reader_union(writer, reader, path)
        kind, wanted = _kind(writer), _kind(reader)
        if kind != wanted:
            if wanted in _PROMOTIONS.get(kind, ()):
                return []
            return [f"{path}: {kind} cannot be read as {wanted}"]
        if kind in _PRIMITIVES:
            return []
        if kind == "array":
            return self.problems(writer["items"], reader["items"], f"{path}[]")
        if kind == "map":
            return self.problems(writer["values"], reader["values"], f"{path}{{}}")
        return self._named(kind, writer, reader, path)

    def _writer_union(self, writer: list[Schema], reader: Schema, path: str) -> list[str]:
        """Every branch that can be written must be readable."""
        found = []
        for branch in writer:
            found += self.problems(branch, reader, f"{path}<{_label(branch, self._writer_names)}>")
        return found

    def _reader_union(self, writer: Schema, reader: list[Schema], path: str) -> list[str]:
        """One branch that reads it is enough."""
        closest: list[str] | None = None
        for branch in reader:
            attempt = _Resolution(self._writer_names, self._reader_names)
            attempt._seen = set(self._seen)
            found = attempt.problems(writer, branch, path)
            if not found:
                return []
            if _label(branch, self._reader_names) == _label(writer, self._writer_names):
                closest = found
        branches = ", ".join(_label(branch, self._reader_names) for branch in reader)
        return closest or [
            f"{path}: {_label(writer, self._writer_names)} is none of the reader's branches ({branches})"
        ]

    def _named(self, kind: str, writer: Schema, reader: Schema, path: str) -> list[str]:
        written, wanted = str(writer["name"]), str(reader["name"])
        if not _same_name(writer, reader):
            return [f"{path}: the {kind} {written} cannot be read as {wanted}"]
        if kind == "fixed":
            if writer["size"] == reader["size"]:
                return []
            return [f"{path}: fixed of {writer['size']} bytes cannot be read as one of {reader['size']}"]
        if kind == "enum":
            lost = [symbol for symbol in writer["symbols"] if symbol not in reader["symbols"]]
            if not lost or "default" in reader:
                return []
            return [f"{path}: the reader does not know the symbols {', '.join(lost)} and has no default"]
        if (written, wanted) in self._seen:
            return []
        self._seen.add((written, wanted))
        return self._record(writer, reader, path)

    def _record(self, writer: Schema, reader: Schema, path: str) -> list[str]:
        found = []
        fields = {field["name"]: field for field in writer["fields"]}
        for field in reader["fields"]:
            names = [field["name"], *field.get("aliases", ())]
            match = next((fields[name] for name in names if name in fields), None)
            place = f"{path}.{field['name']}"
            if match is not None:
                found += self.problems(match["type"], field["type"], place)
            elif "default" not in field:
                found.append(f"{place}: the writer has no such field and the reader no default")
        return found


def _qualified(schema: Schema, namespace: str) -> Schema:
    """Return the schema with full names throughout, and without wrappers such as `{"type": "string"}`."""
    if isinstance(schema, str):
        return schema if schema in _PRIMITIVES or "." in schema or not namespace else f"{namespace}.{schema}"
    if isinstance(schema, list):
        return [_qualified(branch, namespace) for branch in schema]
    kind = schema["type"]
    if isinstance(kind, dict | list) or kind not in _COMPLEX:
        return _qualified(kind, namespace)
    if kind == "array":
        return {"type": kind, "items": _qualified(schema["items"], namespace)}
    if kind == "map":
        return {"type": kind, "values": _qualified(schema["values"], namespace)}
    own = schema.get("namespace", namespace)
    name = schema["name"] if "." in schema["name"] or not own else f"{own}.{schema['name']}"
    named = {**schema, "type": "record" if kind == "error" else kind, "name": name}
    if "fields" in schema:
        inner = name.rpartition(".")[0]
        named["fields"] = [{**field, "type": _qualified(field["type"], inner)} for field in schema["fields"]]
    return named


def _definitions(schema: Schema) -> dict[str, Schema]:
    """Collect the named types of a qualified schema by their full names."""
    found: dict[str, Schema] = {}
    if isinstance(schema, list):
        for branch in schema:
            found |= _definitions(branch)
    elif isinstance(schema, dict):
        if "name" in schema:
            found[schema["name"]] = schema
        for part in _parts(schema):
            found |= _definitions(part)
    return found


def _parts(schema: dict[str, Any]) -> list[Schema]:
    match schema["type"]:
        case "record":
            return [field["type"] for field in schema["fields"]]
        case "array":
            return [schema["items"]]
        case "map":
            return [schema["values"]]
        case _:
            return []


def _resolve(schema: Schema, names: dict[str, Schema]) -> Schema:
    """Follow a name to its definition."""
    if not isinstance(schema, str) or schema in _PRIMITIVES:
        return schema
    if schema not in names:
        raise ValueError(f"The schema names a type that it does not define: {schema}.")
    return names[schema]


def _kind(schema: Schema) -> str:
    return str(schema["type"] if isinstance(schema, dict) else schema)


def _same_name(writer: dict[str, Any], reader: dict[str, Any]) -> bool:
    """Compare the names without their namespace, and the reader's aliases, as the specification asks."""
    wanted = {str(name).rpartition(".")[2] for name in [reader["name"], *reader.get("aliases", ())]}
    return str(writer["name"]).rpartition(".")[2] in wanted


def _name_of(schema: Schema) -> str | None:
    return str(schema["name"]) if isinstance(schema, dict) and "name" in schema else None


def _label(schema: Schema, names: dict[str, Schema]) -> str:
    resolved = _resolve(schema, names)
    if isinstance(resolved, list):
        return "union"
    return _name_of(resolved) or _kind(resolved)


def _recursions(schema: Schema, names: dict[str, Schema], above: tuple[str, ...], path: str) -> list[str]:
    schema = _resolve(schema, names)
    if isinstance(schema, list):
        return [text for branch in schema for text in _recursions(branch, names, above, path)]
    if _kind(schema) in {"array", "map"}:
        return [text for part in _parts(schema) for text in _recursions(part, names, above, path)]
    if _kind(schema) != "record":
        return []
    name = str(schema["name"])
    if name in above:
        return [f"{path}: {name} contains itself; a short message could nest until the decoder breaks"]
    return [
        text
        for field in schema["fields"]
        for text in _recursions(field["type"], names, (*above, name), f"{path}.{field['name']}")
    ]


def _empty_items(schema: Schema, names: dict[str, Schema], seen: set[str], path: str) -> list[str]:
    schema = _resolve(schema, names)
    if isinstance(schema, list):
        return [text for branch in schema for text in _empty_items(branch, names, seen, path)]
    kind = _kind(schema)
    if kind == "map":
        return _empty_items(schema["values"], names, seen, f"{path}{{}}")
    if kind == "array":
        below = _empty_items(schema["items"], names, seen, f"{path}[]")
        if _bytes_min(schema["items"], names, frozenset()) > 0:
            return below
        return [*below, f"{path}: the array's items take no bytes; a short message could claim millions of them"]
    if kind != "record" or str(schema["name"]) in seen:
        return []
    seen.add(str(schema["name"]))
    return [
        text
        for field in schema["fields"]
        for text in _empty_items(field["type"], names, seen, f"{path}.{field['name']}")
    ]


def _bytes_min(schema: Schema, names: dict[str, Schema], above: frozenset[str]) -> int:
    """Return the fewest bytes that a value of the schema can take; a record inside itself counts as one."""
    schema = _resolve(schema, names)
    if isinstance(schema, list):
        return 1
    kind = _kind(schema)
    if kind == "null":
        return 0
    if kind == "fixed":
        return int(schema["size"])
    if kind != "record":
        return 1
    name = str(schema["name"])
    if name in above:
        return 1
    return sum(_bytes_min(field["type"], names, above | {name}) for field in schema["fields"])
