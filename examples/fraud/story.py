"""The chapters of the train, each on real parts and under the load of a real stream."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from examples.fraud.closing import STEADY_PER_SECOND, Course, came_true, judge
from examples.fraud.processes import DemoFailed, interlock
from examples.fraud.seen import Seen
from examples.fraud.stage import ENDPOINT, MODEL, STEP_SECONDS_MAX, WARM_PER_SECOND, Stage
from examples.fraud.train import RECIPES

PARTITIONS: Final = 4
BURST_REQUESTS: Final = 130_000
STEADY_SECONDS_BEFORE: Final = 8.0
STEADY_SECONDS_AFTER: Final = 10.0


class Story:
    """Alice writes models, Bob approves them, Olga operates; the audience watches."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._burst_began = 0.0
        self._rollback_commanded = 0.0
        self._refused_figure = "-"
        self._refused_state = "-"

    async def first_version(self) -> None:
        """Push v1, open the endpoint, let the stream run, approve and promote."""
        self._stage.display.chapter(f"Version 1: {RECIPES[0].story}")
        await self._push(1)
        self._stage.display.command(
            f"interlock endpoint create {ENDPOINT} --model {MODEL} --partitions {PARTITIONS}", "olga"
        )
        await self._stage.olga.create_endpoint(ENDPOINT, MODEL, PARTITIONS)
        await self._stage.stream_on()
        if await self._verdict(1) != "proven":
            raise DemoFailed("Version 1 was not proven; its gates should have passed.")
        await self._approve_and_warm(1)
        await self._promote(1)
        await self._stage.caught_up()

    async def better_version(self) -> None:
        """Push v2 under load, then promote it in the middle of a measured phase."""
        self._stage.display.chapter(f"Version 2: {RECIPES[1].story}")
        await self._push(2)
        if await self._verdict(2) != "proven":
            raise DemoFailed("Version 2 was not proven; it is better than version 1.")
        await self._approve_and_warm(2)
        await self._steady(lambda: self._promote(2))

    async def worse_version(self) -> None:
        """Push v3 and see a gate refuse it."""
        self._stage.display.chapter(f"Version 3: {RECIPES[2].story}")
        await self._push(3)
        self._refused_state = await self._verdict(3)

    async def burst(self) -> None:
        """Send as fast as Kafka takes it."""
        self._stage.display.chapter(f"A burst of {BURST_REQUESTS:,} requests, as fast as Kafka takes them")
        await self._stage.stream.tell(do="rate", per_second=0, phase="w")
        await self._stage.caught_up(0)
        await self._stage.stream.tell(do="burst", count=BURST_REQUESTS, phase="b")
        report = await self._stage.watch(self._stage.stream.hear("burst", STEP_SECONDS_MAX))
        self._burst_began = report["began"] * 1000
        await self._stage.caught_up(0, report["sent"])
        self._stage.display.say(
            f"{BURST_REQUESTS:,} requests were sent in {report['ended'] - report['began']:.1f} s and are all answered."
        )

    async def way_back(self) -> None:
        """Roll back to v1 in the middle of a measured phase."""
        self._stage.display.chapter("The way back: version 1 again, under load")
        await self._steady(self._roll_back)

    async def closing(self, seen: Seen) -> bool:
        """Stop the stream, have everything compared, show the table."""
        self._stage.display.chapter("The stream stops; every request is compared with every result")
        await self._stage.stream.tell(do="stop")
        sent = await self._stage.watch(self._stage.stream.hear("stopped", STEP_SECONDS_MAX))
        standing = json.loads(await interlock(self._stage.home, "status", "--json"))
        await self._stage.checker.tell(do="finish")
        report = await self._stage.watch(self._stage.checker.hear("report", STEP_SECONDS_MAX))
        versions = await self._stage.olga.versions(MODEL)
        course = Course(
            burst_began_milliseconds=self._burst_began,
            rollback_commanded_milliseconds=self._rollback_commanded,
            digests={str(each["version"]): each["digest"] for each in versions},
            refused_state=self._refused_state,
            refused_figure=self._refused_figure,
            resident_mebibytes=standing["memory_bytes"] / 2**20,
        )
        (self._stage.work / "report.json").write_text(json.dumps(report, indent=2), encoding="utf-8")
        rows = judge(report, course, seen)
        self._stage.display.table(rows)
        complete = sent["failed"] == 0 and sent["acknowledged"] == report["requests"]
        if not complete:
            self._stage.display.say(
                f"The stream says it sent {sent['acknowledged']:,}, {sent['failed']:,} failed.", "bold red"
            )
        return complete and came_true(rows)

    # Steps that several chapters share

    async def _push(self, version: int) -> None:
        self._stage.display.command(
            f"git commit -am 'fraud {version}' && git push {self._stage.env['INTERLOCK_URL']}/git/{MODEL}.git main",
            "alice",
        )
        await self._stage.watch(
            self._stage.repository.push(
                self._stage.work / f"v{version}", f"fraud {version}", self._stage.display.remote
            )
        )

    async def _verdict(self, version: int) -> str:
        """Wait until a version is proven, refused or failed; tell what its gates measured."""

        async def settled() -> dict[str, Any] | None:
            found = await self._stage.olga.version(MODEL, version)
            return found if found["state"] in ("proven", "refused", "failed") else None

        found = await self._stage.until(settled, f"version {version} is built and judged")
        for gate in found.get("gates") or []:
            value, bound, champion = gate.get("value"), gate.get("bound"), gate.get("champion_value")
            text = f"gate {gate['name']}: {gate['verdict']}, {gate['metric']} {_figure(value)}, bound {_figure(bound)}"
            text += f", champion {_figure(champion)}" if champion is not None else ""
            if gate["verdict"] != "PASS":
                self._stage.display.say(text, "red")
                self._refused_figure = (
                    f"{gate['metric']} {_figure(value)} against {_figure(champion if champion is not None else bound)}"
                )
        self._stage.display.say(f"Version {version} is {found['state']}.")
        return str(found["state"])

    async def _approve_and_warm(self, version: int) -> None:
        self._stage.display.command(f"interlock approve {MODEL} {version} --endpoint {ENDPOINT}", "bob")
        await self._stage.bob.approve(MODEL, version, ENDPOINT, "seen the evidence")

        async def warm() -> bool:
            page = await self._stage.olga.timeline_page(endpoint=ENDPOINT)
            return any(
                "warmed" in entry["type"].lower() and entry["event"].get("version") == version
                for entry in page["entries"]
            )

        await self._stage.until(warm, f"version {version} is warm")
        self._stage.display.say(
            f"Version {version} is warm: loaded from its own bytes, its self-test vectors agree, its digest echoed."
        )

    async def _promote(self, version: int) -> None:
        self._stage.display.command(f"interlock promote {ENDPOINT} {version}", "olga")
        await self._stage.olga.promote(ENDPOINT, version)
        await self._champion(version)

    async def _roll_back(self) -> None:
        self._stage.display.command(f"interlock rollback {ENDPOINT} --reason 'recall fell'", "olga")
        self._rollback_commanded = time.time() * 1000
        await self._stage.olga.rollback(ENDPOINT, "recall fell")
        await self._champion(1)

    async def _champion(self, version: int) -> None:
        async def answers() -> bool:
            champion = (await self._stage.olga.endpoint_details(ENDPOINT)).get("champion") or {}
            return champion.get("version") == version

        await self._stage.until(answers, f"version {version} answers")
        self._stage.display.say(f"The route is set: version {version} answers {ENDPOINT}.", "bold green")

    async def _steady(self, change: Callable[[], Awaitable[None]]) -> None:
        """Send at the measured rate, change the route in the middle of it, and go on for a while."""
        await self._stage.caught_up()
        self._stage.display.say(f"{STEADY_PER_SECOND:,} requests a second from now on; latency is being measured.")
        await self._stage.stream.tell(do="rate", per_second=STEADY_PER_SECOND, phase="s")
        await self._stage.watch(asyncio.sleep(STEADY_SECONDS_BEFORE))
        await change()
        await self._stage.watch(asyncio.sleep(STEADY_SECONDS_AFTER))
        await self._stage.stream.tell(do="rate", per_second=WARM_PER_SECOND, phase="w")


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
