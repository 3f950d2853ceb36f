"""The fault schedule: who is hurt, how and when, all drawn from one seed, so that a run can be had again. Pure."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

FREEZE_SECONDS: Final = (0.2, 2.5)
"""A short standstill: garbage collection, a busy machine. Nobody takes anything over."""
ZOMBIE_SECONDS: Final = (7.0, 9.0)
"""A standstill past the session limit (6 s): another takes over, and then there are two who think that they own it."""
PAUSE_SECONDS: Final = (0.0, 1.5)
"""How long what has ended stays away."""


class Fault(StrEnum):
    """What is done to a victim."""

    KILL = "kill"
    """SIGKILL, then started again."""
    FREEZE = "freeze"
    """SIGSTOP, soon SIGCONT."""
    ZOMBIE = "zombie"
    """SIGSTOP, SIGCONT when its session has run out."""
    TERM = "term"
    """SIGTERM: a planned end, then started again."""


@dataclass(frozen=True)
class Victim:
    """One who can be hurt: how often compared with others, and how."""

    name: str
    weight: float
    faults: Mapping[Fault, float]


ROUTER_FAULTS: Final[Mapping[Fault, float]] = {Fault.KILL: 4, Fault.FREEZE: 3, Fault.ZOMBIE: 1, Fault.TERM: 3}
SERVER_FAULTS: Final[Mapping[Fault, float]] = {Fault.KILL: 2, Fault.FREEZE: 1}


@dataclass(frozen=True)
class Strike:
    """One fault: not before `at_seconds` into the run; `seconds` is how long the standstill or the absence lasts."""

    at_seconds: float
    victim: str
    fault: Fault
    seconds: float

    @classmethod
    def parse(cls, line: str) -> Self:
        """Read what `str` wrote; raises ValueError."""
        at, victim, fault, seconds = line.split()
        return cls(float(at), victim, Fault(fault), float(seconds))

    def __str__(self) -> str:
        """Return one line for a person and for `parse`."""
        return f"{self.at_seconds:.3f} {self.victim} {self.fault} {self.seconds:.3f}"


def draw(seed: int, count: int, seconds: float, victims: Sequence[Victim]) -> list[Strike]:
    """Draw `count` strikes over `seconds`, in the order of their moments.

    Every victim is struck at least once where `count` allows, and so is every kind of fault of each of them in turn:
    a schedule of a thousand strikes leaves nothing out. Raises ValueError without victims.
    """
    if not victims:
        raise ValueError("There is nobody to hurt.")
    chance = random.Random(seed)
    moments = sorted(chance.uniform(0.0, seconds) for _ in range(count))
    once = [(victim, fault) for fault in Fault for victim in victims if fault in victim.faults]
    chance.shuffle(once)
    chosen = once[:count]
    while len(chosen) < count:
        [victim] = chance.choices(victims, [each.weight for each in victims])
        [fault] = chance.choices(list(victim.faults), list(victim.faults.values()))
        chosen.append((victim, fault))
    chance.shuffle(chosen)
    return [
        Strike(round(moment, 3), victim.name, fault, round(chance.uniform(*_length(fault)), 3))
        for moment, (victim, fault) in zip(moments, chosen, strict=True)
    ]


def by_victim(strikes: Iterable[Strike]) -> dict[str, list[Strike]]:
    """Return each victim's strikes in their order."""
    found: dict[str, list[Strike]] = {}
    for strike in strikes:
        found.setdefault(strike.victim, []).append(strike)
    return found


def mix(strikes: Iterable[Strike]) -> str:
    """Return how many strikes of each kind there are, for a report: `freeze 12, kill 30 …`."""
    counts = Counter(f"{_kind(strike.victim)} {strike.fault}" for strike in strikes)
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def _length(fault: Fault) -> tuple[float, float]:
    return {Fault.FREEZE: FREEZE_SECONDS, Fault.ZOMBIE: ZOMBIE_SECONDS}.get(fault, PAUSE_SECONDS)


def _kind(victim: str) -> str:
    """Return what sort of victim a name means: `line3/router1` is a router."""
    return victim.rpartition("/")[2].rstrip("0123456789")
