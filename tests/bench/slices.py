"""Variants of a lane that take turns within one process, a few batches each, and what each costs more than the first.

Whatever else the machine does falls on all variants alike: that is how a cost of two per cent is seen on a machine on
which two runs of the same code lie ten per cent apart.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from interlock.kafka.transaction import Encode, Offsets, Outgoing, PartitionTransactions

BOOTSTRAP_SAMPLES = 4000


class Slice(NamedTuple):
    """A stretch of batches under one variant: what it cost."""

    variant: str
    rows: int
    cpu_seconds: float
    wall_seconds: float


class Turns:
    """Counts the batches that the lanes of this process commit, and gives each variant its turn.

    A turn lasts `batches` commits, of which the first `settle` are not counted: they may hold batches that were taken
    during the turn before. `begin` is called with the variant whose turn begins, `settled` before each look at the
    clocks: what must not be left to the next turn belongs there. `first` says which variant begins, so that none always
    has the same place. The first turn of each only warms up.
    """

    def __init__(
        self,
        variants: Sequence[str],
        first: int,
        batches: int,
        requests: int,
        *,
        settle: int = 0,
        begin: Callable[[str], None] = lambda _: None,
        settled: Callable[[], None] = lambda: None,
    ) -> None:
        self.done = asyncio.Event()
        self.slices: list[Slice] = []
        self._order = [*variants[first % len(variants) :], *variants[: first % len(variants)]]
        self._batches, self._settle, self._left = batches, settle, requests
        self._begin, self._settled = begin, settled
        self._commits = self._rows = 0
        self._begun: tuple[float, float] | None = None
        begin(self.variant)

    @property
    def variant(self) -> str:
        """The variant whose turn it is."""
        return self._order[self._commits // self._batches % len(self._order)]

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Have the commits of this process counted."""
        commit = PartitionTransactions.commit

        async def counted(transactions: PartitionTransactions, encode: Encode, offsets: Offsets, stamp: int) -> None:
            rows: list[int] = []

            def encoded() -> Sequence[Outgoing]:
                outgoing = encode()
                rows.append(sum(len(each.records) for each in outgoing if each.topic == outgoing[0].topic))
                return outgoing

            await commit(transactions, encoded, offsets, stamp)
            self._committed(rows[0])

        with mock.patch.object(PartitionTransactions, "commit", counted):
            yield

    def _committed(self, rows: int) -> None:
        variant = self.variant
        self._rows += rows
        self._left -= rows
        self._commits += 1
        within = self._commits % self._batches
        if within in {0, self._settle}:
            self._settled()
        now = time.process_time(), time.perf_counter()
        if within == 0:
            if self._begun is not None and self._commits > self._batches * len(self._order):
                self.slices.append(Slice(variant, self._rows, now[0] - self._begun[0], now[1] - self._begun[1]))
            self._begin(self.variant)
        if within == self._settle:
            self._begun, self._rows = now, 0
        if self._left <= 0:
            self.done.set()


def compared(slices: Sequence[Slice], off: str, shares: dict[str, float]) -> dict[str, Any]:
    """Return for each variant CPU and rate, and how many per cent more than `off`: median and its interval of 95 %.

    `shares` are what more CPU is held against, by name: that of `off` itself and so many CPU seconds a row besides.
    """
    figures: dict[str, Any] = {}
    for name in dict.fromkeys(each.variant for each in slices):
        mine = [each for each in slices if each.variant == name]
        figures[name] = {
            "slices": len(mine),
            "rows_per_slice": round(statistics.mean(each.rows for each in mine)),
            "cpu_microseconds": round(statistics.median(1e6 * _cpu(each) for each in mine), 2),
            "events_per_second": round(statistics.median(1 / _wall(each) for each in mine)),
        }
        if name != off and any(each.variant == off for each in slices):
            for title, besides in shares.items():
                figures[name][f"{title}_percent_more"] = _median(percent_more(slices, off, name, _cpu, besides))
            figures[name]["time_percent_more"] = _median(percent_more(slices, off, name, _wall))
    return figures


def percent_more(
    slices: Sequence[Slice], off: str, name: str, cost: Callable[[Slice], float] | None = None, besides: float = 0.0
) -> list[float]:
    """Return how many per cent more a row costs in each slice of a variant, by default of CPU.

    A slice is held against the mean of the slices of `off` nearest before and behind it, and `besides`.
    """
    cost = cost or _cpu
    places = [index for index, each in enumerate(slices) if each.variant == off]
    found = []
    for index, each in enumerate(slices):
        if each.variant == name:
            beside = sorted(places, key=lambda place, index=index: abs(place - index))[:2]  # type: ignore[misc]  # bound
            without = statistics.mean(cost(slices[place]) for place in beside)
            found.append(100 * (cost(each) - without) / (without + besides))
    return found


def _cpu(each: Slice) -> float:
    return each.cpu_seconds / each.rows


def _wall(each: Slice) -> float:
    return each.wall_seconds / each.rows


def _median(values: list[float]) -> dict[str, float]:
    """Return the median, and where 95 % of the medians of bootstrap samples lie."""
    samples = np.random.default_rng(1).choice(values, (BOOTSTRAP_SAMPLES, len(values)))
    low, high = np.percentile(np.median(samples, axis=1), (2.5, 97.5))
    return {"median": round(float(np.median(values)), 1), "low": round(float(low), 1), "high": round(float(high), 1)}
