"""Online features of a batch: values with their times as the store keeps them, and what a version is given of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt

from interlock.signature import Input, Matrix, Signature

ENTRY = np.dtype([("name", "<u8"), ("value", "<f8"), ("at", "<f8")])
"""One value of one entity: its name's mark, the value (NaN where it was taken away), and its time in milliseconds."""

NOBODY = -1
NO_AGE = -1
_SIZE = np.dtype("<u4")
_DEFAULTS_ONLY: npt.NDArray[Any] = np.zeros(0, dtype=ENTRY)


@dataclass(frozen=True)
class Used:
    """What one version is given: one row per request of the batch, one column per online input of its signature."""

    values: Matrix  # the value found, or the default, or NaN
    missing: npt.NDArray[np.bool_]  # where nothing was found that may be used
    age_milliseconds: npt.NDArray[np.int64]  # of the oldest value used; NO_AGE where none was


@dataclass(frozen=True)
class Joined:
    """What the store knew, at one moment, of the entities that a batch asks about."""

    places: npt.NDArray[np.intp]  # for each request the place of its entity, or NOBODY
    owners: npt.NDArray[np.intp]  # for each entry the place of the entity it belongs to
    entries: npt.NDArray[Any]
    entities: int
    read_at: int  # milliseconds since 1970

    def used(self, signature: Signature) -> Used:
        """Return what a version is given.

        A value is used where it is there, fits the input's type and is at most `age_seconds_max` old; a value from a
        clock ahead of ours is as old as nothing. Age is measured at `read_at`.
        """
        declared = signature.online
        values = np.empty((self.entities + 1, len(declared)))
        found = np.zeros(values.shape, dtype=np.bool_)
        oldest = np.full(self.entities + 1, NO_AGE, dtype=np.int64)
        for index, wanted in enumerate(declared):
            mine = self.entries["name"] == mark(wanted.name)
            owners, there = self.owners[mine], self.entries["value"][mine]
            ages = np.maximum(self.read_at - self.entries["at"][mine], 0.0)
            good = fits(wanted, there) & (ages <= _age_max(wanted))
            values[:, index] = wanted.online.stand_in if wanted.online else np.nan
            values[owners[good], index] = there[good]
            found[owners[good], index] = True
            np.maximum.at(oldest, owners[good], ages[good].astype(np.int64))
        # The row behind the last entity stands for nobody, which is where NOBODY points.
        return Used(values[self.places], ~found[self.places], oldest[self.places])


def nothing_known(rows: int, read_at: int) -> Joined:
    """Return what is known of a batch while the store is away: nothing, so that defaults are used."""
    places = np.full(rows, NOBODY, dtype=np.intp)
    return Joined(places, np.zeros(0, dtype=np.intp), _DEFAULTS_ONLY, 0, read_at)


def joined(places: npt.NDArray[np.intp], entities: int, answer: bytes, read_at: int) -> Joined:
    """Read the store's answer: how many bytes each entity has, then all their entries, one entity behind the other.

    Raises ValueError for what cannot be such an answer.
    """
    if len(answer) < entities * _SIZE.itemsize:
        raise ValueError(f"{len(answer)} bytes cannot tell of {entities} entities")
    sizes = np.frombuffer(answer, dtype=_SIZE, count=entities).astype(np.intp)
    content = memoryview(answer)[entities * _SIZE.itemsize :]
    if (sizes % ENTRY.itemsize).any() or sizes.sum() != len(content):
        raise ValueError("the sizes of the entries do not fit their bytes")
    owners = np.repeat(np.arange(entities), sizes // ENTRY.itemsize)
    return Joined(places, owners, np.frombuffer(content, dtype=ENTRY), entities, read_at)


def packed(values: Mapping[str, float | None], at: int) -> bytes:
    """Return values of one time as the store keeps them."""
    entries = [(mark(name), np.nan if value is None else value, at) for name, value in values.items()]
    return np.array(entries, dtype=ENTRY).tobytes()


@lru_cache(maxsize=4096)
def mark(name: str) -> np.uint64:
    """Return the 64 bits that stand for a feature's name, so that entries are of equal size."""
    return np.uint64(int.from_bytes(sha256(name.encode()).digest()[:8], "little"))


def fits(wanted: Input, values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Say which values an input's type allows: numbers, whole ones where it is int or long, 0 or 1 where boolean."""
    good: npt.NDArray[np.bool_] = np.isfinite(values)
    if wanted.type == "boolean":
        good = (values == 0.0) | (values == 1.0)
    elif wanted.type in ("int", "long"):
        good &= values == np.floor(values)
    return good


def _age_max(wanted: Input) -> float:
    return wanted.online.age_seconds_max * 1000 if wanted.online else 0.0
