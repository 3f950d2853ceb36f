"""The AsyncAPI 3 document of every topic: channels, messages with their Avro schemas, and who sends and receives."""

from __future__ import annotations

from typing import Any

from interlock.codegen.source import NAMESPACE, EventSource, Source, TopicSource, snake_case

PATH = "deploy/kafka/asyncapi.yaml"
_AVRO = "application/vnd.apache.avro+json;version=1.9.0"
_RECORD = "Record"
_HEADERS = {
    "ce_specversion": "The version of CloudEvents, 1.0.",
    "ce_id": "The event's own id (UUID version 7), by which a consumer knows a duplicate.",
    "ce_source": "The service that wrote it.",
    "ce_type": "The event's type.",
    "ce_time": "When it was written, RFC 3339.",
    "ce_subject": "The record's key, as text.",
    "ce_dataschema": "Where the schema of the record is.",
    "ce_correlationid": "The id of the command that began it all.",
    "ce_causationid": "The id of the event or command that caused this one.",
    "ce_actor": "The subject on whose behalf it was written.",
    "ce_traceparent": "The trace context of the command that began it all.",
    "traceparent": "The W3C trace context of this hop.",
    "content-type": "avro/binary, in Confluent's frame: a zero byte, four bytes of schema id, the record.",
}


def render(source: Source, version: str) -> dict[str, str]:
    """Return the document by its path from the root."""
    import yaml

    document = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Interlock",
            "version": version,
            "description": "Facts travel as events on Kafka; commands come in over HTTP. Generated from schemas/.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "avro/binary",
        "channels": {topic.constant.lower(): _channel(source, topic) for topic in source.topics},
        "operations": dict(_operation(topic, *side) for topic in source.topics for side in _sides(topic)),
        "components": {
            "messages": {
                **{event.name: _message(event, source.topic_of(event.name)) for event in source.events},
                **{_message_name(topic): _own_schema_message(topic) for topic in source.topics if _open(topic)},
            },
            "messageTraits": {"cloudEvent": {"headers": _headers()}},
        },
    }  # fmt: skip
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)
    return {PATH: f"# Generated from schemas/ by `make generate`; not written by hand.\n{text}"}


def _channel(source: Source, topic: TopicSource) -> dict[str, Any]:
    names = topic.events or ((_message_name(topic),) if _open(topic) else ())
    channel: dict[str, Any] = {"address": topic.name, "description": topic.description}
    channel["messages"] = {name: {"$ref": f"#/components/messages/{name}"} for name in names}
    if topic.template:
        channel["parameters"] = {"endpoint": {"description": "The endpoint's name."}}
    binding: dict[str, Any] = {"topic": topic.name, "topicConfiguration": _topic_configuration(topic)}
    if not topic.template:
        binding["partitions"] = topic.partitions
    channel["bindings"] = {"kafka": binding}
    return channel


def _open(topic: TopicSource) -> bool:
    """Say whether the endpoint's own schemas rule on the topic."""
    return topic.template and not topic.events


def _topic_configuration(topic: TopicSource) -> dict[str, Any]:
    """Spell Kafka's settings as the Kafka binding does: only those that it knows, numbers as numbers."""
    config = topic.kafka_config
    known: dict[str, Any] = {"cleanup.policy": config["cleanup.policy"].split(",")}
    for name in ("retention.ms", "delete.retention.ms", "max.message.bytes"):
        if name in config:
            known[name] = int(config[name])
    return known


def _sides(topic: TopicSource) -> list[tuple[str, str]]:
    return [("send", name) for name in topic.writers] + [("receive", name) for name in topic.readers]


def _operation(topic: TopicSource, action: str, principal: str) -> tuple[str, dict[str, Any]]:
    channel = topic.constant.lower()
    verb = "writes" if action == "send" else "reads"
    name = f"{principal}_{action}_{channel}"
    return name, {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": f"{principal} {verb} {topic.name}.",
    }


def _message(event: EventSource, topic: TopicSource) -> dict[str, Any]:
    return {
        "name": event.type,
        "title": snake_case(event.name).replace("_", " "),
        "summary": event.doc,
        "contentType": "avro/binary",
        "traits": [{"$ref": "#/components/messageTraits/cloudEvent"}],
        "bindings": {"kafka": {"key": {"type": "string", "description": f"The event's {topic.key}."}}},
        "payload": {"schemaFormat": _AVRO, "schema": event.schema},
    }


def _message_name(topic: TopicSource) -> str:
    return topic.constant.removeprefix("ENDPOINT_").title().replace("_", "") + _RECORD


def _own_schema_message(topic: TopicSource) -> dict[str, Any]:
    return {
        "name": f"{NAMESPACE}.{topic.name}",
        "summary": topic.description,
        "description": f"The schema is the endpoint's own: subject `{topic.name}-value` of the schema registry.",
        "contentType": "avro/binary",
    }


def _headers() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: {"type": "string", "description": text} for name, text in _HEADERS.items()},
    }
