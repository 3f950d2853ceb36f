"""The case: everything that proves how one result came about, chosen from the log and put into one bundle. Pure."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from interlock.clock import milliseconds
from interlock.codec import batches
from interlock.codec.observations import event_time
from interlock.errors import Refusal
from interlock.schemas.events import BY_SCHEMA_ID, BatchAnswered, Route
from interlock_auditor import verifier
from interlock_auditor.case_errors import CASE_COORDINATES, CASE_INCOMPLETE
from interlock_auditor.entry import Entry

REQUESTS: Final = ".requests"
_NAME: Final = re.compile(r"([a-zA-Z0-9._-]{1,249})/([0-9]{1,9})/([0-9]{1,18})")
_PREFIX_BYTES: Final = 5

OF_ENDPOINT: Final = (
    "Route",
    "RouteChanged",
    "VersionPromoted",
    "RollbackOrdered",
    "VersionWarmed",
    "VersionServing",
    "VersionApproved",
    "EndpointCreated",
)
OF_MODEL: Final = ("ModelCreated",)
OF_VERSION: Final = ("VersionRegistered", "BuildSucceeded", "GateEvaluated")
OF_DRIFT: Final = ("DriftDetected", "DriftCleared")
"""The actions whose entries may belong to a case, by what they are looked for."""


class Coordinates(NamedTuple):
    """Where a request lies."""

    topic: str
    partition: int
    offset: int

    @property
    def endpoint(self) -> str:
        """The endpoint that the topic belongs to."""
        return self.topic.removesuffix(REQUESTS)

    @classmethod
    def parse(cls, name: str) -> Coordinates:
        """Read `topic/partition/offset`; raises Refusal(CASE_COORDINATES)."""
        match = _NAME.fullmatch(name)
        if match is None or not match[1].endswith(REQUESTS) or int(match[2]) >= 2**31:
            raise Refusal(CASE_COORDINATES, f"{name!r} are no coordinates of a request.")
        return cls(match[1], int(match[2]), int(match[3]))

    def __str__(self) -> str:
        """Return the request's name."""
        return f"{self.topic}/{self.partition}/{self.offset}"


class Told(NamedTuple):
    """An entry and the event that it holds."""

    entry: Entry
    event: Any


class Reread(NamedTuple):
    """What was read again from the topics: the batch's results, all in order, and the request's record if it is there.

    `requests` is None where the batch's requests are not all there any more; then so is `request`.
    """

    results: Sequence[bytes]
    row: int
    requests: Sequence[bytes | None] | None
    request: Any | None
    request_schema: str | None
    dead_letter: bytes | None
    at: datetime


class Evidence(NamedTuple):
    """All that a bundle is made of."""

    coordinates: Coordinates
    batch: Entry
    chosen: Sequence[Entry]
    reread: Reread


def place_of(value: bytes) -> int | None:
    """Return which request a framed result answers (its offset); None for a value that is no result."""
    try:
        length, at = _varint(value, _PREFIX_BYTES)
        return _varint(value, at + length)[0]
    except IndexError:
        return None


def times_of(requested_at: datetime) -> frozenset[int]:
    """Return the whole milliseconds that a request of this time may bear: writers of Avro cut off or round."""
    near = milliseconds(requested_at.replace(microsecond=requested_at.microsecond // 1000 * 1000))
    return frozenset({near, near + (requested_at.microsecond % 1000 > 0)})


def told(entries: Iterable[Entry], size: int) -> list[Told]:
    """Return the entries among the first `size` of the log, with their events."""
    return [Told(each, each.event) for each in entries if each.seq < size]


def choose(batch: BatchAnswered, result: Mapping[str, Any], known: Sequence[Told]) -> list[Entry]:
    """Return, by number, the entries that say how a result came about.

    `result` is the result as a mapping. Raises Refusal(CASE_INCOMPLETE) naming what the log does not hold.
    """
    choice = _Choice(batch, result, known)
    choice.route()
    if result["version"]:
        choice.order()
        choice.version()
        choice.watch()
    return sorted({each.entry.seq: each.entry for each in choice.chosen}.values(), key=lambda each: each.seq)


class _Choice:
    """What is chosen so far."""

    def __init__(self, batch: BatchAnswered, result: Mapping[str, Any], known: Sequence[Told]) -> None:
        self._batch, self._result = batch, result
        self._by_action: dict[str, list[Told]] = {}
        for each in sorted(known, key=lambda one: one.entry.seq):
            self._by_action.setdefault(each.entry.action, []).append(each)
        self._which: dict[str, Any] = {"model": result["model"], "version": result["version"]}
        self._where: dict[str, Any] = {"endpoint": batch.endpoint}
        self.chosen: list[Told] = []
        self.found: Route | None = None

    def route(self) -> None:
        """Choose the route, what announced it, and the route that came after it."""
        route = self._needed("Route", f"the route of epoch {self._batch.epoch}", epoch=self._batch.epoch, **self._where)
        self.found = route.event
        later = [each for each in self._all("Route", **self._where) if each.event.epoch > self._batch.epoch]
        self.chosen += sorted(later, key=lambda each: each.event.epoch)[:1]
        self.chosen += self._all("RouteChanged", epoch=self._batch.epoch, **self._where)[:1]
        self.chosen += self._all("EndpointCreated", **self._where)[:1]

    def order(self) -> None:
        """Choose who ordered the route, how the version came to the endpoint, and when it was warm."""
        assert self.found is not None, "the route is chosen first"
        number = self.found.promotion
        mine = self._all("VersionPromoted", **self._which, **self._where)
        self.chosen += [each for each in mine if each.event.promotion <= number][-1:]
        if not self._all("VersionPromoted", promotion=number, **self._where):
            self._needed(
                "RollbackOrdered", f"order {number} of {self._batch.endpoint}", promotion=number, **self._where
            )
        warmed = self._all("VersionWarmed", **self._which, **self._where)
        before = [each for each in warmed if each.event.at <= self.found.at]
        self.chosen += (before or warmed)[-1:]
        self.chosen += self._all("VersionServing", epoch=self._batch.epoch, **self._which, **self._where)[-1:]

    def version(self) -> None:
        """Choose who pushed, built and approved the version, and the gates that it passed."""
        name = f"{self._result['model']} version {self._result['version']}"
        self._needed("VersionRegistered", f"who pushed {name}", **self._which)
        self.chosen += self._all("ModelCreated", model=self._result["model"])[:1]
        approval = self._needed("VersionApproved", f"who approved {name}", last=True, **self._which, **self._where)
        evidence = approval.event.evidence_digest
        built = self._needed(
            "BuildSucceeded", f"the build of {name}", last=True, evidence_digest=evidence, **self._which
        )
        for gate in built.event.gates:
            self._needed("GateEvaluated", f"gate {gate} of {name}", after=built.entry.seq, gate=gate, **self._which)

    def watch(self) -> None:
        """Choose the window that the request fell into, and the drift that stood at its time."""
        at = event_time(self._result["requested_at"], self._result["scored_at"])
        which = {**self._which, **self._where, "arm": self._result["arm"]}

        def covers(each: Told) -> bool:
            return bool(milliseconds(each.event.window_start) <= at < milliseconds(each.event.window_end))

        self.chosen += [each for each in self._all("WindowClosed", **which) if covers(each)][-1:]
        begun = [each for each in self._all("DriftDetected", **which) if milliseconds(each.event.window_start) <= at]
        if begun:
            self.chosen.append(begun[-1])
            cleared = self._all("DriftCleared", **which)
            self.chosen += [each for each in cleared if each.event.window_start >= begun[-1].event.window_start][:1]

    def _all(self, action: str, **fields: Any) -> list[Told]:
        return [
            each
            for each in self._by_action.get(action, ())
            if all(getattr(each.event, name) == value for name, value in fields.items())
        ]

    def _needed(self, action: str, said: str, *, last: bool = False, after: int = -1, **fields: Any) -> Told:
        found = [each for each in self._all(action, **fields) if each.entry.seq > after]
        if not found:
            raise Refusal(CASE_INCOMPLETE, f"The log does not say {said}: no entry {action}.", action=action)
        chosen = found[-1 if last else 0]
        self.chosen.append(chosen)
        return chosen


def route_of(batch: BatchAnswered, known: Sequence[Told]) -> Route:
    """Return the route by which a batch was answered; raises Refusal(CASE_INCOMPLETE)."""
    choice = _Choice(batch, {"model": "", "version": 0}, known)
    choice.route()
    assert choice.found is not None, "the route was chosen"
    return choice.found


def result_of(value: bytes, route: Route) -> dict[str, Any]:
    """Return a framed result as the mapping that its route's schema makes of it, times in ms; raises verifier.Wrong."""
    read: dict[str, Any] = verifier.Avro.read(json.loads(route.result_schema), value[_PREFIX_BYTES:])
    return read


def bundle(
    evidence: Evidence,
    checkpoint: str,
    keys: Mapping[str, str],
    path: Callable[[int], Sequence[bytes]],
    *,
    neighbours: bool = False,
) -> Any:
    """Return the bundle of a case, all but its statement; `path` gives an entry's inclusion path to the checkpoint.

    A request's value is proved by some kilobytes of the batch's requests. Those show requests of other people, so the
    proof is there only where the batch has no other, or where `neighbours` are asked for.
    """
    again, batch = evidence.reread, evidence.batch.event
    entries = sorted([evidence.batch, *evidence.chosen], key=lambda each: each.seq)
    schemas = {each.schema_digest: type(each.event).SCHEMA for each in entries}
    requests = again.requests
    return {
        "format": verifier.FORMAT,
        "about": verifier.ABOUT,
        "name": str(evidence.coordinates),
        "checkpoint": checkpoint,
        "keys": dict(keys),
        "entries": [
            {
                "entry": _text(each.entry),
                "payload": _text(each.payload),
                "path": [_text(step) for step in path(each.seq)],
            }
            for each in entries
        ],
        "schemas": schemas,
        "result": {
            "row": again.row,
            "proof": _proof(again.results, again.row),
        },
        "request": _request(again, neighbours=neighbours or batch.rows == 1),
        "dead_letter": _dead_letter(again.dead_letter),
        "reread": {
            "at": again.at.isoformat(timespec="milliseconds"),
            "results_digest": batches.digest(again.results),
            "requests_digest": None if requests is None else batches.digest(requests),
        },
    }


def _proof(values: Sequence[bytes | None], row: int) -> dict[str, Any]:
    """Return the chunks of a batch's message that prove one of its values, as the verifier reads them."""
    size, chunks = batches.proof_of(values, row)
    return {
        "bytes": size,
        "chunks": [
            {"index": each.index, "content": _text(each.content), "path": [_text(step) for step in each.path]}
            for each in chunks
        ],
    }


def _request(again: Reread, *, neighbours: bool) -> dict[str, Any] | None:
    record = again.request
    if record is None or again.requests is None:
        return None
    return {
        "key": None if record.key is None else _text(record.key),
        "value": None if record.value is None else _text(record.value),
        "timestamp": record.timestamp,
        "schema": again.request_schema,
        "proof": _proof(again.requests, again.row) if neighbours else None,
    }


def _dead_letter(value: bytes | None) -> dict[str, Any] | None:
    if value is None:
        return None
    schema_id = int.from_bytes(value[1:_PREFIX_BYTES], "big")
    return {"value": _text(value), "schema": BY_SCHEMA_ID[schema_id].SCHEMA}


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _varint(value: bytes, at: int) -> tuple[int, int]:
    raw = shift = 0
    while True:
        byte = value[at]
        at += 1
        raw |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (raw >> 1) ^ -(raw & 1), at
        shift += 7


__all__ = [
    "Coordinates",
    "Evidence",
    "Reread",
    "Told",
    "bundle",
    "choose",
    "place_of",
    "result_of",
    "route_of",
    "times_of",
    "told",
]
