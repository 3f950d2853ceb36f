"""The stage: the running stack, the people with their tokens, the stream, the checker, and how to wait on it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from examples.fraud.display import Display
from examples.fraud.processes import Child, DemoFailed, interlock
from examples.fraud.push import Repository
from interlock.client.session import Interlock, connect

T = TypeVar("T")

ENDPOINT: Final = "fraud"
MODEL: Final = "fraud"
WARM_PER_SECOND: Final = 500
STEP_SECONDS_MAX: Final = 120.0
POLL_SECONDS: Final = 0.2
FIGURES_SECONDS: Final = 0.5
CAUGHT_UP_ROWS: Final = 500


class Stage:
    """What all chapters play on."""

    def __init__(self, home: Path, work: Path, display: Display, children: list[Child]) -> None:
        self.home = home
        self.work = work
        self.display = display
        self._children = children

    async def prepare(self) -> None:
        """Learn the addresses as any stranger would, give each person a token, start the stream and the checker."""
        self.env: dict[str, str] = json.loads(await interlock(self.home, "env", "--json"))
        alice, bob, olga = [
            (await interlock(self.home, "token", "issue", "--subject", name, "--role", role)).strip()
            for name, role in (("alice", "author"), ("bob", "approver"), ("olga", "operator"))
        ]
        self.bob, self.olga = self._as(bob), self._as(olga)
        url = f"{self.env['INTERLOCK_URL']}/git/{MODEL}.git"
        self.repository = Repository(self.work / "repository", url, "alice", alice)
        bootstrap = ("--bootstrap", self.env["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"])
        self.checker = await self._child(
            "checker",
            *bootstrap,
            "--endpoint",
            ENDPOINT,
            INTERLOCK_SCHEMA_REGISTRY_URL=self.env["INTERLOCK_SCHEMA_REGISTRY_URL"],
        )
        self.stream = await self._child("stream", str(self.work / "stream.npz"), *bootstrap, "--endpoint", ENDPOINT)

    async def _child(self, name: str, *arguments: str, **secrets: str) -> Child:
        child = await Child.start(f"examples.fraud.{name}", arguments, self.work / f"{name}.log", secrets)
        self._children.append(child)
        return child

    def _as(self, token: str) -> Interlock:
        return connect(
            self.env["INTERLOCK_URL"],
            token=token,
            bootstrap=self.env["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"],
            schema_registry=self.env["INTERLOCK_SCHEMA_REGISTRY_URL"],
            monitor=self.env["INTERLOCK_MONITOR_URL"],
            auditor=self.env["INTERLOCK_AUDITOR_URL"],
        )

    async def stream_on(self) -> None:
        """Let the stream run; requests wait in Kafka until a version answers."""

        async def described() -> dict[str, Any] | None:
            found = await self.olga.endpoint_details(ENDPOINT)
            return found if found.get("request_schema_id") else None

        details = await self.until(described, "the endpoint has its schemas")
        await self.checker.hear("ready", STEP_SECONDS_MAX)
        ready = await self.stream.hear("ready", STEP_SECONDS_MAX)
        await self.stream.tell(do="schema", id=details["request_schema_id"])
        await self.stream.tell(do="rate", per_second=WARM_PER_SECOND, phase="w")
        self.display.say(
            f"The stream is on, {ready['requests']:,} transactions long. Requests wait until a version answers."
        )

    async def caught_up(self, rows: int = CAUGHT_UP_ROWS, requests_min: int = 0) -> None:
        """Wait until the results have caught up with the requests, of which there must be `requests_min`.

        Both sides report twice a second: after a burst that took less, an old report would say that all is answered.
        """

        async def close() -> bool:
            seen = self.checker.said("seen")
            sent = max(self.stream.said("sent").get("acknowledged", 0), requests_min)
            return bool(seen) and seen["requests"] - seen["results"] <= rows and seen["requests"] >= sent - rows

        try:
            await self.until(close, "the results have caught up")
        except DemoFailed as error:
            raise DemoFailed(f"{error} {self.checker.said('seen')} {self.stream.said('sent')}") from error

    async def until(self, ask: Callable[[], Awaitable[T | None]], what: str) -> T:
        """Ask again and again until the answer is neither None nor False. Raises DemoFailed after a bound."""
        deadline = time.monotonic() + STEP_SECONDS_MAX
        while time.monotonic() < deadline:
            answer = await ask()
            if answer:
                return answer
            await self.watch(asyncio.sleep(POLL_SECONDS))
        raise DemoFailed(f"It took more than {STEP_SECONDS_MAX:.0f} seconds until {what}.")

    async def watch(self, work: Awaitable[T]) -> T:
        """Show live figures until a piece of work is done."""
        task = asyncio.ensure_future(work)
        while not task.done():
            self._figures()
            await asyncio.wait({task}, timeout=FIGURES_SECONDS)
        self._figures()
        return await task

    def _figures(self) -> None:
        checker = getattr(self, "checker", None)
        if checker is not None:
            self.display.figures(checker.said("seen"))

    async def close(self) -> None:
        """Let the people go."""
        for session in (self.bob, self.olga):
            await session.__aexit__(None, None, None)

    async def run(self, *words: str) -> str:
        """Run a command of the command line as the machine's user, and return what it printed."""
        return await self.watch(interlock(self.home, *words))
