"""Made-up histories in which everything is right, and ways to make one thing wrong in them."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from tests.rig.history import (
    Arm,
    Commit,
    Digested,
    Group,
    History,
    Kind,
    Letter,
    Observed,
    Request,
    Result,
    Rules,
    Sent,
    sums,
)
from tests.rig.history_batches import digest
from tests.rig.history_check import arm_of

ENDPOINT: Final = "e"
SCHEMA_ID: Final = 1001
ROUTES: Final = {
    1: (Arm("champion", 1, "sha256:one", 7_000), Arm("arm1", 2, "sha256:two", 3_000)),
    2: (Arm("champion", 2, "sha256:two", 10_000),),
}
RULES: Final = Rules(routes=ROUTES)


class Maker:
    """Makes a history, batch by batch, with the positions that Kafka would give its records and markers."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.history = History(ENDPOINT, "group", sent=[], markers=0)
        self._next: dict[tuple[str, int], int] = defaultdict(int)
        self._places: dict[tuple[str, int], list[int]] = defaultdict(list)
        self._number = 0

    def make(self) -> History:
        """Return the history; its first partition has a batch with a rejection and two requests of one key."""
        for partition in range(self._chance.randint(1, 3)):
            behind: int | None = None
            epochs = sorted(self._chance.choice((1, 2)) for _ in range(self._chance.randint(2, 4)))
            for epoch in epochs:
                behind = self._batch(partition, behind, epoch)
            self.history.committed[partition] = behind or 0
        for place, found in self._places.items():
            self.history.positions[place] = np.array(found, dtype=np.int64)
            self.history.ends[place] = self._next[place]
        return self.history

    def _batch(self, partition: int, behind: int | None, epoch: int) -> int:
        """Add requests, some aborted ones among them, and everything that answers them; return where it ends."""
        requests = [self._request(partition, row) for row in range(self._chance.randint(3, 7))]
        self._aborted(partition)
        first, next_offset = requests[0].offset, requests[-1].offset + self._chance.randint(1, 2)
        from_offset = first if behind is None else behind
        results = [self._result(each, epoch) for each in requests]
        self.history.results += results
        self._observe(partition, (from_offset, next_offset), epoch, results)
        rejected = [each for each in results if each.rejection is not None]
        self._digest(partition, (from_offset, next_offset), epoch, requests, results)
        for each in rejected:
            self._reject(each, requests[results.index(each)])
        for name in ("results", "observations", "batches", "dead-letters"):
            self._next[name, partition] += 1  # the marker
        position = self._next["offsets", 0]
        self.history.commits.append(Commit(position, partition, next_offset))
        self._next["offsets", 0] += 2
        self.history.markers = (self.history.markers or 0) + 1
        return next_offset

    def _request(self, partition: int, row: int) -> Request:
        if self._chance.random() < 0.2:
            self._aborted(partition)
        self._number += 1
        is_whole = row != 1
        offset = self._next["requests", partition]
        self._next["requests", partition] += 1
        value = b"\0" + SCHEMA_ID.to_bytes(4, "big") + b"%d" % self._number
        key = b"k0" if row in (0, 2) else b"k%d" % self._chance.randrange(4)
        request_id, number = (f"r{self._number}", float(self._number)) if is_whole else ("", None)
        made = Request(partition, offset, key, value, request_id, number, 1_000 + self._number if is_whole else -1)
        self.history.requests.append(made)
        assert isinstance(self.history.sent, list)
        self.history.sent.append(Sent(f"r{self._number}", key, partition, offset))
        return made

    def _aborted(self, partition: int) -> None:
        """Leave an aborted request and its marker in the log, and an aborted result in that of results."""
        self.history.aborted.add((partition, self._next["requests", partition]))
        self._next["requests", partition] += 2

    def _result(self, request: Request, epoch: int) -> Result:
        arm = arm_of(ENDPOINT, ROUTES[epoch], request.key, request.request_id)
        assert arm is not None
        score = None if request.number is None else sums(request.number, arm.version)
        names = (arm.name, arm.version, arm.digest, "m") if score is not None else ("", 0, "", "")
        topic = f"{ENDPOINT}.requests"
        return Result(
            request.partition,
            self._take("results", request.partition),
            request.key,
            b"result %d" % self._number + b"%d" % request.offset,
            request.request_id,
            topic,
            request.partition,
            request.offset,
            request.requested_at,
            score,
            names[3],
            names[1],
            names[2],
            epoch,
            names[0],
            SCHEMA_ID,
            5_000,
            None if score is not None else "MALFORMED",
            None if score is not None else f"{topic}/{request.partition}/{request.offset}",
        )

    def _reject(self, result: Result, request: Request) -> None:
        name = result.dead_letter or ""
        position = self._take("dead-letters", result.partition)
        where = (result.partition, position, name.encode(), name, "MALFORMED", result.partition, result.offset)
        self.history.letters.append(Letter(*where, request.key, request.value, None))

    def _observe(self, partition: int, stretch: tuple[int, int], epoch: int, results: list[Result]) -> None:
        groups: dict[tuple[str, int, str], list[Result]] = defaultdict(list)
        for each in results:
            if each.rejection is None:
                groups[each.arm, each.version, each.digest].append(each)
        told = tuple(
            Group(
                *arm,
                tuple(each.offset for each in rows),
                tuple(each.request_id for each in rows),
                tuple(each.score or 0.0 for each in rows),
            )
            for arm, rows in groups.items()
        )
        rejected = Counter((each.rejection, each.arm, each.version) for each in results if each.rejection)
        position = self._take("observations", partition)
        self.history.observed.append(Observed(position, partition, *stretch, len(results), epoch, told, rejected))

    def _digest(
        self, partition: int, stretch: tuple[int, int], epoch: int, requests: list[Request], results: list[Result]
    ) -> None:
        answered = [each for each in results if each.rejection is None]
        self.history.digested.append(
            Digested(
                self._take("batches", partition),
                partition,
                *stretch,
                requests[0].offset,
                len(results),
                len(results) - len(answered),
                epoch,
                digest([each.value for each in results]),
                digest([each.value for each in requests]),
                Counter((each.arm, each.version, each.digest) for each in answered),
            )
        )

    def _take(self, name: str, partition: int) -> int:
        position = self._next[name, partition]
        self._next[name, partition] += 1
        self._places[name, partition].append(position)
        return position


def _answered(each: Any) -> bool:
    return each.rejection is None


def _rejected(each: Any) -> bool:
    return each.rejection is not None


def _lost_result(history: History, chance: random.Random) -> None:
    history.results.remove(chance.choice(history.results))


def _doubled_result(history: History, chance: random.Random) -> None:
    again = chance.choice(history.results)
    history.results.append(again._replace(position=again.position + 1_000))


def _answered_aborted(history: History, chance: random.Random) -> None:
    partition, offset = chance.choice(sorted(history.aborted))
    history.results.append(history.results[0]._replace(at_partition=partition, partition=partition, offset=offset))


def _answered_nobody(history: History, chance: random.Random) -> None:
    history.results.append(history.results[0]._replace(offset=10_000))


def _two_of_a_key(history: History) -> tuple[int, int]:
    """Return where the first two results of the key that each batch has twice stand."""
    first, second = [index for index, each in enumerate(history.results) if each.key == b"k0"][:2]
    return first, second


def _swapped_results(history: History, chance: random.Random) -> None:
    first, second = _two_of_a_key(history)
    history.results[first], history.results[second] = history.results[second], history.results[first]


def _stale_epoch(history: History, chance: random.Random) -> None:
    history.results[0] = history.results[0]._replace(epoch=history.results[0].epoch + 5)


def _offset_back(history: History, chance: random.Random) -> None:
    first = history.commits[0]
    history.commits.append(first._replace(position=10_000, offset=first.offset - 1))


def _offset_ahead(history: History, chance: random.Random) -> None:
    place = chance.randrange(len(history.commits))
    history.commits[place] = history.commits[place]._replace(offset=history.commits[place].offset + 1)


def _stands_ahead(history: History, chance: random.Random) -> None:
    history.committed[0] += 1


def _stands_behind(history: History, chance: random.Random) -> None:
    history.committed[0] -= 1


def _lost_commit(history: History, chance: random.Random) -> None:
    history.commits.remove(chance.choice(history.commits))


def _lost_marker_of_offsets(history: History, chance: random.Random) -> None:
    history.markers = (history.markers or 0) - 1


def _lost_marker(history: History, chance: random.Random) -> None:
    """Something stands where the marker behind a batch should be."""
    name, partition = chance.choice([place for place in history.positions if place[0] != "requests"])
    records = history.positions[name, partition]
    history.positions[name, partition] = np.append(records, records[-1] + 1)


def _end_without_a_marker(history: History, chance: random.Random) -> None:
    place = chance.choice(sorted(history.positions))
    history.ends[place] = int(history.positions[place][-1]) + 1


def _batch_in_two_pieces(history: History, chance: random.Random) -> None:
    last = max(index for index, each in enumerate(history.results) if each.at_partition == 0)
    history.results[last] = history.results[last]._replace(position=history.results[last].position + 1)


def _lost_sent(history: History, chance: random.Random) -> None:
    history.sent = [*history.sent, Sent("r-lost", b"k1", 0, 5_000)]


def _sent_in_another_order(history: History, chance: random.Random) -> None:
    history.sent = list(reversed(history.sent))


def _lost_letter(history: History, chance: random.Random) -> None:
    history.letters.remove(chance.choice(history.letters))


def _doubled_letter(history: History, chance: random.Random) -> None:
    history.letters.append(history.letters[0]._replace(position=10_000))


def _lost_observation(history: History, chance: random.Random) -> None:
    history.observed.remove(chance.choice(history.observed))


def _observation_late(history: History, chance: random.Random) -> None:
    history.observed[1] = history.observed[1]._replace(from_offset=history.observed[1].from_offset + 1)


def _observation_early(history: History, chance: random.Random) -> None:
    history.observed[1] = history.observed[1]._replace(from_offset=history.observed[1].from_offset - 1)


def _lost_digest(history: History, chance: random.Random) -> None:
    history.digested.remove(chance.choice(history.digested))


def _observed_score(history: History, chance: random.Random) -> None:
    each = next(each for each in history.observed if each.groups)
    group = each.groups[0]
    groups = (group._replace(scores=(group.scores[0] + 1, *group.scores[1:])), *each.groups[1:])
    history.observed[history.observed.index(each)] = each._replace(groups=groups)


def _weak_acks(history: History, chance: random.Random) -> None:
    history.acks = {-1: 10, 1: 1}


def _change(name: str, condition: Callable[[Any], bool] | None = None, **more: Any) -> Mutation:
    """Return a mutation of one row of those that meet the condition; a new value may be made of the old row."""

    def mutation(history: History, chance: random.Random) -> None:
        rows = getattr(history, name)
        place = chance.choice([index for index, each in enumerate(rows) if condition is None or condition(each)])
        before = rows[place]
        rows[place] = before._replace(**{each: new(before) if callable(new) else new for each, new in more.items()})

    return mutation


Mutation = Callable[[History, random.Random], None]

MUTATIONS: Final[Mapping[str, tuple[Mutation, Kind]]] = {
    "lost result": (_lost_result, Kind.LOST),
    "lost request": (_lost_sent, Kind.LOST),
    "doubled result": (_doubled_result, Kind.DUPLICATE),
    "doubled dead letter": (_doubled_letter, Kind.DUPLICATE),
    "aborted request answered": (_answered_aborted, Kind.ABORTED_VISIBLE),
    "nobody's request answered": (_answered_nobody, Kind.UNKNOWN_REQUEST),
    "results of a key swapped": (_swapped_results, Kind.ORDER),
    "requests of a key swapped": (_sent_in_another_order, Kind.ORDER),
    "newer epoch before": (_stale_epoch, Kind.STALE_EPOCH),
    "offset back": (_offset_back, Kind.OFFSET_REGRESSION),
    "offset ahead of a batch": (_offset_ahead, Kind.OFFSET_AHEAD),
    "offset ahead in the end": (_stands_ahead, Kind.OFFSET_AHEAD),
    "offset behind in the end": (_stands_behind, Kind.TORN),
    "batch without an offset": (_lost_commit, Kind.TORN),
    "offset outside": (_lost_marker_of_offsets, Kind.TORN),
    "records outside": (_lost_marker, Kind.TORN),
    "last records outside": (_end_without_a_marker, Kind.TORN),
    "batch in two pieces": (_batch_in_two_pieces, Kind.TORN),
    "batch without observation": (_lost_observation, Kind.TORN),
    "batch without digest": (_lost_digest, Kind.TORN),
    "observation begins late": (_observation_late, Kind.OBSERVATION_GAP),
    "observation begins early": (_observation_early, Kind.OBSERVATION_OVERLAP),
    "observed score": (_observed_score, Kind.COUNT),
    "observed rows": (_change("observed", rows=lambda each: each.rows + 1), Kind.COUNT),
    "observed rejections": (_change("observed", rejected={("EMPTY", "", 0): 1}), Kind.COUNT),
    "digest of results": (_change("digested", results_digest="blake3:other"), Kind.COUNT),
    "digest of requests": (_change("digested", requests_digest="blake3:other"), Kind.COUNT),
    "digested rows": (_change("digested", rows=lambda each: each.rows - 1), Kind.COUNT),
    "digested versions": (_change("digested", versions={("champion", 9, "sha256:nine"): 1}), Kind.COUNT),
    "version": (_change("results", _answered, version=lambda each: 3 - each.version), Kind.WRONG_VERSION),
    "digest": (_change("results", _answered, digest="sha256:other"), Kind.WRONG_VERSION),
    "arm": (_change("results", _answered, arm="arm7"), Kind.WRONG_VERSION),
    "score": (_change("results", _answered, score=lambda each: each.score + 0.5), Kind.WRONG_SCORE),
    "score of the unreadable": (
        _change("results", _rejected, score=1.0, rejection=None, dead_letter=None),
        Kind.WRONG_SCORE,
    ),
    "request id": (_change("results", _answered, request_id="other"), Kind.WRONG_COORDINATES),
    "key": (_change("results", key=b"other"), Kind.WRONG_COORDINATES),
    "time": (_change("results", _answered, requested_at=-7), Kind.WRONG_COORDINATES),
    "topic": (_change("results", topic="other.requests"), Kind.WRONG_COORDINATES),
    "partition": (_change("results", at_partition=77), Kind.WRONG_COORDINATES),
    "rejection without dead letter": (_lost_letter, Kind.HALF_REJECTED),
    "dead letter of another reason": (_change("letters", reason="EMPTY"), Kind.HALF_REJECTED),
    "dead letter of other bytes": (_change("letters", value=b"other"), Kind.HALF_REJECTED),
    "neither score nor rejection": (_change("results", _answered, score=None), Kind.HALF_REJECTED),
    "one replica is enough": (_weak_acks, Kind.WEAK_ACKS),
}
"""Ways to make one thing wrong, and what that must be called."""
