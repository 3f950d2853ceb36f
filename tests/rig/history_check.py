"""The judge: everything in a history that cannot be if each request was answered exactly once. Pure."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final

from tests.rig.history import Arm, History, Kind, Letter, Request, Result, Rules, Violation
from tests.rig.history_batches import batches
from tests.rig.history_events import check_events

__all__ = ["check", "check_events"]

WEIGHTS: Final = 10_000
_RULES = Rules()

Place = tuple[int, int]


def check(history: History, rules: Rules = _RULES) -> list[Violation]:
    """Return what is wrong, empty where nothing is; the unreadable first, then in the order of what can be doubted."""
    found = list(history.unreadable)
    found += Answers(history, rules).violations()
    found += batches(history)
    for acks, count in history.acks.items():
        if acks != -1:
            said = f"{count} produce requests with acks={acks}"
            found.append(Violation(Kind.WEAK_ACKS, f"{history.endpoint}.results", -1, -1, "", "acks=-1 only", said))
    return found


class Answers:
    """The requests of a history beside what was answered: each once, by the right version, in order."""

    def __init__(self, history: History, rules: Rules) -> None:
        self._history = history
        self._rules = rules
        self._requests: dict[Place, Request] = {(each.partition, each.offset): each for each in history.requests}
        self._results: dict[Place, list[Result]] = defaultdict(list)
        for result in history.results:
            self._results[result.partition, result.offset].append(result)
        self._letters: dict[Place, list[Letter]] = defaultdict(list)
        for letter in history.letters:
            self._letters[letter.partition, letter.offset].append(letter)
        self._digests = self._known_digests()
        self._versions = sorted({each.version for each in history.results} | set(self._digests))

    def violations(self) -> Iterator[Violation]:
        """Yield what is wrong with the answers."""
        yield from self._sent()
        yield from self._once()
        yield from self._in_order()
        for result in self._history.results:
            request = self._requests.get((result.partition, result.offset))
            if request is not None:
                yield from self._coordinates(result, request)
                yield from self._rejection(result, request)
                yield from self._answer(result, request)
        yield from self._letters_alone()

    def _sent(self) -> Iterator[Violation]:
        """What Kafka acknowledged to the caller must be there, in the order in which it was sent."""
        topic = f"{self._history.endpoint}.requests"
        newest: dict[tuple[int, bytes], int] = {}
        for each in self._history.sent:
            there = self._requests.get((each.partition, each.offset))
            where = (topic, each.partition, each.offset, each.request_id)
            if there is None or (there.request_id or each.request_id) != each.request_id or there.key != each.key:
                said = "no such record" if there is None else f"{there.request_id} of {there.key!r}"
                yield Violation(Kind.LOST, *where, "the request that Kafka acknowledged", said)
            if each.key is not None:
                before = newest.get((each.partition, each.key), -1)
                if each.offset < before:
                    yield Violation(Kind.ORDER, *where, f"behind {before}, sent earlier", f"{each.offset}")
                newest[each.partition, each.key] = each.offset

    def _once(self) -> Iterator[Violation]:
        """Each committed request has one result; nothing else has any."""
        topic, committed = f"{self._history.endpoint}.requests", self._history.committed
        for (partition, offset), request in self._requests.items():
            due = self._rules.complete or offset < committed.get(partition, 0)
            if due and (partition, offset) not in self._results:
                where = (topic, partition, offset, request.request_id)
                yield Violation(
                    Kind.LOST, *where, "one result", f"none, the group stands at {committed.get(partition)}"
                )
        for (partition, offset), results in self._results.items():
            for again in results[1:]:
                yield self._about(again, Kind.DUPLICATE, f"one result, at {results[0].position}", "another")
            if (partition, offset) not in self._requests:
                aborted = (partition, offset) in self._history.aborted
                kind = Kind.ABORTED_VISIBLE if aborted else Kind.UNKNOWN_REQUEST
                said = "a request that was aborted" if aborted else "nothing at these coordinates"
                yield self._about(results[0], kind, f"a committed request at {topic}/{partition}/{offset}", said)

    def _in_order(self) -> Iterator[Violation]:
        """Results of a key keep the order of its requests, and no older route answers behind a newer one."""
        newest: dict[tuple[int, bytes], int] = {}
        epochs: dict[int, int] = {}
        for each in self._history.results:
            if each.key is not None:
                before = newest.get((each.at_partition, each.key), -1)
                if each.offset < before:
                    yield self._about(
                        each, Kind.ORDER, f"before the result of offset {before}", f"{each.offset} behind"
                    )
                newest[each.at_partition, each.key] = max(before, each.offset)
            epoch = epochs.get(each.at_partition, each.epoch)
            if each.epoch < epoch:
                yield self._about(each, Kind.STALE_EPOCH, f"epoch {epoch} or later", f"epoch {each.epoch}")
            epochs[each.at_partition] = max(epoch, each.epoch)

    def _coordinates(self, result: Result, request: Request) -> Iterator[Violation]:
        """A result stands in its request's partition, under its key, and says where it came from and when."""
        expected = {
            "topic": f"{self._history.endpoint}.requests",
            "at_partition": request.partition,
            "key": request.key,
        }
        if request.number is not None and result.rejection is None:  # of a bad request only what is sound is told
            expected |= {
                "request_id": request.request_id,
                "requested_at": request.requested_at,
                "schema_id": int.from_bytes((request.value or b"")[1:5], "big"),
            }
        for name, value in expected.items():
            if getattr(result, name) != value:
                said = f"{name} {getattr(result, name)!r}"
                yield self._about(result, Kind.WRONG_COORDINATES, f"{name} {value!r}", said)

    def _rejection(self, result: Result, request: Request) -> Iterator[Violation]:
        """A result has a score, or a reason and the dead letter that keeps the request whole."""
        letters = self._letters.get((result.partition, result.offset), [])
        if result.rejection is None:
            if result.score is None:
                yield self._about(result, Kind.HALF_REJECTED, "a score or a rejection", "neither")
            if letters:
                said = f"the dead letter {letters[0].name}"
                yield self._about(result, Kind.HALF_REJECTED, "no dead letter beside a score", said)
            return
        name = f"{self._history.endpoint}.requests/{result.partition}/{result.offset}"
        if result.score is not None or result.dead_letter != name:
            said = f"score {result.score}, dead letter {result.dead_letter}"
            yield self._about(result, Kind.HALF_REJECTED, f"no score and the dead letter {name}", said)
        if not letters:
            yield self._about(result, Kind.HALF_REJECTED, f"the dead letter {name}", "none")
            return
        whole = (name, name.encode(), result.rejection, request.key, request.value, result.version, request.partition)
        letter = letters[0]
        there = (
            *(letter.name, letter.record_key, letter.reason, letter.key, letter.value),
            *(letter.version or 0, letter.at_partition),
        )
        if there != whole:
            yield self._about(result, Kind.HALF_REJECTED, f"a dead letter {whole!r:.400}", f"{there!r:.400}")

    def _letters_alone(self) -> Iterator[Violation]:
        """A dead letter stands beside a rejection, and alone."""
        topic = f"{self._history.endpoint}.dead-letters"
        for (partition, offset), letters in self._letters.items():
            where = (topic, letters[0].at_partition, letters[0].position, letters[0].name)
            for again in letters[1:]:
                yield Violation(Kind.DUPLICATE, topic, again.at_partition, again.position, again.name, "one", "another")
            if (partition, offset) not in self._requests:
                aborted = (partition, offset) in self._history.aborted
                kind = Kind.ABORTED_VISIBLE if aborted else Kind.UNKNOWN_REQUEST
                yield Violation(kind, *where, "a committed request", "none")
            elif (partition, offset) not in self._results:
                yield Violation(Kind.HALF_REJECTED, *where, "a rejection that names it", "no result")

    def _answer(self, result: Result, request: Request) -> Iterator[Violation]:
        """The score is that of the version that the result names, and the route asks that version for this key."""
        score = self._rules.score
        if result.rejection is None and result.score is not None:
            if request.number is None:
                yield self._about(result, Kind.WRONG_SCORE, "a rejection: it cannot be read", f"score {result.score}")
            elif result.score != (right := score(request.number, result.version)):
                others = [each for each in self._versions if score(request.number, each) == result.score]
                kind = Kind.WRONG_VERSION if others else Kind.WRONG_SCORE
                said = f"{result.score}" + (f", which is version {others[0]}'s" if others else "")
                yield self._about(result, kind, f"{right} by version {result.version}", said)
        if not result.version:
            return
        digest = self._digests.get(result.version, result.digest)
        if result.digest != digest:
            yield self._about(result, Kind.WRONG_VERSION, f"version {result.version} is {digest}", result.digest)
        if self._rules.routes is not None:
            arms = self._rules.routes.get(result.epoch, ())
            asked = arm_of(self._history.endpoint, arms, result.key, result.request_id)
            named = (result.arm, result.version)
            if asked is None or named != (asked.name, asked.version):
                said = f"{asked.name}, version {asked.version}" if asked else "no arm"
                yield self._about(result, Kind.WRONG_VERSION, f"{said}, by epoch {result.epoch}", f"{named}")

    def _known_digests(self) -> Mapping[int, str]:
        """Return the digest of each version: as the routes say, or as the first result does."""
        known: dict[int, str] = {}
        for arms in (self._rules.routes or {}).values():
            known |= {each.version: each.digest for each in arms}
        for result in self._history.results:
            if result.version:
                known.setdefault(result.version, result.digest)
        return known

    def _about(self, result: Result, kind: Kind, expected: str, found: str) -> Violation:
        topic = f"{self._history.endpoint}.results"
        return Violation(kind, topic, result.at_partition, result.position, result.request_id, expected, found)


def arm_of(endpoint: str, arms: Sequence[Arm], key: bytes | None, request_id: str) -> Arm | None:
    """Return the arm that a route asks for a key, or for the request id where there is no key.

    CRC-32 of the key, begun with that of the endpoint's name, modulo 10,000, falls into the weights, one arm behind the
    other; so the route's document says, and so callers may rely on it.
    """
    slot = zlib.crc32(key if key is not None else request_id.encode(), zlib.crc32(endpoint.encode())) % WEIGHTS
    for arm, end in zip(arms, accumulate(each.weight for each in arms), strict=True):
        if slot < end:
            return arm
    return None
