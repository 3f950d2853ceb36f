"""Where a process may be made to die: every named step of the lane and of the control plane, before and after.

No production code knows of this. In a child process the method that bears the step's name is wrapped, and on the n-th
reach the process sends itself SIGKILL: nothing is flushed, no handler runs, exactly as when memory runs out.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import random
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Self


class Moment(Enum):
    """On which side of the step the process dies."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True)
class Point:
    """A named step and the method that is it; a reach counts only where an argument speaks of `about`."""

    name: str
    target: str
    about: str = ""
    reaches: tuple[int, int] = (1, 6)
    """Which reaches are worth dying on, first and last: for some steps there is only one in a life."""
    ends: bool = False
    """Only reached when the process is told to end."""
    idle: bool = False
    """Only reached when no request comes for a moment."""

    def place(self) -> tuple[Any, str, Callable[..., Any]]:
        """Return the module or class, the attribute's name and what is there now; raises AttributeError."""
        module, _, path = self.target.partition(":")
        owner: Any = importlib.import_module(module)
        *outer, attribute = path.split(".")
        for each in outer:
            owner = getattr(owner, each)
        return owner, attribute, getattr(owner, attribute)

    def concerns(self, arguments: tuple[Any, ...]) -> bool:
        """Say whether a call is a reach of this step."""
        return not self.about or any(isinstance(each, str) and self.about in each for each in arguments)


_DRIVER: Final = "aiokafka:AIOKafkaProducer"
_TRANSACTIONS: Final = "interlock.kafka.transaction:PartitionTransactions"
_SENDER: Final = "interlock.kafka.transaction_sender:TransactionSender"
_READER: Final = "interlock.kafka.partition:PartitionReader"
_LANE: Final = "interlock_router.lane"

LANE: Final = (
    Point("assignment", "interlock_router.lanes:Lanes._begin", reaches=(1, 1)),
    Point("membership", "interlock_router.lanes:Lanes._known", reaches=(1, 2)),
    Point("transaction-start", f"{_TRANSACTIONS}.start", reaches=(1, 2)),
    Point("fence", f"{_SENDER}.start", reaches=(1, 2)),
    Point("producer-id", f"{_SENDER}.begin", reaches=(1, 2)),
    Point("seal", f"{_TRANSACTIONS}._seal", reaches=(1, 2)),
    Point("newest-routes", "interlock_router.lanes:Lanes._newest_routes", reaches=(1, 2)),
    Point("committed-read", "interlock_router.lanes:Lanes._committed", reaches=(1, 2)),
    Point("seek", f"{_READER}.start", reaches=(1, 2)),
    Point("take", f"{_READER}.take"),
    Point("decode", f"{_LANE}:Lane._read"),
    Point("score", "interlock_router.score:Scorer.score"),
    Point("encode", f"{_LANE}:Lane._outgoing"),
    Point("commit", f"{_TRANSACTIONS}.commit"),
    Point("begin", f"{_DRIVER}.begin_transaction"),
    Point("join", f"{_SENDER}._join", reaches=(1, 2)),
    Point("send-results", f"{_DRIVER}.send_batch", ".results"),
    Point("send-observations", f"{_DRIVER}.send_batch", ".observations"),
    Point("send-digest", f"{_DRIVER}.send_batch", ".batches"),
    Point("produce", f"{_SENDER}._send_produce_req"),
    Point("send-offsets", f"{_DRIVER}.send_offsets_to_transaction"),
    Point("commit-offsets", f"{_SENDER}._do_txn_offset_commit"),
    Point("end-transaction", f"{_SENDER}._do_txn_commit"),
    Point("confirm", f"{_TRANSACTIONS}.confirm", idle=True),
    Point("note", f"{_LANE}:Lane._note"),
    Point("drain", "interlock_router.lanes:Lanes._end", reaches=(3, 3), ends=True),
    Point("discard", f"{_TRANSACTIONS}.discard", reaches=(1, 2), ends=True),
    Point("close", f"{_READER}.close", reaches=(1, 2), ends=True),
    Point("leave", "interlock.kafka.member:Member.close", reaches=(1, 1), ends=True),
)
"""The steps of the lane, from the partition's assignment to its end."""

CONTROL: Final = (
    Point("lease-take", "interlock.postgres.lease:Lease.acquire", reaches=(1, 2)),
    Point("lease-renew", "interlock.postgres.lease:Lease.renew", reaches=(1, 3)),
    Point("lease-fence", "interlock.postgres.lease:Lease.fence"),
    Point("journal-append", "interlock.postgres.journal:Unit.append"),
    Point("outbox-insert", "asyncpg:Connection.execute", "INTO outbox"),
    Point("inbox-insert", "asyncpg:Connection.fetchval", "INTO inbox"),
    Point("command-remember", "asyncpg:Connection.execute", "INTO commands"),
    Point("unit-commit", "asyncpg.transaction:Transaction._Transaction__commit"),
    Point("relay-open", "interlock.kafka.producer:TransactionalPublisher.open", reaches=(1, 1)),
    Point("relay-read", "asyncpg:Connection.fetch", "FROM outbox"),
    Point("relay-publish", "interlock.kafka.producer:TransactionalPublisher.publish"),
    Point("relay-mark", "asyncpg:Connection.execute", "UPDATE outbox"),
    Point("consumer-handle", "interlock.dispatch:Dispatch.handle"),
    Point("consumer-commit", "interlock.kafka.consumer:ControlConsumer._commit"),
)
"""The steps of the control plane: what was decided goes into the journal, out of the outbox, through an inbox."""

POINTS: Final = {point.name: point for point in (*LANE, *CONTROL)}
"""Every crash point; the list is closed."""


class Deed(Enum):
    """What the process does to itself there."""

    KILL = signal.SIGKILL
    FREEZE = signal.SIGSTOP
    """It stands still until somebody sends it SIGCONT: a zombie, if that takes longer than its session."""


@dataclass(frozen=True)
class Crash:
    """One death: where, on which side, on which reach of the step (from 1), and how."""

    point: Point
    moment: Moment
    reach: int = 1
    deed: Deed = Deed.KILL

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `name/before|after/n[/kill|freeze]`; raises KeyError for an unknown name or deed, else ValueError."""
        name, moment, reach, *deed = text.split("/")
        return cls(POINTS[name], Moment(moment), int(reach), Deed[deed[0].upper()] if deed else Deed.KILL)

    @classmethod
    def each(cls, points: Sequence[Point], seed: int) -> list[Self]:
        """Return every point once on each side, in a random order and each on a random reach of those worth it."""
        chance = random.Random(seed)
        crashes = [cls(point, moment, chance.randint(*point.reaches)) for point in points for moment in Moment]
        chance.shuffle(crashes)
        return crashes

    def __str__(self) -> str:
        """Return what `parse` reads."""
        return f"{self.point.name}/{self.moment.value}/{self.reach}/{self.deed.name.lower()}"


def install(crash: Crash, do: Callable[[Deed], None] | None = None) -> None:
    """Make this process hurt itself where `crash` says. Raises AttributeError where the step's method is gone."""
    watch(crash.point, _Countdown(crash, do or _to_myself))


def _to_myself(deed: Deed) -> None:
    os.kill(os.getpid(), deed.value)


def watch(point: Point, reached: Callable[[Moment], None]) -> None:
    """Have `reached` called on both sides of a step; after it only where the step came to its end without an error."""
    owner, attribute, inner = point.place()
    setattr(owner, attribute, _wrapped(point, inner, reached))


class _Countdown:
    """Counts the reaches of a step on one side, and acts on the one that is meant."""

    def __init__(self, crash: Crash, do: Callable[[Deed], None]) -> None:
        self._crash = crash
        self._do = do
        self._left = crash.reach

    def __call__(self, moment: Moment) -> None:
        if moment is self._crash.moment:
            self._left -= 1
            if self._left == 0:
                self._do(self._crash.deed)


def _wrapped(point: Point, inner: Callable[..., Any], reached: Callable[[Moment], None]) -> Callable[..., Any]:
    """Return a function that does the same, plain or asynchronous as `inner` is."""
    if inspect.iscoroutinefunction(inner):

        @functools.wraps(inner)
        async def stepping(*arguments: Any, **more: Any) -> Any:
            if not point.concerns((*arguments, *more.values())):
                return await inner(*arguments, **more)
            reached(Moment.BEFORE)
            outcome = await inner(*arguments, **more)
            reached(Moment.AFTER)
            return outcome

        return stepping

    @functools.wraps(inner)
    def step(*arguments: Any, **more: Any) -> Any:
        if not point.concerns((*arguments, *more.values())):
            return inner(*arguments, **more)
        reached(Moment.BEFORE)
        outcome = inner(*arguments, **more)
        reached(Moment.AFTER)
        return outcome

    return step
