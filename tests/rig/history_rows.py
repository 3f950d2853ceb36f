"""Records of a history read into facts, by fastavro and the schemas in `schemas/`."""

from __future__ import annotations

import io
import json
import struct
import tomllib
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import fastavro
import numpy as np
from confluent_kafka import Message

from tests.rig.history import Digested, Group, Kind, Letter, Observed, Request, Result, Schemas, Violation

SCHEMAS: Final = Path(__file__).parents[2] / "schemas"
FRAME_BYTES: Final = 5
_MALFORMED: Final = (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError, EOFError, struct.error)


class Rows:
    """Reads records; what cannot be read, although the product wrote it, goes to `unreadable`."""

    def __init__(self, schemas: Schemas, unreadable: list[Violation]) -> None:
        self._schemas = schemas
        self._parsed: dict[int, Any] = {}
        self._unreadable = unreadable

    def request(self, record: Message, number: str) -> Request:
        """Return a request; one that its writer's schema does not read has neither id nor number."""
        value = record.value()
        row = self._row(value) or {}
        where = (record.partition() or 0, offset_of(record), record.key(), value)
        return Request(*where, row.get("request_id", ""), row.get(number), row.get("requested_at", -1))

    def result(self, record: Message) -> Result | None:
        """Return a result."""
        row = self._read(record)
        if row is None:
            return None
        return Result(
            record.partition() or 0,
            offset_of(record),
            record.key(),
            record.value() or b"",
            row["request_id"],
            row["topic"],
            row["partition"],
            row["offset"],
            row["requested_at"],
            row["score"],
            row["model"],
            row["version"],
            row["digest"],
            row["epoch"],
            row["arm"],
            row["request_schema_id"],
            row["scored_at"],
            row["rejection"],
            row["dead_letter"],
        )

    def letter(self, record: Message) -> Letter | None:
        """Return a dead letter."""
        row = self._read(record)
        if row is None:
            return None
        said = (row[name] for name in ("name", "reason", "partition", "offset", "key", "value", "version"))
        return Letter(record.partition() or 0, offset_of(record), record.key(), *said)

    def observed(self, record: Message) -> Observed | None:
        """Return an observation."""
        row = self._read(record)
        if row is None:
            return None
        rejected: Counter[tuple[str, str, int]] = Counter()
        for each in row["rejected"]:
            rejected[each["reason"], each["arm"], each["version"]] += each["rows"]
        said: list[Any] = [row[name] for name in ("partition", "from_offset", "next_offset", "rows", "epoch")]
        groups = tuple(_group(each, row["from_offset"]) for each in row["groups"])
        return Observed._make([offset_of(record), *said, groups, rejected])

    def digested(self, record: Message) -> Digested | None:
        """Return a batch digest."""
        row = self._read(record)
        if row is None:
            return None
        names = ("partition", "from_offset", "next_offset", "first_offset", "rows", "rejected", "epoch")
        digests = ("results_digest", "requests_digest")
        versions: Counter[tuple[str, int, str]] = Counter()
        for each in row["versions"]:
            versions[each["arm"], each["version"], each["digest"]] += each["rows"]
        said: list[Any] = [row[name] for name in (*names, *digests)]
        return Digested._make([offset_of(record), *said, versions])

    def _read(self, record: Message) -> dict[str, Any] | None:
        """Read a record of the platform's; one that cannot be read is a violation."""
        row = self._row(record.value())
        if row is None:
            where = (record.topic() or "", record.partition() or 0, offset_of(record))
            found = (record.value() or b"")[:40].hex()
            self._unreadable.append(Violation(Kind.UNREADABLE, *where, "", "a record that its schema reads", found))
        return row

    def _row(self, value: bytes | None) -> dict[str, Any] | None:
        """Read a framed value to its last byte by the schema that it names; None where that cannot be done."""
        if value is None or len(value) < FRAME_BYTES or value[0]:
            return None
        try:
            schema = self._schema(int.from_bytes(value[1:FRAME_BYTES], "big"))
            stream = io.BytesIO(value[FRAME_BYTES:])
            row: Any = fastavro.schemaless_reader(stream, schema, None)
        except _MALFORMED:
            return None
        return row if stream.tell() == len(value) - FRAME_BYTES else None

    def _schema(self, schema_id: int) -> Any:
        if schema_id not in self._parsed:
            source = platform_schemas().get(schema_id) or self._schemas(schema_id)
            self._parsed[schema_id] = fastavro.parse_schema(_plain(source))
        return self._parsed[schema_id]


@cache
def platform_schemas() -> dict[int, Any]:
    """Return the platform's own schemas by their fixed ids."""
    names = tomllib.loads((SCHEMAS / "ids.toml").read_text())
    found = ((number, SCHEMAS / "events" / f"{name}.avsc") for name, number in names.items())
    return {number: json.loads(path.read_text()) for number, path in found if path.is_file()}


def _group(row: dict[str, Any], from_offset: int) -> Group:
    """Return what an observation says of one arm, its byte columns read."""
    offsets = np.frombuffer(row["offsets"], dtype="<u4").astype(np.int64) + from_offset
    ends = np.cumsum(np.frombuffer(row["request_id_lengths"], dtype="<u4"), dtype=np.int64).tolist()
    ids = tuple(row["request_ids"][start:end].decode() for start, end in pairwise([0, *ends]))
    outputs = np.frombuffer(row["outputs"], dtype="<f8")
    column = row["output_names"].index("score") if "score" in row["output_names"] else 0
    scores = tuple(outputs[column :: max(1, len(row["output_names"]))].tolist())
    return Group(row["arm"], row["version"], row["digest"], tuple(offsets.tolist()), ids, scores)


def _plain(schema: Any) -> Any:
    """Return the schema without logical types, so that instants stay numbers."""
    if isinstance(schema, dict):
        return {name: _plain(value) for name, value in schema.items() if name != "logicalType"}
    return [_plain(each) for each in schema] if isinstance(schema, list) else schema


def offset_of(record: Message) -> int:
    """Return a record's offset."""
    return record.offset() or 0
