"""What is generated is right: classes carry their schemas, examples decode, documents hold together."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fastavro
import msgspec
import pytest
import yaml

from interlock.codec import rows
from interlock.codegen.access import topic_rules
from interlock.codegen.reference import table, type_name
from interlock.codegen.source import load
from interlock.kafka import headers
from interlock.schemas import TOPICS, Event, control_topics, endpoint_topic, endpoint_topics
from interlock.schemas.events import BY_SCHEMA_ID, EVENTS, Arm, Route
from interlock.schemas.topics import ENDPOINT_DEAD_LETTERS, ENDPOINT_REQUESTS, MODEL_EVENTS, ROUTES

ROOT = Path(__file__).resolve().parents[3]
SOURCE = load(ROOT)
EXAMPLES = [(event.name, name) for event in SOURCE.events for name in event.examples]


@pytest.mark.parametrize(("event", "example"), EXAMPLES)
def test_every_example_survives_the_wire(event: str, example: str) -> None:
    """JSON to struct to framed Avro and back is the same struct."""
    cls = next(cls for cls in EVENTS if cls.__name__ == event)
    value = msgspec.json.decode(json.dumps(SOURCE.event(event).examples[example]), type=cls)
    assert rows.decode(rows.encode(value)) == value


@pytest.mark.parametrize("cls", EVENTS, ids=lambda cls: cls.__name__)
def test_a_class_has_the_fields_of_its_schema_in_their_order(cls: type[Event]) -> None:
    """Names, order and optional fields agree; the schema is one that fastavro takes."""
    schema = json.loads(cls.SCHEMA)
    fields = msgspec.structs.fields(cls)
    assert [field.name for field in fields] == [field["name"] for field in schema["fields"]]
    assert [not field.required for field in fields] == ["default" in field for field in schema["fields"]]
    fastavro.parse_schema(schema)
    assert BY_SCHEMA_ID[cls.SCHEMA_ID] is cls
    assert cls.KEY in {field.name for field in fields}


def test_a_nested_record_and_a_time_come_back_typed() -> None:
    """Arms are structs and times are aware, as the annotations say."""
    arm = Arm(arm="champion", model="m", version=1, digest="d", application="a", weight=10_000, signature="{}")
    at = datetime(2026, 3, 1, 12, 0, 0, 123_000, tzinfo=UTC)
    route = Route(endpoint="e", epoch=2**40, promotion=1, result_schema="{}", result_schema_id=1000, arms=(arm,), at=at)
    back = rows.decode(rows.encode(route))
    assert back == route
    assert back.arms[0].weight == 10_000
    assert back.at.tzinfo is not None


def test_events_are_cheap_to_import() -> None:
    """Importing the events loads msgspec and nothing heavier."""
    program = "import sys, interlock.schemas.events; print(sorted({n.split('.')[0] for n in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"fastavro", "numpy", "pydantic", "aiokafka", "yaml"} & set(
        json.loads(done.stdout.replace("'", '"'))
    ) == set()


def test_an_endpoint_has_a_topic_for_each_template() -> None:
    """The endpoint's name and its partitions go into every template and into nothing else."""
    topics = endpoint_topics("fraud", 6)
    names = ("batches", "dead-letters", "features", "labels", "observations", "requests", "results", "shadow")
    assert sorted(topic.name for topic in topics) == [f"fraud.{name}" for name in names]
    assert all(topic.partitions == 6 and not topic.template for topic in topics)
    assert {topic.name for topic in control_topics()} >= {MODEL_EVENTS, ROUTES}
    assert not any("{" in topic.name for topic in control_topics())
    assert endpoint_topic(ENDPOINT_REQUESTS, "fraud") == "fraud.requests"


def test_a_request_of_ten_megabytes_fits_and_so_does_its_dead_letter() -> None:
    """The broker takes what the router must refuse by name, and the letter that holds it whole."""
    limits = {topic.name: int(topic.config.get("max.message.bytes", 1_048_588)) for topic in TOPICS}
    assert limits[ENDPOINT_REQUESTS] > 10_000_000
    assert limits[ENDPOINT_DEAD_LETTERS] > limits[ENDPOINT_REQUESTS]


def test_control_topics_keep_everything_in_one_order() -> None:
    """Services read them from the beginning: one partition, nothing thrown away but older routes."""
    for topic in control_topics():
        assert topic.partitions == 1
        assert topic.config["cleanup.policy"] == "compact" or topic.config["retention.ms"] == "-1"
    assert next(topic for topic in TOPICS if topic.name == ROUTES).config["cleanup.policy"] == "compact"


def asyncapi() -> Any:
    """Return the AsyncAPI document as it stands in the tree."""
    return yaml.safe_load((ROOT / "deploy/kafka/asyncapi.yaml").read_text())


def references(node: Any) -> list[str]:
    """Return every `$ref` below."""
    if isinstance(node, list):
        return [found for item in node for found in references(item)]
    if isinstance(node, dict):
        return [node["$ref"]] if "$ref" in node else [found for item in node.values() for found in references(item)]
    return []


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    """Version 3, and each `$ref` resolves inside the document."""
    document = asyncapi()
    assert document["asyncapi"] == "3.0.0"
    for reference in references(document):
        node = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


def test_the_asyncapi_document_holds_every_topic_and_every_schema() -> None:
    """Each topic is a channel with its senders and receivers; each event's payload is its Avro schema."""
    document = asyncapi()
    assert {channel["address"] for channel in document["channels"].values()} == {topic.name for topic in TOPICS}
    operations = [(each["action"], each["channel"]["$ref"].split("/")[-1]) for each in document["operations"].values()]
    assert len(operations) == sum(len(topic.writers) + len(topic.readers) for topic in SOURCE.topics)
    for event in EVENTS:
        message = document["components"]["messages"][event.__name__]
        assert message["name"] == event.TYPE
        fastavro.parse_schema(message["payload"]["schema"])


def test_only_writers_may_write() -> None:
    """The rules give WRITE to the writers of the topic file and READ to its readers."""
    for topic in SOURCE.topics:
        rules = topic_rules(topic)
        may = {name: {rule["principal"] for rule in rules if rule["operation"] == name} for name in ("READ", "WRITE")}
        assert may["WRITE"] == {f"User:{name}" for name in topic.writers}
        assert may["READ"] == {f"User:{name}" for name in topic.readers}


def test_only_the_router_answers() -> None:
    """In the rules of an endpoint results and dead letters are the router's alone, by transactions of its own."""
    acl = json.loads((ROOT / "deploy/kafka/acl.json").read_text())
    answers = {
        rule["principal"]
        for rule in acl["endpoint"]
        if rule["operation"] == "WRITE" and rule["resource_name"] in {"{endpoint}.results", "{endpoint}.dead-letters"}
    }
    assert answers == {"User:router"}
    transactions = [rule for rule in acl["platform"] if rule["resource_type"] == "TRANSACTIONAL_ID"]
    assert {"User:router"} == {
        rule["principal"] for rule in transactions if rule["resource_name"] == "interlock.router"
    }
    assert not any(rule["principal"] == "User:clients" for rule in transactions)


def test_a_table_cell_may_hold_a_pipe() -> None:
    """A pipe in a type does not become a column."""
    assert table(("a",), [("int | None",)]).splitlines()[-1] == "| int \\| None |"


def test_types_are_told_in_words() -> None:
    """The reference says `int or null` and not a piece of JSON."""
    assert type_name(["null", "int"]) == "int or null"
    assert type_name({"type": "array", "items": {"type": "record", "name": "Arm"}}) == "list of Arm"
    assert type_name({"type": "map", "values": "string"}) == "map to string"
    assert type_name({"type": "enum", "name": "V", "symbols": ["A", "B"]}) == "one of A, B"
    assert type_name({"type": "long", "logicalType": "timestamp-millis"}) == "timestamp-millis"


def test_a_value_with_a_missing_field_is_not_written() -> None:
    """The schema in the class is the one that the writer holds itself to."""
    schema = fastavro.parse_schema(json.loads(Route.SCHEMA))
    with pytest.raises((ValueError, TypeError, KeyError)):
        fastavro.schemaless_writer(io.BytesIO(), schema, {"endpoint": "e"})


def test_the_asyncapi_document_knows_every_header_that_is_written() -> None:
    """What the platform writes and what the document promises have the same names."""
    at = datetime(2026, 3, 1, tzinfo=UTC)
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    written = headers.cloudevents(
        "t", event_id="1", source="s", at=at, subject="k", traceparent=trace,
        correlation_id="c", causation_id="d", actor="ada", dataschema="x",
    )  # fmt: skip
    promised = asyncapi()["components"]["messageTraits"]["cloudEvent"]["headers"]["properties"]
    assert {name for name, _ in written} <= set(promised)
