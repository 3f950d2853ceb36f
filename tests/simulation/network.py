"""The way between a process and a server: requests and answers take time, come late, or get lost."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from typing import Any, TypeVar

from tests.simulation.loop import CURRENT, VirtualLoop, current

T = TypeVar("T")

LATENCY_SECONDS_MAX = 0.004
RESET_SECONDS_MAX = 0.05


class Away(Exception):
    """The connection broke: whether the request was heard is not known."""


class Told(Exception):
    """What a server answers in place of a result; definite."""


@dataclass
class Network:
    """How badly requests fare: shares of 1, and how long a late one takes."""

    request_lost: float = 0.0
    answer_lost: float = 0.0
    late: float = 0.0
    late_seconds_max: float = 12.0


class Server:
    """Whoever answers requests, one after the other, in a process of its own that may be killed and come back."""

    def __init__(self, loop: VirtualLoop, name: str) -> None:
        self.loop = loop
        self.name = name
        self.network = Network()
        self.boot = 0
        self.down_until = 0.0
        self._context = Context()
        self._context.run(CURRENT.set, loop.world)

    def later(self, seconds: float, what: Callable[..., object], *arguments: Any) -> asyncio.TimerHandle:
        """Do something in the server's own process."""
        return self.loop.call_later(seconds, what, *arguments, context=self._context)

    @property
    def is_down(self) -> bool:
        """Say whether nobody answers."""
        return self.loop.time() < self.down_until

    def restart(self, seconds: float) -> None:
        """Kill the server and bring it back: connections break."""
        self.boot += 1
        self.down_until = self.loop.time() + seconds
        self.loop.note(self.name, "restarts", f"{seconds:.2f}")


class Connection:
    """One client's connection: requests arrive in the order in which they were sent, if they arrive."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._arrives = -math.inf

    async def ask(self, what: Callable[..., T], *arguments: Any) -> T:
        """Send a request and return its answer; raises what the server says instead, and Away where no answer comes."""
        current()
        server, chance = self.server, self.server.loop.chance
        answer: asyncio.Future[T] = server.loop.create_future()
        out, back = chance.random() * LATENCY_SECONDS_MAX, chance.random() * LATENCY_SECONDS_MAX
        if chance.random() < server.network.late:
            out += chance.random() * server.network.late_seconds_max
        if server.is_down or chance.random() < server.network.request_lost:
            server.later(chance.random() * RESET_SECONDS_MAX, _fail, answer, Away("the connection broke"))
        else:
            self._arrives = max(self._arrives, server.loop.time() + out)
            wait = self._arrives - server.loop.time()
            server.later(wait, self._arrive, answer, server.boot, back, what, arguments)
        try:
            return await answer
        finally:
            current()

    def _arrive(self, answer: asyncio.Future[Any], boot: int, back: float, what: Any, arguments: Any) -> None:
        server = self.server
        if boot != server.boot or server.is_down:
            _fail(answer, Away("the server went away"))
            return
        try:
            found = what(*arguments)
        except Told as error:
            self._answer(answer, boot, back, error)
            return
        if isinstance(found, asyncio.Future):  # it has to wait for something at the server
            found.add_done_callback(lambda done: self._answer(answer, boot, back, done.exception() or done.result()))
        else:
            self._answer(answer, boot, back, found)

    def _answer(self, answer: asyncio.Future[Any], boot: int, back: float, found: Any) -> None:
        server = self.server
        if server.loop.chance.random() < server.network.answer_lost:
            server.later(back, _fail, answer, Away("the answer was lost"))
        elif isinstance(found, BaseException):
            server.later(back, _fail, answer, found)
        else:
            server.later(back, self._answered, answer, boot, found)

    def _answered(self, answer: asyncio.Future[Any], boot: int, found: Any) -> None:
        if answer.done():
            return
        if boot == self.server.boot:
            answer.set_result(found)
        else:
            answer.set_exception(Away("the server went away"))


def _fail(answer: asyncio.Future[Any], error: BaseException) -> None:
    if not answer.done():
        answer.set_exception(error)
