"""What the bench found: one value a round, their median, its interval, and the verdict by the bad end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

RESAMPLES: Final = 10_000
COVERAGE: Final = 0.95
SEED: Final = 5

Verdict = Literal["hope", "must", "missed", "shown"]


def interval(values: Sequence[float], quantile: float = 0.5) -> tuple[float, float, float]:
    """Return a quantile and the ends of its 95 % interval, by the bootstrap over rounds (Efron 1979, percentiles)."""
    sample = np.asarray(values, dtype=np.float64)
    drawn = np.random.default_rng(SEED).integers(0, sample.size, (RESAMPLES, sample.size))
    found = np.quantile(sample[drawn], quantile, axis=1)
    low, high = np.quantile(found, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return float(np.quantile(sample, quantile)), float(low), float(high)


@dataclass(frozen=True)
class Finding:
    """One line of the table: what was measured in each round, and what it has to be."""

    name: str
    what: str
    values: tuple[float, ...]
    sense: Literal["at least", "at most"] = "at least"
    must: float | None = None
    hope: float | None = None
    unit: str = " times"
    note: str = ""
    quantile: float = 0.5
    """Which quantile of the values is meant."""

    @property
    def median(self) -> float:
        """The median over the rounds, or the quantile that is meant."""
        return interval(self.values, self.quantile)[0]

    @property
    def ends(self) -> tuple[float, float]:
        """Its interval."""
        return interval(self.values, self.quantile)[1:]

    @property
    def worst(self) -> float:
        """The end of the interval that counts."""
        return self.ends[0] if self.sense == "at least" else self.ends[1]

    @property
    def verdict(self) -> Verdict:
        """Whether the bad end reaches what is hoped for, or at least what must be."""
        if self.must is None:
            return "shown"
        if self.hope is not None and self._reaches(self.hope):
            return "hope"
        return "must" if self._reaches(self.must) else "missed"

    def summary(self) -> dict[str, Any]:
        """Return it as JSON."""
        low, high = self.ends
        return {
            "name": self.name,
            "what": self.what,
            "unit": self.unit,
            "median": self.median,
            "low": low,
            "high": high,
            "sense": self.sense,
            "must": self.must,
            "hope": self.hope,
            "verdict": self.verdict,
            "values": list(self.values),
            "note": self.note,
        }

    def line(self) -> str:
        """Return it as a line for a person."""
        low, high = self.ends
        goal = "" if self.must is None else f"; {self.sense} {self.must:g}{self.unit}: {self.verdict}"
        return f"{self.what}: {self.median:.3g}{self.unit} [{low:.3g}, {high:.3g}], {len(self.values)} rounds{goal}"

    def _reaches(self, bound: float) -> bool:
        return self.worst >= bound if self.sense == "at least" else self.worst <= bound
