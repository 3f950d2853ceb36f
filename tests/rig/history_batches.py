"""Batches, judged: results, dead letters, observation, digest and offset of each are one transaction and agree."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, TypeVar

import numpy as np
from blake3 import blake3

from tests.rig.history import Commit, Digested, History, Kind, Letter, Observed, Request, Result, Violation

NO_VALUE: Final = 0x8000_0000
Covering = TypeVar("Covering", Observed, Digested)


def batches(history: History) -> Iterator[Violation]:
    """Yield what is wrong with the batches of a history."""
    partitions = sorted(
        {each.partition for each in history.requests}
        | {each.at_partition for each in history.results}
        | {each.partition for each in history.digested}
        | {each.partition for each in history.observed}
        | set(history.committed)
    )
    for number in partitions:
        yield from _Partition(history, number).violations()
    transactions = _transactions(history.commits)
    if history.markers is not None and history.markers < transactions:
        expected = f"{transactions} transactions or more, each of which ends with a marker"
        yield Violation(
            Kind.TORN, "__consumer_offsets", -1, history.commits[0].position, "", expected, f"{history.markers} markers"
        )


def _transactions(commits: Sequence[Commit]) -> int:
    """Return in how many transactions at least the commits came: those of one stand side by side, by partition."""
    joined = sum(
        after.position == before.position + 1 and after.partition > before.partition
        for before, after in pairwise(commits)
    )
    return len(commits) - joined


class _Partition:
    """One partition of requests, and everything that was written because of it."""

    def __init__(self, history: History, number: int) -> None:
        self._history = history
        self._number = number
        first: dict[int, Result] = {}
        for each in history.results:
            if each.at_partition == number:
                first.setdefault(each.offset, each)
        self._results = [first[offset] for offset in sorted(first)]
        self._offsets = sorted(first)
        self._requests: dict[int, Request] = {
            each.offset: each for each in history.requests if each.partition == number
        }
        self._letters: list[Letter] = sorted(
            (each for each in history.letters if each.at_partition == number), key=lambda each: each.offset
        )
        self._letter_offsets = [each.offset for each in self._letters]
        self._observed = [each for each in history.observed if each.partition == number]
        self._digested = [each for each in history.digested if each.partition == number]
        self._by_offset = sorted(self._observed, key=lambda each: each.from_offset)
        self._observed_at = [each.from_offset for each in self._by_offset]
        self._records = {
            name: set(found.tolist()) for (name, place), found in history.positions.items() if place == number
        }

    def violations(self) -> Iterator[Violation]:
        """Yield what is wrong here."""
        yield from self._chain(self._observed, "observations")
        yield from self._chain(self._digested, "batches")
        for batch in self._digested:
            results = self._within(batch.from_offset, batch.next_offset)
            yield from self._counted(batch, results)
            yield from self._one_transaction(batch, results)
        for seen in self._observed:
            yield from self._seen(seen, self._within(seen.from_offset, seen.next_offset))
        yield from self._uncovered(self._observed, "observation")
        yield from self._uncovered(self._digested, "batch digest")
        yield from self._offsets_committed()

    def _within(self, start: int, end: int) -> list[Result]:
        """Return the results of the requests from one offset up to another, in the order of offsets."""
        return self._results[bisect_left(self._offsets, start) : bisect_left(self._offsets, end)]

    def _chain(self, covering: Sequence[Covering], name: str) -> Iterator[Violation]:
        """Each begins where the one before ends."""
        for before, each in pairwise(covering):
            if each.from_offset == before.next_offset:
                continue
            kind = Kind.OBSERVATION_GAP if each.from_offset > before.next_offset else Kind.OBSERVATION_OVERLAP
            yield self._at(kind, name, each.position, f"beginning at {before.next_offset}", f"at {each.from_offset}")
        if covering and self._requests and covering[0].from_offset > (first := min(self._requests)):
            said = f"beginning at {first} or before"
            yield self._at(Kind.OBSERVATION_GAP, name, covering[0].position, said, f"at {covering[0].from_offset}")

    def _counted(self, batch: Digested, results: Sequence[Result]) -> Iterator[Violation]:
        """The digest's counts and digests follow from the results and the requests that it covers."""
        first = results[0].offset if results else batch.first_offset
        rejected = sum(each.rejection is not None for each in results)
        versions = Counter((each.arm, each.version, each.digest) for each in results if each.rejection is None)
        values = [request.value if (request := self._requests.get(each.offset)) else None for each in results]
        for name, told, found in (
            ("rows", batch.rows, len(results)),
            ("first offset", batch.first_offset, first),
            ("rejected", batch.rejected, rejected),
            ("versions", dict(batch.versions), dict(versions)),
            ("digest of results", batch.results_digest, digest([each.value for each in results])),
            ("digest of requests", batch.requests_digest, digest(values)),
            ("epochs", {batch.epoch}, {each.epoch for each in results} or {batch.epoch}),
        ):
            if told != found:
                yield self._at(Kind.COUNT, "batches", batch.position, f"{name} {found} by the results", f"{told}")

    def _one_transaction(self, batch: Digested, results: Sequence[Result]) -> Iterator[Violation]:
        """What a batch wrote lies in each topic in one piece with a marker behind it, and nowhere else."""
        stretch = (batch.from_offset, batch.next_offset)
        observed = self._by_offset[slice(*(bisect_left(self._observed_at, each) for each in stretch))]
        if not observed or (observed[0].from_offset, observed[-1].next_offset) != stretch:
            said = f"{[(each.from_offset, each.next_offset) for each in observed]}"
            yield self._at(Kind.TORN, "batches", batch.position, f"observations of {stretch}", said)
        places = (bisect_left(self._letter_offsets, each) for each in stretch)
        letters = self._letters[slice(*places)]
        for name, positions in (
            ("results", [each.position for each in results]),
            ("observations", [each.position for each in observed]),
            ("dead-letters", [each.position for each in letters]),
            ("batches", [batch.position]),
        ):
            if positions:
                yield from self._one_piece(name, stretch, positions)

    def _one_piece(self, name: str, stretch: tuple[int, int], positions: Sequence[int]) -> Iterator[Violation]:
        records = self._records.get(name)
        if records is None:
            return
        first, last = min(positions), max(positions)
        if last - first + 1 != len(positions):
            said = f"{len(positions)} records between {first} and {last}"
            yield self._at(Kind.TORN, name, first, f"the records of {stretch} one behind the other", said)
        if last + 1 in records or self._history.ends.get((name, self._number), last + 2) <= last + 1:
            yield self._at(Kind.TORN, name, last, f"a transaction's marker behind the records of {stretch}", "none")

    def _seen(self, seen: Observed, results: Sequence[Result]) -> Iterator[Violation]:
        """An observation's rows are the results, one by one."""
        told = {
            offset: (group.arm, group.version, group.digest, request_id, score)
            for group in seen.groups
            for offset, request_id, score in zip(group.offsets, group.request_ids, group.scores, strict=True)
        }
        there = {
            each.offset: (each.arm, each.version, each.digest, each.request_id, each.score)
            for each in results
            if each.rejection is None
        }
        rejected = Counter((each.rejection or "", each.arm, each.version) for each in results if each.rejection)
        if told != there:
            offset = min(each for each in told.keys() | there.keys() if told.get(each) != there.get(each))
            expected = f"row {offset} as its result: {there.get(offset)}"
            yield self._at(Kind.COUNT, "observations", seen.position, expected, f"{told.get(offset)}")
        if dict(seen.rejected) != dict(rejected):
            yield self._at(Kind.COUNT, "observations", seen.position, f"rejected {dict(rejected)}", f"{seen.rejected}")
        if seen.rows != len(results):
            yield self._at(Kind.COUNT, "observations", seen.position, f"{len(results)} rows", f"{seen.rows}")

    def _uncovered(self, covering: Sequence[Covering], name: str) -> Iterator[Violation]:
        """Every result is told of."""
        depth = np.zeros(len(self._offsets) + 1, dtype=np.int64)
        for each in covering:
            depth[bisect_left(self._offsets, each.from_offset)] += 1
            depth[bisect_left(self._offsets, each.next_offset)] -= 1
        for place in np.flatnonzero(np.cumsum(depth)[:-1] < 1).tolist():
            result = self._results[place]
            found = Violation(
                Kind.TORN,
                f"{self._history.endpoint}.results",
                self._number,
                result.position,
                result.request_id,
                f"a {name} that covers offset {result.offset}",
                "none",
            )
            yield found

    def _offsets_committed(self) -> Iterator[Violation]:
        """The group's offset went from the end of each batch to that of the next, and to nowhere else."""
        commits = [each for each in self._history.commits if each.partition == self._number]
        for before, each in pairwise(commits):
            if each.offset < before.offset:
                said = f"{before.offset} or more"
                yield self._commit(Kind.OFFSET_REGRESSION, each.position, said, f"{each.offset}")
        yield from self._stands([each.next_offset for each in self._digested])
        if self._history.commits:
            yield from self._each_committed(commits, [each.next_offset for each in self._digested])

    def _stands(self, ends: Sequence[int]) -> Iterator[Violation]:
        """In the end the group stands where the last batch ends."""
        stands, last = self._history.committed.get(self._number, 0), max(ends, default=0)
        if stands != last:
            kind = Kind.OFFSET_AHEAD if stands > last else Kind.TORN
            yield self._commit(kind, -1, f"at {last}, where the last batch ends", f"{stands}")

    def _each_committed(self, commits: Sequence[Commit], ends: Sequence[int]) -> Iterator[Violation]:
        """There is one commit for each batch, of its end."""
        if len(commits) == len(ends):
            for commit, end in zip(commits, ends, strict=True):
                if commit.offset != end:
                    kind = Kind.OFFSET_AHEAD if commit.offset > end else Kind.TORN
                    yield self._commit(kind, commit.position, f"at {end}, the batch's end", f"{commit.offset}")
            return
        counted = Counter(ends)
        counted.subtract(each.offset for each in commits)
        for offset, count in sorted(counted.items()):
            if count:
                said = f"{abs(count)} {'batches' if count > 0 else 'commits'} alone"
                yield self._commit(Kind.TORN, -1, f"a batch and a commit that end at {offset}", said)

    def _commit(self, kind: Kind, position: int, expected: str, found: str) -> Violation:
        group = self._history.group
        topic = f"{self._history.endpoint}.requests"
        return Violation(kind, topic, self._number, position, "", f"{group} {expected}", found)

    def _at(self, kind: Kind, name: str, position: int, expected: str, found: str) -> Violation:
        return Violation(kind, f"{self._history.endpoint}.{name}", self._number, position, "", expected, found)


def digest(values: Sequence[bytes | None]) -> str:
    """Return `blake3:` and the BLAKE3 hash over the number of values, where each of them ends, and the values.

    Numbers are four bytes big-endian, NO_VALUE is added to the end of none. Source: schemas/events/BatchAnswered.avsc.
    """
    numbers, end = [len(values)], 0
    for each in values:
        end += len(each or b"")
        numbers.append(end + (NO_VALUE if each is None else 0))
    written = b"".join(number.to_bytes(4, "big") for number in numbers)
    return "blake3:" + blake3(written + b"".join(each or b"" for each in values)).hexdigest()
