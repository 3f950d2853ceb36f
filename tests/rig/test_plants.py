"""The planted bugs still have something to spoil, and say so at once where they have not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.rig import scenes, scenes_control
from tests.rig.crash_points import Point
from tests.rig.patching import spoil
from tests.rig.plants import PLANTS, Plant, apply

PLANTS_MIN = 25
MODULES = ("plants_lane", "plants_reading", "plants_batch", "plants_control")


def _instead_of_spoiling(monkeypatch: pytest.MonkeyPatch, instead: Callable[[str, Callable[[Any], Any]], Any]) -> None:
    for module in MODULES:
        monkeypatch.setattr(f"tests.rig.{module}.spoil", instead)


@pytest.mark.parametrize("plant", PLANTS.values(), ids=lambda plant: plant.name)
def test_every_bug_finds_what_it_spoils(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its targets are there and can be spoiled, without anything being spoiled in this process."""
    found: list[str] = []

    def look(target: str, planted: Callable[[Any], Any]) -> Any:
        _, _, inner = Point(target, target).place()
        planted(inner)
        found.append(target)
        return inner

    _instead_of_spoiling(monkeypatch, look)
    apply(plant.name)
    assert found


@pytest.mark.parametrize("plant", PLANTS.values(), ids=lambda plant: plant.name)
def test_a_bug_without_its_target_fails_loudly(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where what it spoils is gone, planting raises: no plant outlives the code that it is about."""

    def gone(target: str, _: Callable[[Any], Any]) -> Any:
        return spoil(f"{target}_that_was_renamed", lambda inner: inner)

    _instead_of_spoiling(monkeypatch, gone)
    with pytest.raises(AttributeError):
        apply(plant.name)


def test_there_are_enough_bugs_and_every_scene_catches_one() -> None:
    """At least 25; a scene that catches nothing proves little, so each but the quiet one has a bug."""
    assert len(PLANTS) >= PLANTS_MIN
    known = {**scenes.SCENES, **scenes_control.SCENES}
    assert set(known) - {plant.scene for plant in PLANTS.values()} == {"quiet"}
    with pytest.raises(KeyError):
        apply("nobody-knows-it")
