"""The tree keeps every rule, and every rule finds what it is there to find."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tidy.plants import PLANTS
from tests.tidy.rules import code, contracts, documents, layout
from tests.tidy.rules.tree import files

ROOT = Path(__file__).resolve().parents[2]
Rule = Callable[[Path], list[str]]
RULES: dict[str, Rule] = {
    name: function
    for module in (layout, code, documents, contracts)
    for name, function in vars(module).items()
    if inspect.isfunction(function) and function.__module__ == module.__name__ and not name.startswith("_")
}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of the tree that may be spoiled."""
    for path in files(ROOT):
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return tmp_path


@pytest.mark.parametrize("name", RULES)
def test_the_tree_keeps_the_rule(name: str) -> None:
    """Nothing in the tree breaks it."""
    assert RULES[name](ROOT) == []


@pytest.mark.parametrize("name", RULES)
def test_the_rule_finds_a_planted_violation(name: str, copy: Path) -> None:
    """What is planted is found, and named."""
    before = RULES[name](copy)
    expected = PLANTS[name](copy)
    new = [text for text in RULES[name](copy) if text not in before]
    assert [text for text in new if expected in text] != []


def test_every_rule_has_a_plant() -> None:
    """No rule is trusted that was never seen red, and no plant is left of a rule that is gone."""
    assert set(PLANTS) == set(RULES)


@pytest.mark.parametrize("driver", ["aiokafka", "asyncpg", "redis", "ray", "faust"])
def test_a_driver_imported_away_from_home_is_found(driver: str, copy: Path) -> None:
    """Each driver's own contract goes red."""
    path = copy / "services/auditor/interlock_auditor/__init__.py"
    path.write_text(f"{path.read_text()}\nimport {driver}\n")
    home = {"aiokafka": "interlock.kafka", "asyncpg": "interlock.postgres", "redis": "interlock.cache",
            "ray": "interlock.serving", "faust": "interlock_monitor"}[driver]  # fmt: skip
    assert contracts.broken_contracts(copy) == [f"{driver} lives in {home}"]


def test_an_import_that_runs_upwards_is_found(copy: Path) -> None:
    """The ground may not know what stands on it."""
    path = copy / "shared/interlock/ids.py"
    path.write_text(f"{path.read_text()}\nimport interlock.settings\n")
    assert "Imports run downwards only" in contracts.broken_contracts(copy)
