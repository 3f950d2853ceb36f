"""The route table and what follows from it: which routes are taken, and which arm answers which key."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from interlock.codec.contract import RESULT_FIELDS_AFTER, RESULT_FIELDS_BEFORE, RESULT_FIELDS_ONLINE
from interlock.schemas.events import Route
from interlock.signature import ONLINE_PREFIX, Signature

WEIGHTS = 10_000
"""The weights of a route's arms sum up to this."""

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Arm:
    """One version that answers a share of an endpoint's keys."""

    name: str
    model: str
    version: int
    digest: str
    application: str
    weight: int
    signature: Signature


@dataclass(frozen=True)
class RouteTable:
    """One endpoint's route at one epoch, ready for use."""

    endpoint: str
    epoch: int
    arms: tuple[Arm, ...]
    result_schema_id: int
    outputs: tuple[str, ...]  # the outputs that the result schema has room for, in its order
    online: tuple[str, ...] = ()  # the online inputs that it has room for, likewise
    shadows: tuple[Arm, ...] = ()  # arms without weight: asked what the others were, answering nobody

    @property
    def looks_up(self) -> bool:
        """Say whether any version has online inputs."""
        return any(arm.signature.online for arm in self.arms)

    def split(self, keys: Sequence[bytes]) -> list[tuple[Arm, Rows]]:
        """Return which rows each arm answers: by hash of the key, so that a key keeps its arm; rows stay in order."""
        if len(self.arms) == 1:
            return [(self.arms[0], np.arange(len(keys)))]
        salt = zlib.crc32(self.endpoint.encode())
        crc32 = zlib.crc32
        slots = np.fromiter((crc32(key, salt) for key in keys), dtype=np.int64, count=len(keys)) % WEIGHTS
        bounds = np.cumsum([arm.weight for arm in self.arms])
        chosen = np.searchsorted(bounds, slots, side="right")
        groups = ((arm, np.flatnonzero(chosen == index)) for index, arm in enumerate(self.arms))
        return [(arm, rows) for arm, rows in groups if rows.size]


def route_table(route: Route) -> RouteTable:
    """Return a route made ready; raises ValueError, saying why, for one that cannot be meant."""
    if not route.arms:
        raise ValueError("a route without arms answers nobody")
    if any(arm.weight < 0 for arm in route.arms) or sum(arm.weight for arm in route.arms) != WEIGHTS:
        raise ValueError(f"the weights of a route sum to {WEIGHTS}")
    arms = tuple(
        Arm(
            each.arm,
            each.model,
            each.version,
            each.digest,
            each.application,
            each.weight,
            Signature.from_json(each.signature),
        )
        for each in route.arms
    )
    answering = tuple(arm for arm in arms if arm.weight)
    shadows = tuple(arm for arm in arms if not arm.weight)
    outputs, online = _answers_of(json.loads(route.result_schema))
    return RouteTable(route.endpoint, route.epoch, answering, route.result_schema_id, outputs, online, shadows)


def _answers_of(schema: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return a result schema's outputs and online inputs, after checking that the rest is the envelope we write."""
    names = tuple(each["name"] for each in schema["fields"])
    before, after = len(RESULT_FIELDS_BEFORE), len(RESULT_FIELDS_AFTER)
    if names[:before] != RESULT_FIELDS_BEFORE or names[len(names) - after :] != RESULT_FIELDS_AFTER:
        raise ValueError("the result schema does not have the envelope of results")
    middle = names[before : len(names) - after]
    outputs, online = middle, ()
    if middle[-len(RESULT_FIELDS_ONLINE) :] == RESULT_FIELDS_ONLINE:
        values = middle[: -len(RESULT_FIELDS_ONLINE)]
        first = next((place for place, name in enumerate(values) if name.startswith(ONLINE_PREFIX)), len(values))
        outputs, online = values[:first], tuple(name.removeprefix(ONLINE_PREFIX) for name in values[first:])
    doubles = len(outputs) + len(online)
    if any(each["type"] != ["null", "double"] for each in schema["fields"][before : before + doubles]):
        raise ValueError("the outputs of a result schema are nullable doubles")
    return outputs, online


class Routes:
    """The newest route of every endpoint; an older epoch never replaces a newer one."""

    def __init__(self) -> None:
        self._tables: dict[str, RouteTable] = {}

    def apply(self, route: Route) -> bool:
        """Take a route if its epoch rises; say whether it was taken. Raises ValueError for one that cannot be meant."""
        known = self._tables.get(route.endpoint)
        if known is not None and route.epoch <= known.epoch:
            return False
        self._tables[route.endpoint] = route_table(route)
        return True

    def of(self, endpoint: str) -> RouteTable:
        """Return an endpoint's route; the endpoint has one, or no lane would ask."""
        return self._tables[endpoint]

    @property
    def endpoints(self) -> frozenset[str]:
        """The endpoints that have a route."""
        return frozenset(self._tables)


def parts_of(rows: Rows, count: int) -> Iterable[Rows]:
    """Split rows into at most `count` parts of nearly equal size, none empty, order kept."""
    return [part for part in np.array_split(rows, min(count, rows.size)) if part.size]
