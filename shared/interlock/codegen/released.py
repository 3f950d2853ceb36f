"""What was released stays readable: frozen copies of `schemas/`, and the check of the new against all of them."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from interlock.codec.compatibility import check_level, refuse_dangerous
from interlock.codegen.source import Source, SourceError


def freeze(source: Source, version: str) -> list[str]:
    """Copy events and ids to `schemas/released/<version>/`; returns the paths. A release is never written twice."""
    folder = source.root / "schemas" / "released" / version
    if folder.exists():
        raise SourceError(f"schemas/released/{version}: it is released already; what is released does not change.")
    (folder / "events").mkdir(parents=True)
    for path in sorted((source.root / "schemas" / "events").glob("*.avsc")):
        (folder / "events" / path.name).write_bytes(path.read_bytes())
    (folder / "ids.toml").write_bytes((source.root / "schemas" / "ids.toml").read_bytes())
    return [str(path.relative_to(source.root)) for path in sorted(folder.rglob("*")) if path.is_file()]


def problems(source: Source) -> list[str]:
    """Return what is wrong with the schemas: danger, broken compatibility with a release, an id reused."""
    found = []
    releases = _releases(source.root)
    for event in source.events:
        where = f"schemas/events/{event.name}.avsc"
        found += [f"{where}: {text}" for text in refuse_dangerous(event.schema)]
        olds = [schemas[event.name] for schemas, _ in releases if event.name in schemas]
        level = source.topic_of(event.name).compatibility
        found += [f"{where}: {level} is broken: {text}" for text in check_level(level, event.schema, olds)]
        found += [
            f"{where}: it differs from what was released as {event.schema_id}; give it a new id in ids.toml"
            for schemas, ids in releases
            if ids.get(event.name) == event.schema_id and _shape(schemas[event.name]) != _shape(event.schema)
        ]
    names = {event.name for event in source.events}
    numbers = {event.schema_id: event.name for event in source.events}
    for schemas, ids in releases:
        found += [f"schemas/events/{name}.avsc: it was released and is gone" for name in sorted(set(schemas) - names)]
        found += [
            f"schemas/ids.toml: {number} belonged to {name} in a release and now to {numbers[number]}"
            for name, number in sorted(ids.items())
            if numbers.get(number, name) != name
        ]
    return found


def _releases(root: Path) -> list[tuple[dict[str, Any], dict[str, int]]]:
    """Return each release's schemas and ids, oldest first."""
    folders = sorted((root / "schemas" / "released").glob("*"), key=lambda path: [int(n) for n in path.name.split(".")])
    return [
        (
            {path.stem: json.loads(path.read_text()) for path in sorted((folder / "events").glob("*.avsc"))},
            tomllib.loads((folder / "ids.toml").read_text()),
        )
        for folder in folders
    ]


def _shape(node: Any) -> Any:
    """Return the schema without its docs: words may change, bytes may not."""
    if isinstance(node, list):
        return [_shape(item) for item in node]
    if isinstance(node, dict):
        return {name: _shape(item) for name, item in node.items() if name != "doc"}
    return node
