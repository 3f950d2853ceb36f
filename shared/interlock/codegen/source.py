"""The one source: topics, events, ids and examples as they stand in `schemas/`, checked for sense."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMESPACE = "io.interlock"
SCHEMA_IDS_MAX = 999
DOC_CHARACTERS_MAX = 110
SERVICES = ("registry", "builder", "deployer", "router", "monitor", "auditor")
PRINCIPALS = (*SERVICES, "clients")
LEVELS = (
    "NONE", "BACKWARD", "FORWARD", "FULL", "BACKWARD_TRANSITIVE", "FORWARD_TRANSITIVE", "FULL_TRANSITIVE",
)  # fmt: skip
_TOPIC_KEYS = {
    "name", "description", "owner", "key", "events", "template", "partitions", "retention", "compatibility",
    "writers", "readers", "config",
}  # fmt: skip
_MILLISECONDS_PER_DAY = 86_400_000


class SourceError(Exception):
    """`schemas/` says something that makes no sense; the text names the file."""


@dataclass(frozen=True)
class EventSource:
    """One event: its Avro schema as written, its fixed id and its examples by name."""

    name: str
    schema: dict[str, Any]
    schema_id: int
    examples: dict[str, dict[str, Any]]

    @property
    def doc(self) -> str:
        """Return the event's own sentence."""
        return str(self.schema["doc"])

    @property
    def type(self) -> str:
        """Return the CloudEvents type, such as `io.interlock.version_promoted.v1`."""
        return f"{NAMESPACE}.{snake_case(self.name)}.v1"

    @property
    def text(self) -> str:
        """Return the schema as JSON without white space."""
        return json.dumps(self.schema, ensure_ascii=True, separators=(",", ":"))


@dataclass(frozen=True)
class TopicSource:
    """One topic file."""

    file: str
    name: str
    description: str
    owner: str
    key: str
    events: tuple[str, ...]
    template: bool
    partitions: int
    retention: str
    compatibility: str
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    config: dict[str, str] = field(default_factory=dict)

    @property
    def constant(self) -> str:
        """Return the topic's name in Python, such as MODEL_EVENTS or ENDPOINT_REQUESTS."""
        name = self.name.replace("{endpoint}", "endpoint").removeprefix("interlock.")
        return re.sub(r"[^a-z0-9]", "_", name).upper()

    @property
    def kafka_config(self) -> dict[str, str]:
        """Return Kafka's settings: retention spelled out, then what the file adds."""
        return {**_retention_config(self.file, self.retention), **self.config}


@dataclass(frozen=True)
class Source:
    """All of `schemas/`: topics in the order of their names, templates last; events in the order of their ids."""

    root: Path
    topics: tuple[TopicSource, ...]
    events: tuple[EventSource, ...]

    def topic_of(self, event: str) -> TopicSource:
        """Return the topic that carries the event."""
        return next(topic for topic in self.topics if event in topic.events)

    def event(self, name: str) -> EventSource:
        """Return the event of that name."""
        return next(event for event in self.events if event.name == name)


def load(root: Path) -> Source:
    """Read `schemas/` under the repository's root; raises SourceError where it makes no sense."""
    folder = root / "schemas"
    ids = tomllib.loads((folder / "ids.toml").read_text())
    events = [_load_event(path, ids, folder / "examples") for path in sorted((folder / "events").glob("*.avsc"))]
    topics = [_load_topic(path) for path in sorted((folder / "topics").glob("*.toml"))]
    _check_whole(ids, events, topics)
    return Source(
        root=root,
        topics=tuple(sorted(topics, key=lambda topic: (topic.template, topic.name))),
        events=tuple(sorted(events, key=lambda event: event.schema_id)),
    )


def snake_case(name: str) -> str:
    """Return `version_promoted` for `VersionPromoted`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _load_event(path: Path, ids: dict[str, int], examples: Path) -> EventSource:
    schema = json.loads(path.read_text())
    where = f"schemas/events/{path.name}"
    if schema.get("name") != path.stem or schema.get("namespace") != NAMESPACE:
        raise SourceError(f"{where}: the record must be named {path.stem} in the namespace {NAMESPACE}.")
    if path.stem not in ids:
        raise SourceError(f"{where}: schemas/ids.toml gives {path.stem} no id.")
    for place, node in _named_parts(schema):
        if not node.get("doc"):
            raise SourceError(f"{where}: {place} has no doc.")
        if len(node["doc"]) > DOC_CHARACTERS_MAX:
            raise SourceError(f"{where}: the doc of {place} has more than {DOC_CHARACTERS_MAX} characters.")
    texts = {file.stem: json.loads(file.read_text()) for file in sorted((examples / path.stem).glob("*.json"))}
    if not texts:
        raise SourceError(f"{where}: schemas/examples/{path.stem}/ holds no example.")
    return EventSource(name=path.stem, schema=schema, schema_id=ids[path.stem], examples=texts)


def _named_parts(node: object, place: str = "") -> list[tuple[str, dict[str, Any]]]:
    """List every record, enum and field below, with where it is."""
    if isinstance(node, list):
        return [part for item in node for part in _named_parts(item, place)]
    if not isinstance(node, dict):
        return []
    found: list[tuple[str, dict[str, Any]]] = []
    if node.get("type") in {"record", "enum", "fixed"}:
        place = str(node["name"])
        found.append((place, node))
    for item in node.get("fields", ()):
        found.append((f"{place}.{item['name']}", item))
        found += _named_parts(item["type"], f"{place}.{item['name']}")
    for key in ("items", "values", "type"):
        found += _named_parts(node.get(key), place)
    return found


def _load_topic(path: Path) -> TopicSource:
    where = f"schemas/topics/{path.name}"
    table = tomllib.loads(path.read_text())
    if unknown := sorted(set(table) - _TOPIC_KEYS):
        raise SourceError(f"{where}: unknown keys {', '.join(unknown)}.")
    if missing := sorted(_TOPIC_KEYS - {"config"} - set(table)):
        raise SourceError(f"{where}: missing keys {', '.join(missing)}.")
    for key in ("events", "writers", "readers"):
        table[key] = tuple(table[key])
    topic = TopicSource(file=path.name, **table)
    if topic.template != ("{endpoint}" in topic.name) or topic.template != (topic.partitions == 0):
        raise SourceError(f"{where}: a template has {{endpoint}} in its name and 0 partitions; nothing else has.")
    if stranger := sorted(set(topic.writers + topic.readers) - set(PRINCIPALS)):
        raise SourceError(f"{where}: unknown principals {', '.join(stranger)}; known are {', '.join(PRINCIPALS)}.")
    if topic.owner not in SERVICES:
        raise SourceError(f"{where}: the owner {topic.owner} is no service.")
    if topic.compatibility not in LEVELS:
        raise SourceError(f"{where}: unknown compatibility {topic.compatibility}; known are {', '.join(LEVELS)}.")
    _retention_config(path.name, topic.retention)
    return topic


def _retention_config(file: str, retention: str) -> dict[str, str]:
    if retention == "compacted":
        return {"cleanup.policy": "compact"}
    if retention == "forever":
        return {"cleanup.policy": "delete", "retention.ms": "-1"}
    if days := re.fullmatch(r"(\d+) days?", retention):
        return {"cleanup.policy": "delete", "retention.ms": str(int(days[1]) * _MILLISECONDS_PER_DAY)}
    raise SourceError(f"schemas/topics/{file}: the retention is `forever`, `compacted` or `N days`, not {retention!r}.")


def _check_whole(ids: dict[str, int], events: list[EventSource], topics: list[TopicSource]) -> None:
    names = {event.name for event in events}
    if orphans := sorted(set(ids) - names):
        raise SourceError(f"schemas/ids.toml: {', '.join(orphans)} has an id but no schema.")
    if len(set(ids.values())) != len(ids) or not all(0 < number <= SCHEMA_IDS_MAX for number in ids.values()):
        raise SourceError(f"schemas/ids.toml: ids are unique and lie between 1 and {SCHEMA_IDS_MAX}.")
    for event in events:
        carriers = [topic for topic in topics if event.name in topic.events]
        if len(carriers) != 1:
            raise SourceError(f"schemas/events/{event.name}.avsc: one topic must carry it, not {len(carriers)}.")
        fields = {item["name"] for item in event.schema["fields"]}
        if carriers[0].key not in fields:
            raise SourceError(f"schemas/topics/{carriers[0].file}: {event.name} has no field {carriers[0].key}.")
    for topic in topics:
        if unknown := sorted(set(topic.events) - names):
            raise SourceError(f"schemas/topics/{topic.file}: no schema for {', '.join(unknown)}.")
