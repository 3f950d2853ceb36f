"""The stock Confluent clients against the registry's own schema routes, in each of their modes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, SchemaRegistryError
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from interlock.schemas.events import EVENTS, VersionPromoted
from tests.integration.registry.room import Room, registry

T = TypeVar("T")
USER = json.dumps({"type": "record", "name": "User", "namespace": "t", "fields": [{"name": "name", "type": "string"}]})
WIDER = json.dumps(
    {
        "type": "record", "name": "User", "namespace": "t",
        "fields": [{"name": "name", "type": "string"}, {"name": "age", "type": ["null", "int"], "default": None}],
    }
)  # fmt: skip
BROKEN = json.dumps(
    {
        "type": "record", "name": "User", "namespace": "t",
        "fields": [{"name": "name", "type": "string"}, {"name": "age", "type": "int"}],
    }
)  # fmt: skip
CONTEXT = SerializationContext("users", MessageField.VALUE)


@pytest.fixture
async def room(servers: dict[str, str], tmp_path: Path) -> AsyncIterator[Room]:
    """A registry of this test's own."""
    async with registry(servers, tmp_path / "registry") as opened:
        yield opened


def client_of(room: Room, *roles: str) -> SchemaRegistryClient:
    """Return a stock client that knows nothing but a URL with user and token in it."""
    token = room.token("app", *(roles or ("author",)))
    return SchemaRegistryClient({"url": room.url.replace("http://", f"http://app:{token}@") + "/schema-registry"})


async def off(work: Callable[[], T]) -> T:
    """Run blocking client code beside the server's loop."""
    return await asyncio.to_thread(work)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"auto.register.schemas": True, "normalize.schemas": True},
        {"auto.register.schemas": False},
        {"auto.register.schemas": False, "use.latest.version": True},
    ],
)
async def test_a_stock_serializer_and_deserializer_round_trip(room: Room, settings: dict[str, Any]) -> None:
    """Registering by itself, looking up, using the latest: each writes a frame that the deserializer reads."""

    def work() -> tuple[bytes, Any]:
        client = client_of(room)
        if not settings.get("auto.register.schemas", True):
            client.register_schema("users-value", Schema(USER, "AVRO"))
        data = AvroSerializer(client, USER, conf=settings)({"name": "ann"}, CONTEXT)
        assert data is not None
        return data, AvroDeserializer(client_of(room, "viewer"))(data, CONTEXT)

    data, value = await off(work)
    assert data[0] == 0
    assert int.from_bytes(data[1:5], "big") >= 1000
    assert value == {"name": "ann"}


async def test_a_caller_who_may_only_read_can_use_what_is_registered(room: Room) -> None:
    """Stock serializers register by default: the same schema again is granted to all, a new one is not."""

    def work() -> None:
        client_of(room).register_schema("users-value", Schema(USER, "AVRO"))
        viewer = client_of(room, "viewer")
        assert AvroSerializer(viewer, USER)({"name": "ann"}, CONTEXT)
        with pytest.raises(SchemaRegistryError) as refused:
            viewer.register_schema("users-value", Schema(WIDER, "AVRO"))
        assert refused.value.http_status_code == 403
        assert "author or operator or service" in refused.value.error_message

    await off(work)


async def test_compatibility_is_checked_where_a_schema_is_registered(room: Room) -> None:
    """A new field without a default is refused with 409; levels can be read and set."""

    def work() -> None:
        client = client_of(room)
        first = client.register_schema("users-value", Schema(USER, "AVRO"))
        assert client.test_compatibility("users-value", Schema(WIDER, "AVRO"))
        assert not client.test_compatibility("users-value", Schema(BROKEN, "AVRO"))
        with pytest.raises(SchemaRegistryError) as refused:
            client.register_schema("users-value", Schema(BROKEN, "AVRO"))
        assert (refused.value.http_status_code, refused.value.error_code) == (409, 409)
        assert "age" in refused.value.error_message
        assert client.register_schema("users-value", Schema(WIDER, "AVRO")) > first
        assert client.get_compatibility() == "BACKWARD"
        client.set_compatibility("users-value", "NONE")
        assert client.get_compatibility("users-value") == "NONE"
        assert client.register_schema("users-value", Schema(BROKEN, "AVRO")) > first
        with pytest.raises(SchemaRegistryError) as unknown:
            client.set_compatibility("users-value", "WHATEVER")
        assert unknown.value.error_code == 42203

    await off(work)


async def test_ids_are_global_and_never_given_twice(room: Room) -> None:
    """The same schema elsewhere keeps its id; a deleted version's number and id do not come back."""

    def work() -> None:
        client = client_of(room)
        one = client.register_schema("users-value", Schema(USER, "AVRO"))
        assert client.register_schema("people-value", Schema(USER.replace(",", ", "), "AVRO")) == one
        assert client.delete_subject("users-value") == [1]
        assert client.delete_subject("users-value", permanent=True) == [1]
        fresh = client_of(room)
        assert fresh.get_schema(one).schema_str == USER
        assert fresh.register_schema("users-value", Schema(WIDER, "AVRO")) > one
        assert fresh.get_versions("users-value") == [2]
        assert {each.subject for each in fresh.get_schema_versions(one)} == {"people-value"}
        with pytest.raises(SchemaRegistryError) as gone:
            fresh.get_version("users-value", 1)
        assert gone.value.error_code == 40402

    await off(work)


async def test_the_platforms_events_stand_under_their_fixed_ids(room: Room) -> None:
    """A stranger reads a model-promoted event with nothing but the stock deserializer."""
    from interlock.clock import SystemClock
    from interlock.codec import rows

    event = VersionPromoted(
        endpoint="fraud", model="fraud", version=2, digest="sha256:x", promotion=1, actor="otto", previous_version=1,
        at=SystemClock().now(),
    )  # fmt: skip

    def work() -> Any:
        client = client_of(room, "viewer")
        for kind in EVENTS:
            assert json.loads(client.get_schema(kind.SCHEMA_ID).schema_str or "") == json.loads(kind.SCHEMA)
        subjects = client.get_subjects()
        assert "interlock.model.events-io.interlock.VersionPromoted" in subjects
        assert "interlock.routes-value" in subjects
        return AvroDeserializer(client)(
            rows.encode(event), SerializationContext("interlock.model.events", MessageField.VALUE)
        )

    assert (await off(work))["promotion"] == 1


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ("{", "Invalid Avro schema"),
        ('{"type": "record", "name": "A", "fields": [{"name": "a", "type": "Nowhere"}]}', "Nowhere"),
        ('{"type": "array", "items": "null"}', "refused"),
        ('{"type": "record", "name": "A", "fields": [{"name": "a", "type": ["null", "A"]}]}', "refused"),
        ('{"type": "array", "items": ' * 300 + '"int"' + "}" * 300, "nested deeper"),
        ('{"type": "enum", "name": "E", "symbols": ["' + "x" * 300_000 + '"]}', "longer than"),
        ("[" * 100_000, "Invalid Avro schema"),
    ],
)
async def test_invalid_and_dangerous_schemas_are_refused(room: Room, schema: str, said: str) -> None:
    """Whatever is sent, the answer is 422 in the Confluent shape with a sentence."""
    async with room.client("app", "author") as client:
        answer = await client.post("/schema-registry/subjects/x-value/versions", json={"schema": schema})
    assert (answer.status_code, answer.json()["error_code"]) == (422, 42201)
    assert said in answer.json()["message"]


async def test_errors_have_the_confluent_shape(room: Room) -> None:
    """Numbers as its clients know them; without a token a 401 in the same shape."""
    import httpx

    async with room.client("app", "author") as client:
        for path, number in (
            ("subjects/none/versions", 40401), ("subjects/interlock.routes-value/versions/9", 40402),
            ("subjects/interlock.routes-value/versions/x", 42202), ("schemas/ids/77777", 40403),
            ("config/none", 40408), ("associations/resources/-/users?resourceType=topic", 40401), ("nowhere", 40400),
        ):  # fmt: skip
            answer = await client.get(f"/schema-registry/{path}")
            assert answer.json()["error_code"] == number, path
            assert answer.status_code == int(str(number)[:3])
            assert answer.headers["content-type"].startswith("application/vnd.schemaregistry.v1+json")
        media = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
        made = await client.post(
            "/schema-registry/subjects/a/versions", content=json.dumps({"schema": USER}), headers=media
        )
        assert made.status_code == 200
        bad = await client.post("/schema-registry/subjects/a/versions", content="{", headers=media)
        assert (bad.status_code, bad.json()["error_code"]) == (422, 42201)
        kind = {"schema": "{}", "schemaType": "PROTOBUF"}
        assert (await client.post("/schema-registry/subjects/a/versions", json=kind)).json()["error_code"] == 42201
    async with httpx.AsyncClient(base_url=room.url, trust_env=False) as stranger:
        answer = await stranger.get("/schema-registry/subjects")
        assert (answer.status_code, answer.json()["error_code"]) == (401, 40101)
