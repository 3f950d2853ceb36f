"""Mergeable summaries of many numbers: a histogram for latencies, a KLL sketch for everything else."""

from __future__ import annotations

import math
import random
import struct
from functools import cache
from itertools import pairwise
from typing import Any, Final, Self

import datasketches
import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

ACCURACY: Final = 0.01
KLL_K: Final = 280
KLL_RUN_MAX: Final = 32_768
"""So many sorted values are added to a sketch at once: of many more, those left over would not fit."""

_GAMMA: Final = (1 + ACCURACY) / (1 - ACCURACY)
_LOG_GAMMA: Final = math.log(_GAMMA)
_LEAST: Final = 1e-3
_GREATEST: Final = 1e13
_BUCKETS: Final = 2 + math.ceil(math.log(_GREATEST / _LEAST) / _LOG_GAMMA)
_HISTOGRAM: Final = struct.Struct("<4sHHddd")
_HISTOGRAM_MAGIC: Final = b"ILH1"
_COUNT_MAX: Final = 2**53
_PENDING_MAX: Final = 16_384


class InvalidSketch(ValueError):
    """Bytes that no sketch was written as, with the first thing that is wrong with them."""


class LogHistogram:
    """Counts of values in buckets whose width grows with the value, so that quantiles are exact to 1 %.

    Bucket `i` holds the values in (least * gamma**(i-1), least * gamma**i] with gamma = (1 + a) / (1 - a); the value
    2 * least * gamma**i / (gamma + 1) is then at most the share `a` off any of them (Masson, Rim and Lee, "DDSketch",
    VLDB 2019). Values up to 0.001, zero and negative ones among them, share the first bucket; those above 1e13 the
    last. NaN is refused. Merging is addition of counts: exact, in any order.
    """

    __slots__ = ("_counts", "_maximum", "_minimum", "_pending", "_pending_size", "_total")

    def __init__(self) -> None:
        self._counts = np.zeros(_BUCKETS, dtype=np.int64)
        self._minimum = math.inf
        self._maximum = -math.inf
        self._total = 0.0
        self._pending: list[NDArray[Any]] = []
        self._pending_size = 0

    @property
    def minimum(self) -> float:
        """The least value; infinite where there is none."""
        self._settle()
        return self._minimum

    @property
    def maximum(self) -> float:
        """The greatest value; minus infinity where there is none."""
        self._settle()
        return self._maximum

    @property
    def total(self) -> float:
        """The sum of all values."""
        self._settle()
        return self._total

    @property
    def count(self) -> int:
        """How many values were added."""
        return int(self._counts.sum()) + self._pending_size

    @property
    def counts(self) -> NDArray[np.int64]:
        """The count of each bucket, int64."""
        self._settle()
        return self._counts.copy()

    def add(self, values: ArrayLike, times: int = 1) -> None:
        """Add numbers of any shape, each `times` times. Raises ValueError for NaN.

        An array of integers is kept a while, to be counted with others in one go: it must not be changed afterwards.
        """
        numbers = np.asarray(values)
        if not numbers.size or times < 1:
            return
        if times == 1 and numbers.dtype.kind == "i":
            self._pending.append(numbers.ravel())
            self._pending_size += numbers.size
            if self._pending_size >= _PENDING_MAX:
                self._settle()
            return
        self._add(numbers.astype(np.float64), times)

    def _add(self, numbers: Floats, times: int) -> None:
        least, greatest = float(numbers.min()), float(numbers.max())
        if math.isnan(least):
            raise ValueError("a latency is not a number")
        if least == greatest:
            self._counts[int(_buckets(np.array([least]))[0])] += numbers.size * times
        else:
            found = np.bincount(_buckets(numbers).ravel())
            self._counts[: found.size] += found * times
        self._minimum = min(self._minimum, least)
        self._maximum = max(self._maximum, greatest)
        self._total += float(numbers.sum()) * times

    def _settle(self) -> None:
        """Count what is pending."""
        if self._pending:
            pending, self._pending, self._pending_size = self._pending, [], 0
            self._add(np.concatenate(pending).astype(np.float64), 1)

    def merge(self, other: LogHistogram) -> None:
        """Add what the other one counted."""
        self._settle()
        other._settle()
        self._counts += other._counts
        self._minimum = min(self._minimum, other._minimum)
        self._maximum = max(self._maximum, other._maximum)
        self._total += other._total

    def quantile(self, share: float) -> float:
        """Return the value below which that share (0 to 1) lies, within 1 %; NaN where nothing was added."""
        if not 0 <= share <= 1:
            raise ValueError(f"a quantile is between 0 and 1, not {share}")
        self._settle()
        count = self.count
        if not count:
            return math.nan
        rank = max(1, math.ceil(share * count))
        bucket = int(np.searchsorted(np.cumsum(self._counts), rank))
        value = 0.0 if bucket == 0 else 2 * _LEAST * _GAMMA**bucket / (_GAMMA + 1)
        return float(min(max(value, self.minimum), self.maximum))

    def to_bytes(self) -> bytes:
        """Return the histogram as bytes: a header, then the counts from the first to the last that is not 0."""
        self._settle()
        filled = np.flatnonzero(self._counts)
        first, last = (int(filled[0]), int(filled[-1]) + 1) if filled.size else (0, 0)
        header = _HISTOGRAM.pack(_HISTOGRAM_MAGIC, first, last, self.minimum, self.maximum, self.total)
        return header + self._counts[first:last].astype("<i8").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote. Raises InvalidSketch."""
        if len(data) < _HISTOGRAM.size:
            raise InvalidSketch(f"a histogram of {len(data)} bytes has no header")
        magic, first, last, minimum, maximum, total = _HISTOGRAM.unpack_from(data)
        if magic != _HISTOGRAM_MAGIC:
            raise InvalidSketch(f"a histogram begins with {magic!r}")
        if not first <= last <= _BUCKETS or len(data) != _HISTOGRAM.size + 8 * (last - first):
            raise InvalidSketch(f"a histogram of {len(data)} bytes says that it has the buckets {first} to {last}")
        counts = np.frombuffer(data, dtype="<i8", offset=_HISTOGRAM.size)
        if counts.size and (counts.min() < 0 or counts.max() > _COUNT_MAX):
            raise InvalidSketch("a histogram has an impossible count")
        if math.isnan(total) or (minimum <= maximum) != bool(counts.any()):
            raise InvalidSketch("a histogram's minimum, maximum and total do not go with its counts")
        result = cls()
        result._counts[first:last] = counts
        result._minimum, result._maximum, result._total = minimum, maximum, total
        return result


def _buckets(values: Floats) -> NDArray[np.int64]:
    clipped = np.minimum(np.maximum(values, _LEAST), _GREATEST)
    return np.ceil(np.log(clipped * (1 / _LEAST)) * (1 / _LOG_GAMMA) - 1e-9).astype(np.int64)


class Kll:
    """Quantiles of a stream in a few kilobytes: Apache DataSketches' KLL sketch of doubles.

    The rank of an answer is off by at most `rank_error` of the count, with 99 % confidence (Karnin, Lang and Liberty,
    "Optimal quantile approximation in streams", FOCS 2016); count, minimum and maximum are exact. The sketch tosses
    coins: the same values in the same order give other answers within that error. The bytes are DataSketches' own.
    """

    __slots__ = ("_sketch",)

    def __init__(self, k: int = KLL_K, sketch: Any = None) -> None:
        self._sketch = datasketches.kll_doubles_sketch(k) if sketch is None else sketch

    @property
    def count(self) -> int:
        """How many values were added; NaN counts as none."""
        return int(self._sketch.n)

    @property
    def minimum(self) -> float:
        """The least value; NaN where there is none."""
        return float(self._sketch.get_min_value()) if self._sketch.n else math.nan

    @property
    def maximum(self) -> float:
        """The greatest value; NaN where there is none."""
        return float(self._sketch.get_max_value()) if self._sketch.n else math.nan

    @property
    def rank_error(self) -> float:
        """By how much of the count a rank may be off, with 99 % confidence."""
        return float(self._sketch.normalized_rank_error(False))  # noqa: FBT003 - the argument has no name there

    def add(self, values: Floats) -> None:
        """Add numbers (float64, one dimension); quickest where they are sorted. NaN is passed over."""
        self._sketch.update(values)

    def add_sorted(self, values: Floats) -> None:
        """Add numbers that rise and are finite (float64, one dimension), many at once at a fraction of the work.

        Of every 2**h neighbours one, at a place that is tossed for, stands for all; those left over at the end stand
        for themselves. No rank is off by more than 2**h for it, and in the mean by nothing; h is the least for which
        what remains fits a sketch of h + 1 levels, some 500 values: less error than the compactions that it is in
        place of. That sketch is written in DataSketches' format, and merged.
        """
        k = self._sketch.k
        for start in range(0, values.size, KLL_RUN_MAX):
            part = values[start : start + KLL_RUN_MAX]
            if level := _run_level(part.size, k):
                self._sketch.merge(datasketches.kll_doubles_sketch.deserialize(_run(part, level, k)))
            else:
                self._sketch.update(part)

    def merge(self, other: Kll) -> None:
        """Add what the other one saw."""
        self._sketch.merge(other._sketch)

    def quantiles(self, shares: ArrayLike) -> Floats:
        """Return for each share (0 to 1) the value below which it lies; NaN where nothing was added."""
        wanted = np.atleast_1d(np.asarray(shares, dtype=np.float64))
        if not self._sketch.n:
            return np.full(wanted.shape, math.nan)
        return np.asarray(self._sketch.get_quantiles(wanted), dtype=np.float64)

    def quantile(self, share: float) -> float:
        """Return the value below which that share (0 to 1) lies; NaN where nothing was added."""
        return float(self.quantiles(share)[0])

    def cdf(self, edges: ArrayLike) -> Floats:
        """Return the share of values up to each edge, the edge included; edges rise strictly. NaN without values."""
        points = np.atleast_1d(np.asarray(edges, dtype=np.float64))
        if not self._sketch.n:
            return np.full(points.shape, math.nan)
        return np.asarray(self._sketch.get_cdf(points.tolist(), True)[:-1], dtype=np.float64)  # noqa: FBT003 - positional there

    def to_bytes(self) -> bytes:
        """Return the sketch as bytes, in the format that DataSketches shares over its languages."""
        return bytes(self._sketch.serialize())

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a sketch of doubles. Raises InvalidSketch."""
        _check_kll(data)
        try:
            return cls(sketch=datasketches.kll_doubles_sketch.deserialize(data))
        except (ValueError, RuntimeError, IndexError, MemoryError) as error:
            raise InvalidSketch(f"no KLL sketch: {error}") from error


_KLL_PREAMBLE: Final = struct.Struct("<BBBBHBx")
_KLL_COUNTS: Final = struct.Struct("<QHBx")
_KLL_FAMILY: Final = 15
_KLL_EMPTY, _KLL_SINGLE = 1, 4
_KLL_K_MIN, _KLL_K_MAX = 8, 4096
_KLL_LEVELS_MAX: Final = 60
_KLL_M: Final = 8
_KLL_SORTED: Final = 2
_KLL_RUN_LEVELS_MAX: Final = 10


def _run_level(size: int, k: int) -> int:
    """Return the least level at which so many values, and what is left over of them, fit a sketch; 0 if none is."""
    fitting = (
        level
        for level in range(_KLL_RUN_LEVELS_MAX)
        if (size >> level) + (1 << level) - 1 <= _kll_capacity(k, level + 1)
    )
    return next(fitting, 0)


def _run(values: Floats, level: int, k: int) -> bytes:
    """Return sorted values as the bytes of a sketch that has one of every 2**level of them, and the rest at level 0."""
    whole, levels = values.size >> level << level, level + 1
    chosen, rest = values[random.getrandbits(level) : whole : 1 << level], values[whole:]
    begin = _kll_capacity(k, levels) - chosen.size
    preamble = _KLL_PREAMBLE.pack(5, 1, _KLL_FAMILY, _KLL_SORTED, k, _KLL_M)
    counts = _KLL_COUNTS.pack(values.size, k, levels)
    bounds = struct.pack(f"<{levels}I", begin - rest.size, *[begin] * level)
    return preamble + counts + bounds + np.concatenate((values[:1], values[-1:], rest, chosen)).astype("<f8").tobytes()


def _check_kll(data: bytes) -> None:
    """Refuse what is no serialised KLL sketch of doubles: the library trusts its input and reads past the end.

    The layout is that of kll_sketch_impl.hpp (Apache DataSketches C++ 5): preamble, count, smallest k, levels, minimum,
    maximum, items.
    """
    if len(data) < _KLL_PREAMBLE.size:
        raise InvalidSketch(f"a KLL sketch of {len(data)} bytes has no preamble")
    ints, version, family, flags, k, m = _KLL_PREAMBLE.unpack_from(data)
    if family != _KLL_FAMILY or m != _KLL_M or not _KLL_K_MIN <= k <= _KLL_K_MAX:
        raise InvalidSketch(f"no KLL sketch: family {family}, k {k}, m {m}")
    if flags & _KLL_EMPTY:
        if (ints, version, len(data)) != (2, 1, 8):
            raise InvalidSketch("an empty KLL sketch has more than a preamble")
        return
    if flags & _KLL_SINGLE:
        if (ints, version, len(data)) != (2, 2, 16) or math.isnan(struct.unpack_from("<d", data, 8)[0]):
            raise InvalidSketch("a KLL sketch of one value has not one value")
        return
    if (ints, version) != (5, 1) or len(data) < _KLL_PREAMBLE.size + _KLL_COUNTS.size:
        raise InvalidSketch(f"a KLL sketch of {len(data)} bytes with {ints} preamble words, version {version}")
    count, smallest_k, levels = _KLL_COUNTS.unpack_from(data, _KLL_PREAMBLE.size)
    if not 1 <= levels <= _KLL_LEVELS_MAX or not _KLL_K_MIN <= smallest_k <= k:
        raise InvalidSketch(f"a KLL sketch with {levels} levels and smallest k {smallest_k}")
    _check_kll_items(data, count, k, levels)


def _check_kll_items(data: bytes, count: int, k: int, levels: int) -> None:
    start = _KLL_PREAMBLE.size + _KLL_COUNTS.size
    capacity = _kll_capacity(k, levels)
    if len(data) < start + 4 * levels + 16:
        raise InvalidSketch(f"a KLL sketch of {len(data)} bytes has no room for {levels} levels")
    bounds = [*struct.unpack_from(f"<{levels}I", data, start), capacity]
    retained = capacity - bounds[0]
    if any(low > high for low, high in pairwise(bounds)) or retained < 1:
        raise InvalidSketch("a KLL sketch's levels do not rise")
    if len(data) != start + 4 * levels + 16 + 8 * retained:
        raise InvalidSketch(f"a KLL sketch of {len(data)} bytes has not the {retained} values that it tells of")
    if sum((bounds[level + 1] - bounds[level]) << level for level in range(levels)) != count:
        raise InvalidSketch("a KLL sketch's levels do not add up to its count")
    values = np.frombuffer(data, dtype="<f8", offset=start + 4 * levels)
    minimum, maximum = values[0], values[1]
    if not (minimum <= values[2:].min() and values[2:].max() <= maximum):
        raise InvalidSketch("a KLL sketch's values lie outside its minimum and maximum, or are NaN")


@cache
def _kll_capacity(k: int, levels: int) -> int:
    """Return how many values a sketch of so many levels has room for, as kll_helper::compute_total_capacity does."""
    return sum(max(_KLL_M, _kll_depth_capacity(k, levels - height - 1)) for height in range(levels))


def _kll_depth_capacity(k: int, depth: int) -> int:
    if depth > 30:
        half = depth // 2
        return _kll_depth_capacity(_kll_depth_capacity(k, half), depth - half)
    return int((((k << 1) << depth) // 3**depth + 1) >> 1)
