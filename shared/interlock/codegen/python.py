"""Python from schemas: one module of event classes per topic, their index, and the constants of the topics."""

from __future__ import annotations

from typing import Any

from interlock.codegen.source import EventSource, Source, TopicSource

_PRIMITIVES = {
    "string": "str", "int": "int", "long": "int", "float": "float", "double": "float", "boolean": "bool",
    "bytes": "bytes", "null": "None",
}  # fmt: skip
_WIDTH = 120
_FOLDER = "shared/interlock/schemas"
_NOTE = "Generated from schemas/ by `make generate`; not written by hand."


def render(source: Source) -> dict[str, str]:
    """Return the text of every generated Python module by its path from the root."""
    files = {
        f"{_FOLDER}/events/{_module(topic)}.py": _events_module(source, topic)
        for topic in source.topics
        if topic.events
    }
    files[f"{_FOLDER}/events/__init__.py"] = _events_index(source)
    files[f"{_FOLDER}/topics.py"] = _topics_module(source)
    return files


def _module(topic: TopicSource) -> str:
    return topic.constant.lower().removeprefix("endpoint_")


def _events_module(source: Source, topic: TopicSource) -> str:
    events = [source.event(name) for name in topic.events]
    classes = [
        part
        for event in events
        for part in [*_nested_classes(event), _event_class(event, topic)]
    ]  # fmt: skip
    body = "\n\n\n".join(classes)
    imports = ["from __future__ import annotations", ""]
    if "(StrEnum)" in body:
        standard = ["from datetime import datetime", "from enum import StrEnum", "from typing import ClassVar"]
    else:
        standard = ["from datetime import datetime", "from typing import ClassVar"]
    third = ["", "import msgspec"] if "(msgspec.Struct" in body else []
    imports += [*standard, *third, "", "from interlock.schemas.event import Event"]
    head = f'"""The events of `{topic.name}`: {_lower(topic.description)}\n\n{_NOTE}\n"""\n\n'
    return head + "\n".join(imports) + "\n\n\n" + body + "\n"


def _lower(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]


def _nested_classes(event: EventSource) -> list[str]:
    """Render the enums and records that the event's schema defines inside itself."""
    classes = []
    for node in _definitions([item["type"] for item in event.schema["fields"]]):
        lines = [f"class {node['name']}(StrEnum):"] if node["type"] == "enum" else [
            f"class {node['name']}(msgspec.Struct, frozen=True, kw_only=True):"
        ]  # fmt: skip
        lines += [*_docstring(node["doc"], 4), ""]
        if node["type"] == "enum":
            lines += [f'    {symbol} = "{symbol}"' for symbol in node["symbols"]]
        else:
            lines += _fields(node)
        classes.append("\n".join(lines))
    return classes


def _definitions(node: object) -> list[dict[str, Any]]:
    if isinstance(node, list):
        return [part for item in node for part in _definitions(item)]
    if not isinstance(node, dict):
        return []
    below = _definitions([node.get("items"), node.get("values"), [item["type"] for item in node.get("fields", ())]])
    return [*below, node] if node["type"] in {"record", "enum"} else below


def _event_class(event: EventSource, topic: TopicSource) -> str:
    lines = [f"class {event.name}(Event, frozen=True, kw_only=True):", *_docstring(event.doc, 4), ""]
    lines += [
        f"    SCHEMA_ID: ClassVar[int] = {event.schema_id}",
        f'    TOPIC: ClassVar[str] = "{topic.name}"',
        f'    TYPE: ClassVar[str] = "{event.type}"',
        f'    KEY: ClassVar[str] = "{topic.key}"',
        "    SCHEMA: ClassVar[str] = (",
        *(f"        {line}" for line in _literals(event.text, _WIDTH - 20)),
        "    )",
        "",
    ]
    return "\n".join([*lines, *_fields(event.schema)])


def _literals(text: str, width: int) -> list[str]:
    """Cut a schema into single-quoted Python literals of about that many characters, a new one for each field."""
    pieces = text.replace(',{"name"', '\n,{"name"').split("\n")
    cuts = [piece[start : start + width] for piece in pieces for start in range(0, len(piece), width)]
    return [_literal(cut) for cut in cuts]


def _literal(text: str) -> str:
    """Quote as the formatter would: double quotes unless single ones need fewer escapes."""
    quote = "'" if text.count('"') > text.count("'") else '"'
    return quote + text.replace("\\", "\\\\").replace(quote, f"\\{quote}") + quote


def _docstring(doc: str, indent: int) -> list[str]:
    return [f'{" " * indent}"""{doc}"""']


def _fields(schema: dict[str, Any]) -> list[str]:
    lines = []
    for item in schema["fields"]:
        default = ""
        if "default" in item:
            default = " = None" if item["default"] is None else f" = {item['default']!r}"
        lines += [f"    {item['name']}: {_annotation(item['type'])}{default}", *_docstring(item["doc"], 4)]
    return lines


def _annotation(schema: Any) -> str:
    if isinstance(schema, str):
        return _PRIMITIVES.get(schema, schema)
    if isinstance(schema, list):
        others = [_annotation(part) for part in schema if part != "null"]
        return " | ".join([*others, "None"] if "null" in schema else others)
    if schema.get("logicalType") == "timestamp-millis":
        return "datetime"
    if schema["type"] == "array":
        return f"tuple[{_annotation(schema['items'])}, ...]"
    if schema["type"] == "map":
        return f"dict[str, {_annotation(schema['values'])}]"
    return str(schema.get("name") or _annotation(schema["type"]))


def _events_index(source: Source) -> str:
    lines = [
        f'"""All events, by name and by schema id.\n\n{_NOTE}\n"""\n',
        "from __future__ import annotations\n",
        "from interlock.schemas.event import Event",
    ]
    names = []
    modules = []
    for topic in source.topics:
        if not topic.events:
            continue
        here = [node["name"] for name in topic.events for node in _definitions([source.event(name).schema])]
        names += here
        modules.append((_module(topic), sorted(here)))
    for module, here in sorted(modules):
        text = f"from interlock.schemas.events.{module} import {', '.join(here)}"
        if len(text) > _WIDTH:
            text = f"from interlock.schemas.events.{module} import (\n" + "".join(f"    {n},\n" for n in here) + ")"
        lines.append(text)
    everything = sorted([*names, "Event", "EVENTS", "BY_SCHEMA_ID"], key=lambda name: (not name.isupper(), name))
    lines += ["", "__all__ = [", *(f'    "{name}",' for name in _sorted_like_ruff(everything)), "]", ""]
    lines += ["EVENTS: tuple[type[Event], ...] = (", *(f"    {event.name}," for event in source.events), ")"]
    lines += ['"""Every event, in the order of the schema ids."""', ""]
    lines += ["BY_SCHEMA_ID: dict[int, type[Event]] = {event.SCHEMA_ID: event for event in EVENTS}"]
    lines += ['"""The event that a schema id in a Confluent frame stands for."""', ""]
    return "\n".join(lines)


def _sorted_like_ruff(names: list[str]) -> list[str]:
    """Sort as ruff wants `__all__`: constants, then classes, each by name."""
    return sorted(names, key=lambda name: (0 if name == name.upper() else 1, name))


def _topics_module(source: Source) -> str:
    lines = [f'"""The topics: their names as constants, and all that is declared about them.\n\n{_NOTE}\n"""\n']
    lines += ["from __future__ import annotations\n", "from interlock.schemas.topic import Topic", ""]
    for topic in source.topics:
        lines += [f'{topic.constant} = "{topic.name}"', *_docstring(topic.description, 0)]
    lines += ["", "TOPICS: tuple[Topic, ...] = ("]
    for topic in source.topics:
        lines += [
            "    Topic(",
            f"        name={topic.constant},",
            f'        owner="{topic.owner}",',
            f'        key="{topic.key}",',
            f"        partitions={topic.partitions},",
            "        config={",
            *(f'            "{name}": "{value}",' for name, value in topic.kafka_config.items()),
            "        },",
            *_tuple_lines("events", topic.events),
            *_tuple_lines("writers", topic.writers),
            *_tuple_lines("readers", topic.readers),
            f'        compatibility="{topic.compatibility}",',
            f"        template={topic.template},",
            "    ),",
        ]
    return "\n".join([*lines, ")", '"""Every topic; the templates stand for one topic per endpoint."""', ""])


def _tuple_lines(name: str, values: tuple[str, ...]) -> list[str]:
    if not values:
        return [f"        {name}=(),"]
    if len(values) == 1:
        return [f'        {name}=("{values[0]}",),']
    joined = ", ".join(f'"{value}"' for value in values)
    text = f"        {name}=({joined}),"
    if len(text) <= _WIDTH:
        return [text]
    return [f"        {name}=(", *(f'            "{value}",' for value in values), "        ),"]
