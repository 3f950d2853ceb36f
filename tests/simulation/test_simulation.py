"""The product's own code in worlds that fail: what must hold holds for each seed, and bugs put in are found."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.simulation import deployer_story, events_story, router_story
from tests.simulation.control_plants import DEPLOYER_PLANTS, EVENT_PLANTS, HARMLESS
from tests.simulation.outcome import Outcome, Plant, found_after
from tests.simulation.router_plants import PLANTS as ROUTER_PLANTS

Story = Callable[..., Outcome]
STORIES: dict[str, Story] = {"router": router_story.run, "events": events_story.run, "deployer": deployer_story.run}
PLANTS = [
    *(("router", plant) for plant in ROUTER_PLANTS),
    *(("events", plant) for plant in EVENT_PLANTS),
    *(("deployer", plant) for plant in DEPLOYER_PLANTS),
]
pytestmark = pytest.mark.timeout(600)  # a busy machine is no fault of a seed
SEEDS = 70
SEEDS_SLOW = 4000
SEEDS_TO_FIND_MAX = 1000
QUICKLY_FOUND = {
    "the offset is committed before the results",
    "the offset committed is one behind",
    "the arms of a route are swapped",
    "a batch is told to begin at its first request",
    "there is no inbox",
}
HASHES = """
from tests.simulation import events_story, router_story
print(router_story.run(7).digest, events_story.run(7).digest)
"""


def explore(story: Story, seeds: range) -> None:
    """Run the story of each seed; fails with the seed and the end of its trace."""
    for seed in seeds:
        outcome = story(seed)
        assert not outcome.violations, f"\n{outcome}"
        assert outcome.work


@pytest.mark.parametrize("name", STORIES)
def test_what_must_hold_holds_for_each_seed(name: str) -> None:
    """No request, event or order is lost, repeated, reordered or told wrongly, whatever the seed makes fail."""
    explore(STORIES[name], range(SEEDS))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("name", STORIES)
def test_what_must_hold_holds_for_thousands_of_seeds(name: str, part: int) -> None:
    """The same for many more seeds."""
    first = SEEDS + part * SEEDS_SLOW // 4
    explore(STORIES[name], range(first, first + SEEDS_SLOW // 4))


@pytest.mark.parametrize("name", STORIES)
def test_a_seed_tells_one_story_and_another_seed_another(name: str) -> None:
    """Twice the same seed gives the same hash of all that happened and was written; ten seeds give ten."""
    assert STORIES[name](3).digest == STORIES[name](3).digest
    assert len({STORIES[name](seed).digest for seed in range(10)}) == 10


def test_a_seed_tells_the_same_story_in_another_process() -> None:
    """Neither the addresses of objects nor the salt of hashes have a say."""
    told = set()
    for salt in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": salt, "PYTHONPATH": "."}
        ended = subprocess.run(
            [sys.executable, "-c", HASHES], env=environment, capture_output=True, text=True, check=True
        )
        told.add(ended.stdout.splitlines()[-1])
    assert len(told) == 1


def _marked(name: str, plant: Plant) -> object:
    marks = () if plant.name in QUICKLY_FOUND else (pytest.mark.slow, pytest.mark.timeout(900))
    return pytest.param(name, plant, id=plant.name.replace(" ", "-"), marks=marks)


@pytest.mark.parametrize(("name", "plant"), [_marked(*each) for each in PLANTS])
def test_a_bug_that_is_put_in_is_found(name: str, plant: Plant) -> None:
    """Some seed shows it, as the kind of violation that it is."""
    found_after(STORIES[name], plant, SEEDS_TO_FIND_MAX)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_held_twice_holds_without_one_of_them(name: str) -> None:
    """Without the relay's gate the locks on streams keep the order; without a free lease the fences keep others out."""
    for seed in range(SEEDS):
        outcome = STORIES[name](seed, HARMLESS[name].put_in)
        assert not outcome.violations, f"\n{outcome}"
