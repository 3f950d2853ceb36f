"""Dead letters: read page by page from the newest back, found by name, and replayed, each exactly once.

How far a replay has come lies in Kafka, committed with what it sent: as the offset of a group that bears the replay's
choice in its name. So a letter counts as replayed where some replay chose it and has come past it, whichever that was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self
from urllib.parse import parse_qsl, urlencode

import msgspec

from interlock.backoff import Backoff
from interlock.clock import Clock, milliseconds
from interlock.codec.rows import decode
from interlock.errors import Code, Poison, Refusal, Transient
from interlock.kafka.lookup import Lookup
from interlock.kafka.partition import TopicPartition
from interlock.kafka.replay import GROUPS, Again, ReplayTransactions, positions
from interlock.kafka.transaction import Fenced
from interlock.schemas import endpoint_topic
from interlock.schemas.events import DeadLetter
from interlock.schemas.topics import ENDPOINT_DEAD_LETTERS, ENDPOINT_REQUESTS
from interlock.settings import PlatformSettings

READ_SECONDS_MAX: Final = 30.0
BATCH_ROWS: Final = 2_000
"""How many letters are read, and sent in one transaction, unless asked otherwise."""
BATCH_BYTES_MAX: Final = 32 * 1024 * 1024
"""How much is held in memory at once; a larger letter is taken by itself."""
PAGE_ROWS_MAX: Final = 2_000
"""How many offsets a page looks back at a time in each partition."""
LOOKED_MAX: Final = 200_000
"""How many offsets of a partition one listing looks back at most."""
NAMES_MAX: Final = 100
LIVES_MAX: Final = 8
"""How often in a row a replay begins anew without coming further."""
RETRY_SECONDS_MAX: Final = 5.0

NAMES_TOO_MANY = Code(
    "NAMES_TOO_MANY", 422, "Too many dead letters are named", "Choose by --reason, --since or --until."
)
REPLAY_TAKEN_OVER = Code(
    "REPLAY_TAKEN_OVER",
    409,
    "Another replay of this endpoint has taken over",
    "Nothing was sent twice. Run it again when the other one has ended: it goes on where both have come to.",
)


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Which dead letters are meant: those that fit every field that is set; times in ms since 1970."""

    reasons: tuple[str, ...] = ()
    version: int | None = None
    since: int | None = None
    until: int | None = None
    names: tuple[str, ...] = ()
    again: str | None = None
    """The name of a replay that sends once more what others have sent; None of one that does not."""

    def fits(self, letter: DeadLetter) -> bool:
        """Say whether a letter is meant."""
        at = milliseconds(letter.at)
        return (
            (not self.reasons or letter.reason in self.reasons)
            and (self.version is None or letter.version == self.version)
            and (self.since is None or at >= self.since)
            and (self.until is None or at < self.until)
            and (not self.names or letter.name in self.names)
        )

    def group(self, endpoint: str) -> str:
        """Return the group whose offsets say how far the replay of this choice has come."""
        fields = {
            "reasons": ",".join(sorted(self.reasons)),
            "version": self.version,
            "since": self.since,
            "until": self.until,
            "names": ",".join(sorted(self.names)),
            "again": self.again,
        }
        return prefix(endpoint) + urlencode({name: value for name, value in fields.items() if value not in {"", None}})

    @classmethod
    def of_group(cls, group: str, endpoint: str) -> Self:
        """Return the choice that a group's name says; raises ValueError where it is not one of ours."""
        said = dict(parse_qsl(group.removeprefix(prefix(endpoint)), strict_parsing=len(group) > len(prefix(endpoint))))
        lists = {name: tuple(said.pop(name, "").split(",")) for name in ("reasons", "names") if said.get(name)}
        try:
            return msgspec.convert({**said, **lists}, cls, strict=False)
        except msgspec.ValidationError as error:
            raise ValueError(f"{group} is no choice: {error}") from error


def prefix(endpoint: str) -> str:
    """Return what the names of the groups of an endpoint's replays begin with."""
    return f"{GROUPS}/{endpoint}?"


@dataclass(frozen=True)
class Lying:
    """A dead letter and where it lies in the topic of dead letters."""

    letter: DeadLetter
    partition: int
    offset: int


@dataclass(frozen=True)
class Page:
    """Dead letters, the newest first; `before` is where the next page begins, by partition; `whole` if none is left."""

    letters: list[Lying]
    before: dict[int, int]
    whole: bool


@dataclass
class Tally:
    """How far a replay has come: letters looked at, still ahead, chosen, sent, sent by an earlier replay, or empty."""

    looked: int = 0
    ahead: int = 0
    chosen: int = 0
    sent: int = 0
    already: int = 0
    passed: int = 0
    """Offsets that an earlier run of the same replay had come past, and that were not looked at again."""
    empty: int = 0
    """Those with neither key nor value: there is nothing to send."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Of those that are sent, how many by reason."""


class DeadLetters:
    """The dead letters of one endpoint, read with bounds; close it after use."""

    def __init__(self, settings: PlatformSettings, endpoint: str) -> None:
        self.settings = settings
        self.endpoint = endpoint
        self.topic = endpoint_topic(ENDPOINT_DEAD_LETTERS, endpoint)
        self.requests = endpoint_topic(ENDPOINT_REQUESTS, endpoint)
        self.lookup = Lookup(settings, READ_SECONDS_MAX)

    async def close(self) -> None:
        """Disconnect."""
        await self.lookup.close()

    async def page(self, choice: Choice, limit: int, before: dict[int, int] | None = None) -> Page:
        """Return the newest `limit` letters that fit, of those before the given offsets. Raises Transient.

        Each partition is read back until it has as many, or has no more, or LOOKED_MAX offsets were looked at.
        """
        found: list[Lying] = []
        reached: dict[int, int] = {}
        whole = True
        for partition in await self.lookup.partitions(self.topic):
            begin, end = await self.bounds(partition, choice)
            end = min(end, (before or {}).get(partition, end))
            least = max(begin, end - LOOKED_MAX)
            mine: list[Lying] = []
            at = end
            while at > least and len(mine) < limit:
                start = max(least, at - PAGE_ROWS_MAX)
                mine = [each for each in await self._between(partition, start, at) if choice.fits(each.letter)] + mine
                at = start
            whole = whole and at <= begin
            reached[partition] = mine[-limit].offset if len(mine) > limit else at
            whole = whole and len(mine) <= limit
            found += mine[-limit:]
        found.sort(key=lambda each: (each.letter.at, each.partition, each.offset), reverse=True)
        kept = found[:limit]
        for each in found[limit:]:
            reached[each.partition] = max(reached[each.partition], each.offset + 1)
        return Page(kept, reached, whole and len(found) <= limit)

    async def bounds(self, partition: int, choice: Choice) -> tuple[int, int]:
        """Return the offset of the first letter of a partition that fits by its time, and the one behind the last."""
        begin, end = await self.lookup.bounds(self.topic, partition) or (0, 0)
        if choice.since is not None:
            first = await self.lookup.offset_at(self.topic, partition, choice.since)
            begin = end if first is None else max(begin, first)
        return begin, end

    async def find(self, name: str) -> Lying | None:
        """Return the letter of that name, or None. Letters of a partition lie in the order of their requests."""
        try:
            topic, partition, offset = name.rsplit("/", 2)
            place, wanted = int(partition), int(offset)
        except ValueError:
            return None
        bounds = await self.lookup.bounds(self.topic, place) if topic == self.requests else None
        if bounds is None:
            return None
        low, high = bounds
        while low < high:
            middle = (low + high) // 2
            rows = await self.lookup.read(self.topic, place, middle, rows_max=1, enough=lambda _: False)
            if not rows or rows[0].offset >= high:
                high = middle
                continue
            letter = _decoded(rows[0])
            if letter is not None and letter.offset == wanted:
                return Lying(letter, place, rows[0].offset)
            if letter is None or letter.offset < wanted:
                low = rows[0].offset + 1
            else:
                high = middle
        return None

    async def read(self, partition: int, at: int, end: int, rows_max: int) -> tuple[list[Lying], int]:
        """Return letters from an offset on, bounded by rows and bytes, and the offset behind them. Raises Transient."""
        size = 0

        def enough(record: Any) -> bool:
            nonlocal size
            before, size = size, size + len(record.value or b"")
            return record.offset >= end or (before > 0 and size > BATCH_BYTES_MAX)

        rows = await self.lookup.read(self.topic, partition, at, rows_max=rows_max, enough=enough)
        letters = [Lying(letter, partition, each.offset) for each in rows if (letter := _decoded(each)) is not None]
        return letters, rows[-1].offset + 1 if rows else end

    async def _between(self, partition: int, start: int, behind: int) -> list[Lying]:
        found: list[Lying] = []
        at = start
        while at < behind:
            letters, at = await self.read(partition, at, behind, PAGE_ROWS_MAX)
            found += letters
        return found


class Replay:
    """Sends what a choice means once more, exactly once however often it is begun; `tally` says how far it has come."""

    def __init__(self, letters: DeadLetters, choice: Choice, clock: Clock, batch_rows: int = BATCH_ROWS) -> None:
        if len(choice.names) > NAMES_MAX:
            raise Refusal(NAMES_TOO_MANY, f"{len(choice.names)} are named, at most {NAMES_MAX} can be.")
        self._letters = letters
        self._choice = choice
        self._clock = clock
        self._batch_rows = batch_rows
        self._group = choice.group(letters.endpoint)
        self._doubt: tuple[int, Tally] | None = None
        """What a transaction would come to that may not have happened, and the tally without it."""
        self.tally = Tally()

    async def run(self, named: Collection[Lying] = (), *, dry: bool = False) -> AsyncGenerator[Tally]:
        """Replay, or with `dry` only count; yield the tally after every batch. `named` are the letters of its names.

        What is there at the beginning is replayed, not what becomes a dead letter meanwhile. Raises
        Refusal(REPLAY_TAKEN_OVER) where another replay began, Transient where Kafka stays away.
        """
        ranges = await self._ranges(named)
        self.tally.ahead = sum(end - begin for begin, end in ranges.values())
        for partition, (begin, end) in ranges.items():
            backoff, lives, at = Backoff(RETRY_SECONDS_MAX), 0, begin
            while at < end:
                try:
                    async for reached in self._life(partition, at, end, dry=dry):
                        at, lives = reached, 0
                        backoff.reset()
                        yield self.tally
                except Fenced as fenced:
                    raise Refusal(REPLAY_TAKEN_OVER, f"{fenced.detail}.") from fenced
                except Transient:
                    lives += 1
                    if lives >= LIVES_MAX:
                        raise
                    await asyncio.sleep(backoff.next_seconds())

    async def _ranges(self, named: Collection[Lying]) -> dict[int, tuple[int, int]]:
        """Return from which offset to before which each partition is looked through."""
        found: dict[int, tuple[int, int]] = {}
        for partition in await self._letters.lookup.partitions(self._letters.topic):
            begin, end = await self._letters.bounds(partition, self._choice)
            if self._choice.names:
                places = [each.offset for each in named if each.partition == partition]
                begin, end = (min(places), max(places) + 1) if places else (end, end)
            if begin < end:
                found[partition] = (begin, end)
        return found

    async def _life(self, partition: int, at: int, end: int, *, dry: bool) -> AsyncGenerator[int]:
        """One producer's life: fence, read how far all replays have come, send until something is in doubt."""
        source = TopicPartition(self._letters.topic, partition)
        transactions = ReplayTransactions(self._letters.settings, self._group, source)
        try:
            if not dry:
                await transactions.start((self._letters.requests,))
            before = await self._before(source)
            mine = max(at, before.get(self._group, (self._choice, at))[1])
            self._settle(mine)
            self.tally.passed += mine - at
            at = mine
            while at < end:
                lying, behind = await self._letters.read(partition, at, end, self._batch_rows)
                self._doubt = (behind, replace(self.tally, reasons=dict(self.tally.reasons)))
                chosen = self._choose(lying, before)
                self.tally.looked += behind - at
                if not dry:
                    await transactions.write(chosen, behind, milliseconds(self._clock.now()))
                self._doubt, at = None, behind
                yield at
            yield end
        finally:
            await transactions.discard()

    def _settle(self, position: int) -> None:
        """Take back what was counted of a transaction that did not happen; where it did, it is not passed over."""
        if self._doubt is not None:
            behind, without = self._doubt
            counted = self.tally
            if position < behind:
                self.tally = without
            else:
                self.tally.passed -= counted.looked - without.looked
            self._doubt = None

    def _choose(self, lying: Sequence[Lying], before: Mapping[str, tuple[Choice, int]]) -> list[Again]:
        """Return what is to be sent of some letters, and count all of them."""
        found = []
        for each in lying:
            letter = each.letter
            if not self._choice.fits(letter):
                continue
            self.tally.chosen += 1
            if any(each.offset < offset and choice.fits(letter) for choice, offset in before.values()):
                self.tally.already += 1
            elif letter.key is None and letter.value is None:
                self.tally.empty += 1
            else:
                self.tally.sent += 1
                self.tally.reasons[letter.reason] = self.tally.reasons.get(letter.reason, 0) + 1
                headers = [(header.name, header.value) for header in letter.headers]
                found.append(Again(letter.name, self._letters.requests, letter.key, letter.value, headers))
        return found

    async def _before(self, source: TopicPartition) -> dict[str, tuple[Choice, int]]:
        """Return how far each replay has come in a partition: all of them, or only this one where it sends again."""
        endpoint = self._letters.endpoint
        groups = await positions(self._letters.settings, prefix(endpoint), source)
        return {
            group: (Choice.of_group(group, endpoint), offset)
            for group, offset in groups.items()
            if self._choice.again is None or group == self._group
        }


def _decoded(record: Any) -> DeadLetter | None:
    """Return the letter that a record holds; None for a record that somebody else wrote."""
    try:
        letter = decode(record.value or b"")
    except Poison:
        return None
    return letter if isinstance(letter, DeadLetter) else None
