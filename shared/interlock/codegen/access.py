"""Who may do what in Kafka: topics with their settings, and one access rule per principal, resource and operation."""

from __future__ import annotations

import json
from typing import Any

from interlock.codegen.source import SERVICES, Source, TopicSource

ACL_PATH = "deploy/kafka/acl.json"
TOPICS_PATH = "deploy/kafka/topics.json"
_CLIENTS = "clients"


def render(source: Source) -> dict[str, str]:
    """Return the table of access rules and the list of topics by their paths from the root."""
    platform = [rule for topic in source.topics if not topic.template for rule in topic_rules(topic)]
    endpoint = [rule for topic in source.topics if topic.template for rule in topic_rules(topic)]
    acl = {
        "note": "Generated from schemas/ by `make generate`. `endpoint` holds the rules of one endpoint: "
        "put its name for {endpoint}, and the application's own principal for clients.",
        "platform": [*_process_rules(source), *platform],
        "endpoint": endpoint,
    }
    topics = [
        {
            "name": topic.name,
            "partitions": topic.partitions or "as the endpoint says",
            "config": topic.kafka_config,
        }
        for topic in source.topics
    ]
    return {ACL_PATH: _json(acl), TOPICS_PATH: _json(topics)}


def topic_rules(topic: TopicSource) -> list[dict[str, str]]:
    """Return the rules by which the topic's writers may write and its readers may read."""
    rules = []
    for principal in (*topic.writers, *(name for name in topic.readers if name not in topic.writers)):
        operations = ["DESCRIBE"]
        operations += ["WRITE"] if principal in topic.writers else []
        operations += ["READ"] if principal in topic.readers else []
        rules += [_rule(principal, "TOPIC", topic.name, operation) for operation in operations]
    return rules


def transactional(source: Source, principal: str) -> bool:
    """Say whether the principal writes through transactions: every service that publishes, and the router's lanes."""
    return any(principal in topic.writers for topic in source.topics) and principal != _CLIENTS


def _process_rules(source: Source) -> list[dict[str, str]]:
    """Return what each service needs besides topics: its consumer groups, its transactions, its own tasks."""
    rules = []
    for service in SERVICES:
        name = f"interlock.{service}"
        rules.append(_rule(service, "GROUP", name, "READ", "PREFIXED"))
        if transactional(source, service):
            rules += [
                _rule(service, "TRANSACTIONAL_ID", name, operation, "PREFIXED") for operation in ("DESCRIBE", "WRITE")
            ]
    rules += [
        _rule("deployer", "CLUSTER", "kafka-cluster", "CREATE"),
        _rule("deployer", "CLUSTER", "kafka-cluster", "DESCRIBE"),
    ]
    return rules


def _rule(principal: str, kind: str, name: str, operation: str, pattern: str = "LITERAL") -> dict[str, str]:
    return {
        "principal": f"User:{principal}",
        "resource_type": kind,
        "resource_name": name,
        "pattern_type": pattern,
        "operation": operation,
        "permission": "ALLOW",
    }


def _json(value: Any) -> str:
    """Write JSON with one object of a list to a line, so that a change is seen where it is."""
    if isinstance(value, list):
        return "[\n" + ",\n".join(f"  {json.dumps(item)}" for item in value) + "\n]\n"
    parts = []
    for name, item in value.items():
        if isinstance(item, list):
            rows = ",\n".join(f"    {json.dumps(row)}" for row in item)
            parts.append(f"  {json.dumps(name)}: [\n{rows}\n  ]")
        else:
            parts.append(f"  {json.dumps(name)}: {json.dumps(item)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"
