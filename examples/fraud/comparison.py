"""Every request against every result: the pure part of the independent check.

It knows Avro and the two topics, nothing of the platform's code. A request is named by its partition and offset.
"""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import fastavro
import numpy as np

from examples.fraud.marking import version_of
from examples.fraud.simulator import Floats

FRAME_BYTES = 5
PHASE_STEADY = "s"
PHASE_BURST = "b"


@dataclass
class Columns:
    """What is kept of each result, column by column."""

    partition: list[int] = field(default_factory=list)
    offset: list[int] = field(default_factory=list)
    version: list[int] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    seen_milliseconds: list[float] = field(default_factory=list)
    latency_milliseconds: list[float] = field(default_factory=list)
    phase: list[str] = field(default_factory=list)


class Comparison:
    """Takes requests and results as they are read, in any order, and says at the end how they match."""

    def __init__(self, schema_of: Callable[[int], Any]) -> None:
        self._schema_of = schema_of
        self._schemas: dict[int, Any] = {}
        self._requests: dict[tuple[int, int], bytes] = {}
        self._answered: Counter[tuple[int, int]] = Counter()
        self._request_ids: dict[tuple[int, int], str] = {}
        self._last_of_key: dict[bytes, int] = {}
        self._digests: defaultdict[int, set[str]] = defaultdict(set)
        self.results = Columns()
        self.rejections: Counter[str] = Counter()
        self.dead_letters = 0
        self.out_of_order = 0

    @property
    def requests(self) -> int:
        """How many requests were read."""
        return len(self._requests)

    def take_request(self, partition: int, offset: int, value: bytes) -> None:
        """Note a request by its coordinates, and its id: a short Avro string right behind the frame."""
        length = value[FRAME_BYTES] >> 1
        self._requests[partition, offset] = value[FRAME_BYTES + 1 : FRAME_BYTES + 1 + length]

    def take_result(self, key: bytes, value: bytes, seen_milliseconds: float) -> None:
        """Decode a result with the schema its frame names, and note it."""
        record = self._decode(value)
        place = (record["partition"], record["offset"])
        self._answered[place] += 1
        self._request_ids[place] = record["request_id"]
        if self._last_of_key.get(key, -1) >= record["offset"]:
            self.out_of_order += 1
        self._last_of_key[key] = record["offset"]
        if record["rejection"] is not None:
            self.rejections[record["rejection"]] += 1
        self._digests[record["version"]].add(record["digest"])
        asked = record["requested_at"]
        columns = self.results
        columns.partition.append(place[0])
        columns.offset.append(place[1])
        columns.version.append(record["version"])
        columns.score.append(np.nan if record["score"] is None else record["score"])
        columns.seen_milliseconds.append(seen_milliseconds)
        columns.latency_milliseconds.append(seen_milliseconds - asked.timestamp() * 1000)
        columns.phase.append(record["request_id"][:1])

    def report(self) -> dict[str, Any]:
        """Compare everything with everything; figures only, the judgement is the reader's."""
        versions = np.array(self.results.version, dtype=np.int64)
        scores = np.array(self.results.score, dtype=np.float64)
        seen = np.array(self.results.seen_milliseconds)
        latency = np.array(self.results.latency_milliseconds)
        phases = np.array(self.results.phase)
        scored = ~np.isnan(scores)
        steady = latency[phases == PHASE_STEADY]
        return {
            "requests": len(self._requests),
            "results": len(versions),
            "lost": sum(1 for place in self._requests if place not in self._answered),
            "duplicated": sum(count - 1 for count in self._answered.values()),
            "unasked": sum(1 for place in self._answered if place not in self._requests),
            "misattributed": int((version_of(scores[scored]) != versions[scored]).sum()),
            "mismatched": sum(
                1
                for place, name in self._request_ids.items()
                if self._requests.get(place, name.encode()) != name.encode()
            ),
            "out_of_order": self.out_of_order,
            "rejected": dict(self.rejections),
            "dead_letters": self.dead_letters,
            "digests": {str(version): sorted(digests) for version, digests in sorted(self._digests.items())},
            "versions": {str(version): int((versions == version).sum()) for version in np.unique(versions)},
            "first_seen": {str(version): float(seen[versions == version].min()) for version in np.unique(versions)},
            "last_seen": {str(version): float(seen[versions == version].max()) for version in np.unique(versions)},
            "steady": _spread(steady),
            "steady_p99_by_second": _by_second(seen[phases == PHASE_STEADY], steady),
            "burst_results": int((phases == PHASE_BURST).sum()),
            "burst_first_seen": float(seen[phases == PHASE_BURST].min(initial=np.inf)),
            "burst_last_seen": float(seen[phases == PHASE_BURST].max(initial=-np.inf)),
        }

    def recent(self, since: int) -> dict[str, Any]:
        """Return the live figures over the results from number `since` on."""
        versions = Counter(self.results.version[since:])
        return {
            "requests": len(self._requests),
            "results": len(self.results.version),
            "versions": {str(version): count for version, count in sorted(versions.items())},
            "latency_ms": _spread(np.array(self.results.latency_milliseconds[since:])),
        }

    def _decode(self, value: bytes) -> dict[str, Any]:
        schema_id = int.from_bytes(value[1:FRAME_BYTES], "big")
        schema = self._schemas.get(schema_id)
        if schema is None:
            schema = self._schemas[schema_id] = fastavro.parse_schema(self._schema_of(schema_id))
        record: Any = fastavro.schemaless_reader(io.BytesIO(value[FRAME_BYTES:]), schema, None)
        return dict(record)


def _by_second(seen: Floats, latency: Floats) -> dict[str, float]:
    """Return the 99th percentile of each second of the wall clock: it shows where to look for the cause of delays."""
    second = (seen // 1000).astype(np.int64)
    return {str(each): float(np.percentile(latency[second == each], 99)) for each in np.unique(second)}


def _spread(milliseconds: Floats) -> dict[str, float]:
    if not len(milliseconds):
        return {"count": 0}
    return {
        "count": len(milliseconds),
        "p50": float(np.percentile(milliseconds, 50)),
        "p99": float(np.percentile(milliseconds, 99)),
        "maximum": float(milliseconds.max()),
    }
