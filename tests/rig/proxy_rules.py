"""What the proxy can be told to do to a request or to its answer, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeAlias

from tests.rig.proxy_frames import Api, Request


class Side(Enum):
    """On its way to the broker, or the answer on its way back."""

    REQUEST = "request"
    RESPONSE = "response"


@dataclass(frozen=True, slots=True)
class Hold:
    """Keep it, and all behind it on its connection, until released; delivered even if the client left."""

    side: Side = Side.REQUEST


@dataclass(frozen=True, slots=True)
class Delay:
    """Keep it, and all behind it on its connection, for some seconds; delivered even if the client left."""

    seconds: float
    side: Side = Side.REQUEST


@dataclass(frozen=True, slots=True)
class DropRequest:
    """The broker never sees it, and it is never answered; the connection goes on."""

    @property
    def side(self) -> Side:
        """What is dropped."""
        return Side.REQUEST


@dataclass(frozen=True, slots=True)
class DropResponse:
    """The broker does it, the client never hears of it; the connection goes on."""

    @property
    def side(self) -> Side:
        """What is dropped."""
        return Side.RESPONSE


@dataclass(frozen=True, slots=True)
class Cut:
    """Break the client's connection instead: before the broker has the request, or once it has answered it."""

    side: Side = Side.REQUEST


Action: TypeAlias = Hold | Delay | DropRequest | DropResponse | Cut
ACTIONS: Final[dict[str, type[Action]]] = {
    each.__name__: each for each in (Hold, Delay, DropRequest, DropResponse, Cut)
}


class Rule:
    """An action for some of the requests of one kind; `count` says how often it has been taken."""

    def __init__(
        self,
        api: Api,
        action: Action,
        *,
        times: int | None = None,
        skip: int = 0,
        every: int = 1,
        transactional_id: str | None = None,
        client_id: str | None = None,
    ) -> None:
        if every < 1 or skip < 0 or (times is not None and times < 0):
            raise ValueError("every must be at least 1, skip and times at least 0")
        self.api = api
        self.action = action
        self.count = 0
        self._left = times
        self._skip = skip
        self._every = every
        self._met = 0
        self._transactional_id = transactional_id
        self._client_id = client_id
        self._changed = asyncio.Event()
        self._held: list[Callable[[], None]] = []

    @property
    def holds(self) -> int:
        """How many frames are held now."""
        return len(self._held)

    def takes(self, request: Request, side: Side) -> bool:
        """Say whether the action is to be taken on this one, and count it if so."""
        if self._left == 0 or request.api != self.api or self.action.side is not side:
            return False
        if self._transactional_id is not None and request.transactional_id != self._transactional_id:
            return False
        if self._client_id is not None and request.client_id != self._client_id:
            return False
        self._met += 1
        if self._met <= self._skip or (self._met - self._skip - 1) % self._every:
            return False
        if self._left is not None:
            self._left -= 1
        self.count += 1
        self._changed.set()
        return True

    def end(self) -> None:
        """Take no more; what is held stays held."""
        self._left = 0

    def hold(self, let_go: Callable[[], None]) -> None:
        """Note a held frame and how it is let go."""
        self._held.append(let_go)

    def release(self) -> int:
        """Let go what is held now, in the order in which it came; return how many frames that were."""
        held, self._held = self._held, []
        for let_go in held:
            let_go()
        return len(held)

    async def acted(self, count: int = 1, seconds_max: float | None = 30.0) -> None:
        """Return once the action was taken `count` times; raises TimeoutError."""
        async with asyncio.timeout(seconds_max):
            while self.count < count:
                self._changed.clear()
                await self._changed.wait()


def rule_of(api: str | int, action: str, side: str | None = None, seconds: float | None = None, **when: Any) -> Rule:
    """Make a rule from plain values, as they stand in a line of JSON; raises KeyError, TypeError or ValueError."""
    more: dict[str, Any] = {}
    if side is not None:
        more["side"] = Side(side)
    if seconds is not None:
        more["seconds"] = seconds
    return Rule(Api.named(api), ACTIONS[action](**more), **when)


def plain(action: Action) -> dict[str, Any]:
    """Return an action as the plain values that `rule_of` takes."""
    values: dict[str, Any] = {"action": type(action).__name__}
    if isinstance(action, Hold | Delay | Cut):
        values["side"] = action.side.value
    if isinstance(action, Delay):
        values["seconds"] = action.seconds
    return values
