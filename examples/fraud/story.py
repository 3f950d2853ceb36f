"""The chapters of the demo, each on real parts and under the load of a real stream."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from examples.fraud.closing import STEADY_PER_SECOND, Course, came_true, judge
from examples.fraud.display import Display
from examples.fraud.processes import Child, DemoFailed, interlock
from examples.fraud.push import Repository
from examples.fraud.train import RECIPES
from interlock.client.session import Interlock, connect

T = TypeVar("T")

ENDPOINT: Final = "fraud"
MODEL: Final = "fraud"
PARTITIONS: Final = 4
WARM_PER_SECOND: Final = 500
BURST_REQUESTS: Final = 130_000
STEADY_SECONDS_BEFORE: Final = 8.0
STEADY_SECONDS_AFTER: Final = 10.0
STEP_SECONDS_MAX: Final = 120.0
POLL_SECONDS: Final = 0.2
FIGURES_SECONDS: Final = 0.5
CAUGHT_UP_ROWS: Final = 500


class Story:
    """Alice writes models, Bob approves them, Olga operates; the audience watches."""

    def __init__(self, home: Path, work: Path, display: Display, children: list[Child]) -> None:
        self._home = home
        self._work = work
        self._display = display
        self._children = children
        self._burst_began = 0.0
        self._rollback_commanded = 0.0
        self._refused_figure = "-"
        self._refused_state = "-"

    async def prepare(self) -> None:
        """Learn the addresses as any stranger would, give each person a token, start the stream and the checker."""
        self._env: dict[str, str] = json.loads(await interlock(self._home, "env", "--json"))
        alice, bob, olga = [
            (await interlock(self._home, "token", "issue", "--subject", name, "--role", role)).strip()
            for name, role in (("alice", "author"), ("bob", "approver"), ("olga", "operator"))
        ]
        self._bob, self._olga = self._as(bob), self._as(olga)
        url = f"{self._env['INTERLOCK_URL']}/git/{MODEL}.git"
        self._repository = Repository(self._work / "repository", url, "alice", alice)
        bootstrap = ("--bootstrap", self._env["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"])
        self._checker = await self._child(
            "checker",
            *bootstrap,
            "--endpoint",
            ENDPOINT,
            INTERLOCK_SCHEMA_REGISTRY_URL=self._env["INTERLOCK_SCHEMA_REGISTRY_URL"],
        )
        self._stream = await self._child(
            "stream", str(self._work / "stream.npz"), *bootstrap, "--topic", f"{ENDPOINT}.requests"
        )

    async def _child(self, name: str, *arguments: str, **secrets: str) -> Child:
        child = await Child.start(f"examples.fraud.{name}", arguments, self._work / f"{name}.log", secrets)
        self._children.append(child)
        return child

    def _as(self, token: str) -> Interlock:
        return connect(
            self._env["INTERLOCK_URL"],
            token=token,
            bootstrap=self._env["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"],
            schema_registry=self._env["INTERLOCK_SCHEMA_REGISTRY_URL"],
        )

    async def first_version(self) -> None:
        """Push v1, open the endpoint, let the stream run, approve and promote."""
        self._display.chapter(f"Version 1: {RECIPES[0].story}")
        await self._push(1)
        self._display.command(f"interlock endpoint create {ENDPOINT} --model {MODEL} --partitions {PARTITIONS}", "olga")
        await self._olga.create_endpoint(ENDPOINT, MODEL, PARTITIONS)
        await self._stream_on()
        if await self._verdict(1) != "proven":
            raise DemoFailed("Version 1 was not proven; its gates should have passed.")
        await self._approve_and_warm(1)
        await self._promote(1)
        await self._caught_up()

    async def better_version(self) -> None:
        """Push v2 under load, then promote it in the middle of a measured phase."""
        self._display.chapter(f"Version 2: {RECIPES[1].story}")
        await self._push(2)
        if await self._verdict(2) != "proven":
            raise DemoFailed("Version 2 was not proven; it is better than version 1.")
        await self._approve_and_warm(2)
        await self._steady(lambda: self._promote(2))

    async def worse_version(self) -> None:
        """Push v3 and see a gate refuse it."""
        self._display.chapter(f"Version 3: {RECIPES[2].story}")
        await self._push(3)
        self._refused_state = await self._verdict(3)

    async def burst(self) -> None:
        """Send as fast as Kafka takes it."""
        self._display.chapter(f"A burst of {BURST_REQUESTS:,} requests, as fast as Kafka takes them")
        await self._stream.tell(do="rate", per_second=0, phase="w")
        await self._caught_up(0)
        await self._stream.tell(do="burst", count=BURST_REQUESTS, phase="b")
        report = await self._watch(self._stream.hear("burst", STEP_SECONDS_MAX))
        self._burst_began = report["began"] * 1000
        await self._caught_up(0, report["sent"])
        self._display.say(
            f"{BURST_REQUESTS:,} requests were sent in {report['ended'] - report['began']:.1f} s and are all answered."
        )

    async def way_back(self) -> None:
        """Roll back to v1 in the middle of a measured phase."""
        self._display.chapter("The way back: version 1 again, under load")
        await self._steady(self._roll_back)

    async def closing(self) -> bool:
        """Stop the stream, have everything compared, show the table."""
        self._display.chapter("The stream stops; every request is compared with every result")
        await self._stream.tell(do="stop")
        sent = await self._watch(self._stream.hear("stopped", STEP_SECONDS_MAX))
        standing = json.loads(await interlock(self._home, "status", "--json"))
        await self._checker.tell(do="finish")
        report = await self._watch(self._checker.hear("report", STEP_SECONDS_MAX))
        versions = await self._olga.versions(MODEL)
        for session in (self._bob, self._olga):
            await session.__aexit__(None, None, None)
        course = Course(
            burst_began_milliseconds=self._burst_began,
            rollback_commanded_milliseconds=self._rollback_commanded,
            digests={str(each["version"]): each["digest"] for each in versions},
            refused_state=self._refused_state,
            refused_figure=self._refused_figure,
            resident_mebibytes=standing["memory_bytes"] / 2**20,
        )
        (self._work / "report.json").write_text(json.dumps(report, indent=2), encoding="utf-8")
        rows = judge(report, course)
        self._display.table(rows)
        complete = sent["failed"] == 0 and sent["acknowledged"] == report["requests"]
        if not complete:
            self._display.say(
                f"The stream says it sent {sent['acknowledged']:,}, {sent['failed']:,} failed.", "bold red"
            )
        return complete and came_true(rows)

    # Steps that several chapters share

    async def _push(self, version: int) -> None:
        self._display.command(
            f"git commit -am 'fraud {version}' && git push {self._env['INTERLOCK_URL']}/git/{MODEL}.git main", "alice"
        )
        await self._watch(self._repository.push(self._work / f"v{version}", f"fraud {version}", self._display.remote))

    async def _verdict(self, version: int) -> str:
        """Wait until a version is proven, refused or failed; tell what its gates measured."""

        async def settled() -> dict[str, Any] | None:
            found = await self._olga.version(MODEL, version)
            return found if found["state"] in ("proven", "refused", "failed") else None

        found = await self._until(settled, f"version {version} is built and judged")
        for gate in found.get("gates") or []:
            value, bound, champion = gate.get("value"), gate.get("bound"), gate.get("champion_value")
            text = f"gate {gate['name']}: {gate['verdict']}, {gate['metric']} {_figure(value)}, bound {_figure(bound)}"
            text += f", champion {_figure(champion)}" if champion is not None else ""
            if gate["verdict"] != "PASS":
                self._display.say(text, "red")
                self._refused_figure = (
                    f"{gate['metric']} {_figure(value)} against {_figure(champion if champion is not None else bound)}"
                )
        self._display.say(f"Version {version} is {found['state']}.")
        return str(found["state"])

    async def _approve_and_warm(self, version: int) -> None:
        self._display.command(f"interlock approve {MODEL} {version} --endpoint {ENDPOINT}", "bob")
        await self._bob.approve(MODEL, version, ENDPOINT, "seen the evidence")

        async def warm() -> bool:
            page = await self._olga.timeline_page(endpoint=ENDPOINT)
            return any(
                "warmed" in entry["type"].lower() and entry["event"].get("version") == version
                for entry in page["entries"]
            )

        await self._until(warm, f"version {version} is warm")
        self._display.say(
            f"Version {version} is warm: loaded from its own bytes, its self-test vectors agree, its digest echoed."
        )

    async def _promote(self, version: int) -> None:
        self._display.command(f"interlock promote {ENDPOINT} {version}", "olga")
        await self._olga.promote(ENDPOINT, version)
        await self._champion(version)

    async def _roll_back(self) -> None:
        self._display.command(f"interlock rollback {ENDPOINT} --reason 'a customer called'", "olga")
        self._rollback_commanded = time.time() * 1000
        await self._olga.rollback(ENDPOINT, "a customer called")
        await self._champion(1)

    async def _champion(self, version: int) -> None:
        async def answers() -> bool:
            champion = (await self._olga.endpoint_details(ENDPOINT)).get("champion") or {}
            return champion.get("version") == version

        await self._until(answers, f"version {version} answers")
        self._display.say(f"The route is set: version {version} answers {ENDPOINT}.", "bold green")

    async def _steady(self, change: Callable[[], Awaitable[None]]) -> None:
        """Send at the measured rate, change the route in the middle of it, and go on for a while."""
        await self._caught_up()
        self._display.say(f"{STEADY_PER_SECOND:,} requests a second from now on; latency is being measured.")
        await self._stream.tell(do="rate", per_second=STEADY_PER_SECOND, phase="s")
        await self._watch(asyncio.sleep(STEADY_SECONDS_BEFORE))
        await change()
        await self._watch(asyncio.sleep(STEADY_SECONDS_AFTER))
        await self._stream.tell(do="rate", per_second=WARM_PER_SECOND, phase="w")

    async def _stream_on(self) -> None:
        """Let the stream run; requests wait in Kafka until a version answers."""

        async def described() -> dict[str, Any] | None:
            found = await self._olga.endpoint_details(ENDPOINT)
            return found if found.get("request_schema_id") else None

        details = await self._until(described, "the endpoint has its schemas")
        await self._checker.hear("ready", STEP_SECONDS_MAX)
        ready = await self._stream.hear("ready", STEP_SECONDS_MAX)
        await self._stream.tell(do="schema", id=details["request_schema_id"])
        await self._stream.tell(do="rate", per_second=WARM_PER_SECOND, phase="w")
        self._display.say(
            f"The stream is on, {ready['requests']:,} transactions long. Requests wait until a version answers."
        )

    async def _caught_up(self, rows: int = CAUGHT_UP_ROWS, requests_min: int = 0) -> None:
        """Wait until the results have caught up with the requests, of which there must be `requests_min`.

        Both sides report twice a second: after a burst that took less, an old report would say that all is answered.
        """

        async def close() -> bool:
            seen = self._checker.said("seen")
            sent = max(self._stream.said("sent").get("acknowledged", 0), requests_min)
            return bool(seen) and seen["requests"] - seen["results"] <= rows and seen["requests"] >= sent - rows

        try:
            await self._until(close, "the results have caught up")
        except DemoFailed as error:
            raise DemoFailed(f"{error} {self._checker.said('seen')} {self._stream.said('sent')}") from error

    async def _until(self, ask: Callable[[], Awaitable[T | None]], what: str) -> T:
        """Ask again and again until the answer is neither None nor False. Raises DemoFailed after a bound."""
        deadline = time.monotonic() + STEP_SECONDS_MAX
        while time.monotonic() < deadline:
            answer = await ask()
            if answer:
                return answer
            await self._watch(asyncio.sleep(POLL_SECONDS))
        raise DemoFailed(f"It took more than {STEP_SECONDS_MAX:.0f} seconds until {what}.")

    async def _watch(self, work: Awaitable[T]) -> T:
        """Show live figures until a piece of work is done."""
        task = asyncio.ensure_future(work)
        while not task.done():
            self._figures()
            await asyncio.wait({task}, timeout=FIGURES_SECONDS)
        self._figures()
        return await task

    def _figures(self) -> None:
        checker = getattr(self, "_checker", None)
        if checker is not None:
            self._display.figures(checker.said("seen"))


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
