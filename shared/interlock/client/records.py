"""Requests and results as Python sees them, and the bytes they are on Kafka."""

from __future__ import annotations

import difflib
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import fastavro

from interlock.client.errors import (
    FEATURE_MISSING,
    FEATURE_TYPE,
    FEATURE_UNKNOWN,
    MissingFeature,
    UnknownFeature,
    WrongType,
)
from interlock.codec.framing import frame
from interlock.signature import ONLINE_PREFIX

ENVELOPE: Final = ("request_id", "requested_at")
PROVENANCE: Final = frozenset(
    [
        "request_id",
        "offset",
        "requested_at",
        "topic",
        "partition",
        "endpoint",
        "model",
        "version",
        "digest",
        "epoch",
        "arm",
        "request_schema_id",
        "scored_at",
        "rejection",
        "dead_letter",
    ]
)
FEATURES_MISSING: Final = "features_missing"
INT_BOUNDS: Final = {"int": 2**31, "long": 2**63}


@dataclass(frozen=True)
class Sent:
    """A request that Kafka has taken: its id, and its coordinates, by which the result names it."""

    request_id: str
    topic: str
    partition: int
    offset: int


@dataclass(frozen=True)
class Result:
    """One answer, or one rejection, with everything that says how it came about.

    The model's outputs are attributes: `result.score`. In a rejection they are None, and `rejection` says why.
    `online` holds the features that were looked up, by name, as the model was given them (None for NaN);
    `features_missing` names those whose default was used, `features_age_milliseconds` is the age of the oldest other.
    """

    key: str | None
    request_id: str
    endpoint: str
    model: str
    version: int
    digest: str
    epoch: int
    arm: str
    topic: str
    partition: int
    offset: int
    requested_at: datetime
    scored_at: datetime
    published_at: datetime
    outputs: Mapping[str, float | None] = field(default_factory=dict)
    rejection: str | None = None
    dead_letter: str | None = None
    online: Mapping[str, float | None] = field(default_factory=dict)
    features_age_milliseconds: int | None = None
    features_missing: tuple[str, ...] = ()

    @property
    def rejected(self) -> bool:
        """Whether the request could not be scored; its dead letter is named by `dead_letter`."""
        return self.rejection is not None

    @property
    def latency(self) -> timedelta:
        """From the caller's `requested_at` to the moment the result was handed to Kafka."""
        return self.published_at - self.requested_at

    def __getattr__(self, name: str) -> float | None:
        """Return an output of the model by its name."""
        outputs = self.__dict__.get("outputs", {})
        if name in outputs:
            value: float | None = outputs[name]
            return value
        raise AttributeError(
            f"a result of {self.__dict__.get('endpoint', '?')} has no output {name!r}; it has {', '.join(outputs)}"
        )


@dataclass(frozen=True)
class Feature:
    """One feature as the endpoint's request schema declares it."""

    name: str
    type: str
    nullable: bool


class RequestWriter:
    """Checks features against an endpoint's request schema and writes framed Avro."""

    def __init__(self, schema: Mapping[str, Any] | str, schema_id: int) -> None:
        document = json.loads(schema) if isinstance(schema, str) else dict(schema)
        self._schema = fastavro.parse_schema(document)
        self._schema_id = schema_id
        self.features = tuple(_feature(each) for each in document["fields"] if each["name"] not in ENVELOPE)
        self._by_name = {each.name: each for each in self.features}

    def write(self, request_id: str, requested_at: datetime, features: Mapping[str, Any]) -> bytes:
        """Return the framed request. Raises UnknownFeature, MissingFeature or WrongType, naming every offence."""
        record = {name: _plain(value) for name, value in features.items()}
        self._check_names(record)
        wrong = [problem for name, value in record.items() if (problem := _problem(self._by_name[name], value))]
        if wrong:
            raise WrongType(FEATURE_TYPE, wrong)
        record["request_id"] = request_id
        record["requested_at"] = requested_at
        body = io.BytesIO()
        fastavro.schemaless_writer(body, self._schema, record)
        return frame(self._schema_id, body.getvalue())

    def _check_names(self, features: Mapping[str, Any]) -> None:
        unknown = [name for name in features if name not in self._by_name]
        if unknown:
            raise UnknownFeature(FEATURE_UNKNOWN, [self._unknown(name) for name in unknown])
        missing = [each for each in self.features if not each.nullable and features.get(each.name) is None]
        if missing:
            raise MissingFeature(FEATURE_MISSING, [f"{each.name!r} ({each.type}) is missing" for each in missing])

    def _unknown(self, name: str) -> str:
        near = difflib.get_close_matches(name, self._by_name, n=1)
        return f"no feature is called {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")


class ResultReader:
    """Reads framed results with the schemas they were written with."""

    def __init__(self) -> None:
        self._schemas: dict[int, Any] = {}

    def knows(self, schema_id: int) -> bool:
        """Whether a schema was given for this id."""
        return schema_id in self._schemas

    def learn(self, schema_id: int, schema: Mapping[str, Any] | str) -> None:
        """Remember a schema of the registry."""
        document = json.loads(schema) if isinstance(schema, str) else dict(schema)
        self._schemas[schema_id] = fastavro.parse_schema(document)

    def read(
        self, schema_id: int, body: bytes | memoryview, key: bytes | None, published_at_milliseconds: int
    ) -> Result:
        """Return the result in an unframed body; `learn` the schema first."""
        record: Any = fastavro.schemaless_reader(io.BytesIO(body), self._schemas[schema_id], None)
        outputs = {name: value for name, value in record.items() if name not in PROVENANCE}
        looked_up = _looked_up(outputs) if FEATURES_MISSING in outputs else {}
        facts = {name: record[name] for name in PROVENANCE if name in record and name != "request_schema_id"}
        return Result(
            key=None if key is None else key.decode(errors="replace"),
            published_at=datetime.fromtimestamp(published_at_milliseconds / 1000, UTC),
            outputs=outputs,
            **looked_up,
            **facts,
        )


def _looked_up(outputs: dict[str, Any]) -> dict[str, Any]:
    """Take what was looked up out of the fields that were taken for outputs."""
    fields = [name for name in outputs if name.startswith(ONLINE_PREFIX)]
    online = {name.removeprefix(ONLINE_PREFIX): outputs.pop(name) for name in fields}
    bits = outputs.pop(FEATURES_MISSING) or 0
    return {
        "online": online,
        "features_age_milliseconds": outputs.pop("features_age_milliseconds"),
        "features_missing": tuple(name for bit, name in enumerate(online) if bits >> bit & 1),
    }


def _feature(declared: Mapping[str, Any]) -> Feature:
    kind = declared["type"]
    nullable = isinstance(kind, list) and "null" in kind
    if isinstance(kind, list):
        kind = next(each for each in kind if each != "null")
    return Feature(declared["name"], kind["type"] if isinstance(kind, Mapping) else str(kind), nullable)


def _plain(value: Any) -> Any:
    """Turn a NumPy scalar into the Python value it stands for, and NaN into None: both mean missing."""
    if hasattr(value, "item") and not isinstance(value, (bool, int, str)):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value


def _problem(feature: Feature, value: Any) -> str | None:
    """Return why a value does not fit its feature, or None."""
    if value is None and feature.nullable:
        return None
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    fits = {
        "double": number,
        "float": number,
        "long": isinstance(value, int) and number,
        "int": isinstance(value, int) and number,
        "boolean": isinstance(value, bool),
        "string": isinstance(value, str),
    }.get(feature.type, True)
    if not fits:
        return f"{feature.name!r} must be {feature.type}, not {type(value).__name__} ({value!r:.60})"
    if feature.type in INT_BOUNDS and not -INT_BOUNDS[feature.type] <= value < INT_BOUNDS[feature.type]:
        return f"{feature.name!r} is {value}, which does not fit into {feature.type}"
    if number and isinstance(value, float) and math.isinf(value):
        return f"{feature.name!r} is {value}, which is not a finite number"
    return None
