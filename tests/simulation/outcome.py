"""What comes of one simulated run, and bugs that a run must find."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from tests.simulation.kafka import Cluster
from tests.simulation.loop import VirtualLoop


@dataclass(frozen=True)
class Plant:
    """A bug, how it is put in, and the kinds of violation of which at least one must be found."""

    name: str
    put_in: Callable[[], AbstractContextManager[Any]]
    kinds: set[str]


def hash_of(loop: VirtualLoop, cluster: Cluster) -> str:
    """Return what happened in a run, and every byte that it left in Kafka, as a hash."""
    found = hashlib.sha256(loop.digest.encode())
    for place in sorted(cluster.logs):
        for record in cluster.logs[place].records:
            found.update(repr((place, record.offset, record.key, record.value, record.visible)).encode())
    return found.hexdigest()


def found_after(story: Callable[..., Outcome], plant: Plant, seeds_max: int) -> Outcome:
    """Run a story with a bug in it, seed after seed, until it is found; raises AssertionError if it is not."""
    for seed in range(seeds_max):
        outcome = story(seed, plant.put_in)
        if outcome.violations:
            assert outcome.kinds & plant.kinds, f"{plant.name} is found, but as something else:\n{outcome}"
            return outcome
    raise AssertionError(f"{seeds_max} seeds do not find that {plant.name}")


@dataclass
class Outcome:
    """The seed, what is wrong, the hash of everything that happened, and the end of the trace."""

    seed: int
    violations: list[str]
    digest: str
    trace: list[str]
    work: int  # requests, commands or orders that there were

    @property
    def kinds(self) -> set[str]:
        """The kinds of what is wrong."""
        return {each.partition(":")[0] for each in self.violations}

    def __str__(self) -> str:
        """Say the seed, what is wrong, and the end of the trace."""
        return "\n".join([f"seed {self.seed}: {len(self.violations)} violations", *self.violations[:10], *self.trace])
