from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import fastavro
import numpy as np
import pytest

from interlock.client.errors import MissingFeature, UnknownFeature, WrongType
from interlock.client.records import RequestWriter, ResultReader
from interlock.codec.contract import request_schema, result_schema
from interlock.codec.framing import frame, unframe
from interlock.signature import Input, Online, Output, Signature

SIGNATURE = Signature(
    inputs=(
        Input("amount", "double"),
        Input("night", "boolean"),
        Input("visits", "int"),
        Input("country", "string", nullable=True, categories=("DE", "FR")),
        Input("age", "double", nullable=True),
    ),
    outputs=(Output("score"), Output("margin")),
)
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
GOOD = {"amount": 12.5, "night": False, "visits": 3}


@pytest.fixture
def writer() -> RequestWriter:
    """A writer for the endpoint's requests."""
    return RequestWriter(request_schema("fraud", SIGNATURE), 1042)


def read(value: bytes) -> dict[str, object]:
    """Read a framed request with a stock Avro reader."""
    schema_id, body = unframe(value)
    assert schema_id == 1042
    stream = io.BytesIO(body)
    record = fastavro.schemaless_reader(stream, fastavro.parse_schema(request_schema("fraud", SIGNATURE)), None)
    assert stream.read() == b""
    return dict(record)  # type: ignore[arg-type]  # the schema's root is a record


def test_a_request_is_framed_avro_of_the_endpoints_schema(writer: RequestWriter) -> None:
    """What is written is what any Avro reader reads back; what is optional may be left out."""
    record = read(writer.write("r-1", NOW, GOOD | {"country": "DE"}))
    assert record == GOOD | {"country": "DE", "age": None, "request_id": "r-1", "requested_at": NOW}


def test_numpy_values_are_taken_for_what_they_stand_for(writer: RequestWriter) -> None:
    """Rows of data frames are full of NumPy scalars; NaN means missing."""
    features = {"amount": np.float64(1.5), "night": np.bool_(1), "visits": np.int64(2), "age": np.float64("nan")}
    record = read(writer.write("r", NOW, features))
    assert (record["amount"], record["night"], record["visits"], record["age"]) == (1.5, True, 2, None)


def test_every_missing_feature_is_named(writer: RequestWriter) -> None:
    """None and NaN are missing too, where a value must be."""
    with pytest.raises(MissingFeature) as caught:
        writer.write("r", NOW, {"visits": None, "amount": float("nan")})
    assert [problem.split("'")[1] for problem in caught.value.problems] == ["amount", "night", "visits"]


def test_an_unknown_feature_is_refused_with_a_suggestion(writer: RequestWriter) -> None:
    """A typo is caught before anything is sent."""
    with pytest.raises(UnknownFeature, match="did you mean 'amount'"):
        writer.write("r", NOW, GOOD | {"amuont": 1})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("amount", "12"),
        ("amount", True),
        ("amount", float("inf")),
        ("night", 0),
        ("visits", 1.5),
        ("visits", 2**31),
        ("country", 7),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(writer: RequestWriter, name: str, value: object) -> None:
    """No silent conversion: text is no number, 0 is no boolean, infinity is no amount."""
    with pytest.raises(WrongType, match=f"'{name}'"):
        writer.write("r", NOW, GOOD | {name: value})


def result(**changes: object) -> bytes:
    """A framed result, as the router writes it."""
    record: dict[str, object] = {
        "request_id": "r-1",
        "offset": 7,
        "requested_at": NOW,
        "score": 0.25,
        "margin": 1.0,
        "topic": "fraud.requests",
        "partition": 2,
        "endpoint": "fraud",
        "model": "fraud",
        "version": 3,
        "digest": "sha256:aa",
        "epoch": 4,
        "arm": "champion",
        "request_schema_id": 1042,
        "scored_at": NOW + timedelta(milliseconds=20),
        "rejection": None,
        "dead_letter": None,
    }
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(result_schema("fraud", SIGNATURE)), record | changes)
    return frame(1043, body.getvalue())


def test_a_results_outputs_are_attributes() -> None:
    """Outputs by name, provenance beside them, latency from request to publication."""
    reader = ResultReader()
    schema_id, body = unframe(result())
    assert not reader.knows(schema_id)
    reader.learn(schema_id, result_schema("fraud", SIGNATURE))
    found = reader.read(schema_id, body, b"card-1", round(NOW.timestamp() * 1000) + 35)
    assert (found.score, found.margin, found.key) == (0.25, 1.0, "card-1")
    assert (found.version, found.digest, found.epoch, found.arm) == (3, "sha256:aa", 4, "champion")
    assert (found.topic, found.partition, found.offset) == ("fraud.requests", 2, 7)
    assert found.latency == timedelta(milliseconds=35)
    assert not found.rejected
    with pytest.raises(AttributeError, match="it has score, margin"):
        _ = found.sore


def test_a_result_shows_what_was_looked_up() -> None:
    """Values as the model was given them, what was missing by name, and the age; none of them is an output."""
    mood = Input("mood", "double", nullable=True, online=Online(60.0))
    online = (Input("spent", "double", online=Online(60.0, 5.0)), mood)
    schema = result_schema("fraud", Signature((*SIGNATURE.inputs, *online), SIGNATURE.outputs))
    _, body = unframe(result())
    plain = fastavro.schemaless_reader(io.BytesIO(body), fastavro.parse_schema(result_schema("fraud", SIGNATURE)), None)
    assert isinstance(plain, dict)
    written = io.BytesIO()
    values = {"online_spent": 7.5, "online_mood": None, "features_age_milliseconds": 1200, "features_missing": 2}
    fastavro.schemaless_writer(written, fastavro.parse_schema(schema), plain | values)
    reader = ResultReader()
    reader.learn(1044, schema)
    found = reader.read(1044, written.getvalue(), None, 0)
    assert found.online == {"spent": 7.5, "mood": None}
    assert (found.features_age_milliseconds, found.features_missing) == (1200, ("mood",))
    assert found.outputs == {"score": 0.25, "margin": 1.0}
    reader.learn(1043, result_schema("fraud", SIGNATURE))
    before = reader.read(1043, body, None, 0)
    assert (before.online, before.features_age_milliseconds, before.features_missing) == ({}, None, ())


def test_a_rejection_says_why_and_where_the_request_is_kept() -> None:
    """A rejected request has no outputs, but a reason and a dead letter."""
    reader = ResultReader()
    reader.learn(1043, result_schema("fraud", SIGNATURE))
    value = result(score=None, margin=None, rejection="MISSING_FEATURE", dead_letter="fraud.requests/2/7")
    _, body = unframe(value)
    found = reader.read(1043, body, None, 0)
    assert found.rejected
    assert found.score is None
    assert (found.rejection, found.dead_letter) == ("MISSING_FEATURE", "fraud.requests/2/7")
