"""A chaos run: requests keep coming while the schedule is carried out; afterwards the histories are judged."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from tests.fault.victims import Stack, kill_9, until
from tests.rig.history import Violation
from tests.rig.line import Line
from tests.rig.nursery import Hurt
from tests.rig.schedule import ROUTER_FAULTS, Fault, Strike, Victim, by_victim

BACK_SECONDS_MAX: Final = 600.0
TERM_SECONDS_MAX: Final = 120.0
ROUTER_WEIGHT: Final = 10.0


class Target(Protocol):
    """Somebody who can be struck, and who is brought back."""

    async def take(self, strike: Strike) -> None:
        """Be struck, and be there again."""
        ...


class RouterSlot:
    """The place of one router of a line: whoever dies there is followed by another."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self.router: Hurt | None = None
        self.ends: list[int] = []

    async def fill(self) -> None:
        """Start a router."""
        self.router = await self._line.start()

    async def take(self, strike: Strike) -> None:
        """Be struck; who dies is followed by another after a pause, who stands still is woken."""
        router = self.living()
        if strike.fault in (Fault.FREEZE, Fault.ZOMBIE):
            router.send(signal.SIGSTOP)
            await asyncio.sleep(strike.seconds)  # the length of the fault, not a wait for a condition
            router.send(signal.SIGCONT)
            return
        router.send(signal.SIGKILL if strike.fault is Fault.KILL else signal.SIGTERM)
        status = await router.ended(TERM_SECONDS_MAX)
        if strike.fault is Fault.TERM and router.heard("rig.ready"):  # before that SIGTERM does what it always does
            assert status == 0, f"{strike}: status {status}, {router.lines()[-5:]}"
        await asyncio.sleep(strike.seconds)  # the length of the absence
        await self.fill()

    async def leave(self) -> None:
        """End the router as planned."""
        router = self.living()
        router.send(signal.SIGTERM)
        assert await router.ended(TERM_SECONDS_MAX) == 0, router.lines()[-5:]

    def living(self) -> Hurt:
        """Return the router; fails where it ended by itself, for that is a bug of the product."""
        assert self.router is not None
        assert self.router.status is None, f"{self.router.name} ended by itself: {self.router.lines()[-30:]}"
        return self.router


class Server:
    """A part of an embedded stack; its supervisor starts it again."""

    def __init__(self, stack: Stack, name: str) -> None:
        self._stack = stack
        self._name = name

    def _is_there(self) -> bool:
        return bool(self._stack.part(self._name)["state"] == "ready")

    async def take(self, strike: Strike) -> None:
        """Be killed and come back by the supervisor's own proof of it, or stand still for a moment."""
        await until(
            lambda: self._stack.part(self._name)["state"] == "ready", BACK_SECONDS_MAX, f"{self._name} is there"
        )
        pid = self._stack.pid(self._name)
        if strike.fault is Fault.KILL:
            kill_9(pid)
            await until(lambda: self._stack.is_back(self._name, pid), BACK_SECONDS_MAX, f"{self._name} is back")
            return
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(strike.seconds)  # the length of the fault
        finally:
            os.kill(pid, signal.SIGCONT)


class Replicas:
    """The replicas of a model in Ray Serve, all versions that are warm; Serve starts them again."""

    def __init__(self, stack: Stack, model: str, versions: Sequence[int]) -> None:
        self._stack = stack
        self._model = model
        self._versions = versions

    def _pids(self) -> set[int]:
        return {pid for version in self._versions for pid in self._stack.replicas(self._model, version)}

    async def take(self, strike: Strike) -> None:
        """Be killed, all of them at once, and be replaced."""
        await until(lambda: bool(self._pids()), BACK_SECONDS_MAX, "there are replicas")
        before = self._pids()
        for pid in before:
            with contextlib.suppress(ProcessLookupError):  # Ray may just be going down with them
                kill_9(pid)
        await until(lambda: bool(self._pids() - before), BACK_SECONDS_MAX, "there are replicas again")


def slots(lines: Sequence[Line], per_line: int) -> dict[str, RouterSlot]:
    """Return the places for routers, by the names that the schedule knows them by."""
    return {
        f"line{number}/router{place}": RouterSlot(line)
        for number, line in enumerate(lines)
        for place in range(per_line)
    }


def router_victims(names: Sequence[str]) -> list[Victim]:
    """Return routers as victims of the schedule."""
    return [Victim(name, ROUTER_WEIGHT, ROUTER_FAULTS) for name in names]


async def carry_out(strikes: Sequence[Strike], targets: Mapping[str, Target]) -> float:
    """Strike every victim in its turn, never before the moment; return how many seconds it took.

    Who is not back yet is struck as soon as it is: the schedule may fall behind, but leaves nothing out.
    """
    began = time.monotonic()

    async def one(target: Target, its: Sequence[Strike]) -> None:
        for strike in its:
            await asyncio.sleep(max(0.0, began + strike.at_seconds - time.monotonic()))  # the moment of the fault
            await target.take(strike)

    async with asyncio.TaskGroup() as group:
        for name, its in by_victim(strikes).items():
            group.create_task(one(targets[name], its))
    return time.monotonic() - began


async def finish(lines: Sequence[Line], requests: int, seconds_max: float) -> list[Violation]:
    """Write what is missing to `requests` per line, see all of it answered, and return all that is wrong."""
    for line in lines:
        await line.feed.stop()
        line.feed.write(requests - line.feed.written)
        await line.feed.stop()
    found = await asyncio.gather(*(line.judge(seconds_max) for line in lines))
    return [violation for each in found for violation in each]
