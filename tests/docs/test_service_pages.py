"""The services' pages have one shape, and what they say of files and topics is so."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(path for path in (ROOT / "services").glob("*/README.md"))
WORKING = [page for page in PAGES if next(page.parent.glob("interlock_*/app.py"), None)]
ROOMS = [page for page in PAGES if page not in WORKING]
UNTOLD_FILES = {"__init__.py", "__main__.py"}
TOPIC = re.compile(r"`((?:interlock\.|\{endpoint\}\.)[a-z.-]+)`")


def problems(service: str, text: str, modules: set[str]) -> list[str]:
    """Return what a working service's page lacks of its shape, and what it says of files and topics that is not so."""
    found = []
    headings = re.findall(r"^#+ .*$", text, re.MULTILINE)
    title, first = (*headings, "", "")[:2]
    last = headings[-2:]
    if title != f"# {service.capitalize()}" or first != "## Files, in reading order":
        found.append(f"it begins with {title!r}, {first!r}")
    if last != ["## How this fails", "## Settings"]:
        found.append(f"it ends with {last}")
    if f"docs/reference/settings.md#the-{service}-besides" not in text:
        found.append("no link to its settings")
    row = re.search(r"^\| owns \| reads \| writes \|\n\|[-|]+\|\n\|(.*)\|(.*)\|(.*)\|$", text, re.MULTILINE)
    if row is None:
        return [*found, "no row that says what it owns, reads and writes"]
    for words, cell in (("readers", row[2]), ("writers", row[3])):
        found += [
            f"{topic} does not name it among its {words}"
            for topic in TOPIC.findall(cell)
            if service not in declared(topic, words)
        ]
    files = text.partition("## Files, in reading order\n\n")[2].partition("\n\n")[0]
    named = [
        name for cell in re.findall(r"^\| (`.*?) \|", files, re.MULTILINE) for name in re.findall(r"`(\S+?)`", cell)
    ]
    found += [f"{name} is not named" for name in sorted(modules) if not any(fnmatch(name, each) for each in named)]
    return found + [f"there is no {each}" for each in named if not any(fnmatch(name, each) for name in modules)]


def declared(topic: str, words: str) -> list[str]:
    """Return the readers or writers that a topic's declaration names."""
    for path in (ROOT / "schemas" / "topics").glob("*.toml"):
        table = tomllib.loads(path.read_text())
        if table["name"] == topic:
            return list(table[words])
    return []


def modules_of(page: Path) -> set[str]:
    """Return the names of a service's modules that a page has to tell of."""
    return {path.name for path in page.parent.glob("interlock_*/*.py")} - UNTOLD_FILES


@pytest.mark.parametrize("page", WORKING, ids=lambda page: page.parent.name)
def test_a_working_services_page_has_the_shape(page: Path) -> None:
    """Purpose, owns-reads-writes, every file in reading order, how it fails, settings: the same place in each."""
    assert not problems(page.parent.name, page.read_text(), modules_of(page))


@pytest.mark.parametrize("page", ROOMS, ids=lambda page: page.parent.name)
def test_an_empty_rooms_page_says_so(page: Path) -> None:
    """A service that does nothing yet says that in its first paragraph, and only names topics that are declared."""
    text = page.read_text()
    assert "Nothing runs here yet." in text.split("\n\n")[1]
    assert not [topic for topic in TOPIC.findall(text) if not declared(topic, "readers")]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("## How this fails", "## Trouble", "it ends with"),
        ("| `lane.py` |", "| `lain.py` |", "there is no lain.py"),
        ("| `lane.py` |", "| `lanes.py` |", "lane.py is not named"),
        ("| `interlock.routes`, ", "| `interlock.build.events`, ", "interlock.build.events does not name it"),
        ("#the-router-besides", "", "no link to its settings"),
        ("| owns | reads | writes |", "| owns | writes |", "no row"),
    ],
)
def test_a_page_that_leaves_the_shape_is_found(old: str, new: str, problem: str) -> None:
    """Each rule sees its own violation."""
    page = ROOT / "services" / "router" / "README.md"
    text = page.read_text()
    assert text.count(old) >= 1
    assert any(problem in each for each in problems("router", text.replace(old, new), modules_of(page)))
