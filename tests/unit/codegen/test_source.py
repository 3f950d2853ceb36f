"""The source of events and topics is refused where it makes no sense, with the file named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from interlock.codegen.source import SourceError, load, snake_case

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a copy of `schemas/` that may be spoiled."""
    shutil.copytree(ROOT / "schemas", tmp_path / "schemas")
    return tmp_path


def replace(path: Path, old: str, new: str) -> None:
    """Put one text in the place of another that must be there."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_the_schemas_as_they_stand_make_sense() -> None:
    """Every event has an id, a topic, a doc and an example."""
    source = load(ROOT)
    assert len(source.events) == len({event.schema_id for event in source.events}) > 0
    assert all(source.topic_of(event.name) for event in source.events)


@pytest.mark.parametrize(
    ("path", "old", "new", "said"),
    [
        ("events/BuildStarted.avsc", ', "doc": "The model\'s name."', "", "BuildStarted.model has no doc"),
        ("events/BuildStarted.avsc", '"name": "BuildStarted"', '"name": "Begun"', "must be named BuildStarted"),
        ("events/GateEvaluated.avsc", '"doc": "What a gate can say.", ', "", "Verdict has no doc"),
        ("events/ModelCreated.avsc", "The model's name.", "x" * 111, "more than 110 characters"),
        ("ids.toml", "BuildStarted = 7", "", "gives BuildStarted no id"),
        ("ids.toml", "BuildStarted = 7", "BuildStarted = 8", "ids are unique"),
        ("ids.toml", "BuildStarted = 7", "BuildStarted = 1000", "between 1 and 999"),
        ("ids.toml", "BuildStarted = 7", "BuildStarted = 7\nNothing = 99", "Nothing has an id but no schema"),
        ("topics/build.events.toml", '"BuildStarted", ', "", "one topic must carry it, not 0"),
        ("topics/build.events.toml", '"BuildStarted"', '"BuildBegun"', "one topic must carry it, not 0"),
        ("topics/build.events.toml", 'key = "model"', 'key = "colour"', "has no field colour"),
        ("topics/build.events.toml", "owner =", "proprietor =", "unknown keys proprietor"),
        ("topics/build.events.toml", 'owner = "builder"', "", "missing keys owner"),
        ("topics/build.events.toml", 'owner = "builder"', 'owner = "bob"', "the owner bob is no service"),
        ("topics/build.events.toml", 'writers = ["builder"]', 'writers = ["bob"]', "unknown principals bob"),
        ("topics/build.events.toml", '"forever"', '"a while"', "`forever`, `compacted` or `N days`"),
        ("topics/build.events.toml", '"FULL_TRANSITIVE"', '"SOME"', "unknown compatibility SOME"),
        ("topics/build.events.toml", "template = false", "template = true", "a template has {endpoint}"),
    ],
)
def test_what_makes_no_sense_is_refused(tree: Path, path: str, old: str, new: str, said: str) -> None:
    """The sentence says what is wrong and in which file."""
    replace(tree / "schemas" / path, old, new)
    with pytest.raises(SourceError) as refusal:
        load(tree)
    assert said in str(refusal.value)
    assert str(refusal.value).startswith("schemas/")


def test_an_event_without_an_example_is_refused(tree: Path) -> None:
    """An example is part of an event."""
    shutil.rmtree(tree / "schemas/examples/BuildStarted")
    with pytest.raises(SourceError, match="holds no example"):
        load(tree)


def test_an_event_of_an_unknown_name_in_a_topic_is_refused(tree: Path) -> None:
    """A topic cannot promise an event that has no schema."""
    replace(tree / "schemas/topics/monitor.events.toml", '"WindowClosed"', '"WindowClosed", "WindowBroken"')
    with pytest.raises(SourceError, match="no schema for WindowBroken"):
        load(tree)


def test_types_are_named_after_the_event() -> None:
    """The CloudEvents type is the event's name in lower case, with its version."""
    assert snake_case("VersionPromoted") == "version_promoted"
    assert load(ROOT).event("VersionPromoted").type == "io.interlock.version_promoted.v1"


def test_the_schema_text_is_the_file_without_white_space() -> None:
    """What is generated is what was written."""
    for event in load(ROOT).events:
        assert json.loads(event.text) == json.loads((ROOT / f"schemas/events/{event.name}.avsc").read_text())
