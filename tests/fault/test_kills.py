"""kill -9 of everything, one after the other, under load: all recover by themselves, nothing is lost or doubled."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from examples.fraud.processes import Child
from tests.fault import numbered
from tests.fault.victims import REPLICA, Stack, kill_9, until
from tests.integration.client.journey import People, people

pytestmark = [pytest.mark.fault, pytest.mark.timeout(900)]

MODEL = "kills"
PER_SECOND = 800
VICTIMS = ("registry", "builder", "deployer", "router", REPLICA, "kafka", "postgres", "valkey", "ray")
RECOVERY_SECONDS_MAX = 90.0
FLOW_SECONDS_MAX = 60.0
FRESH_SECONDS = 1.5
START_SECONDS_MAX = 30.0
REPORT_SECONDS_MAX = 150.0
ZERO = (
    "acknowledged_lost", "requests_doubled", "lost", "duplicated", "unasked", "misattributed", "mismatched",
    "out_of_order", "epochs_of_two_versions", "dead_letters",
)  # fmt: skip


@dataclass
class Recovery:
    """What one kill did, in seconds from the kill; `windows` of load.py says what the last three mean."""

    back: float
    """Until the part works again, by the supervisor's own proof."""
    fresh: float
    """Until the newest requests of every partition are answered at once again."""
    next_version: float
    """How long the next promotion took from the command to the first answer by the other version."""
    restarts: dict[str, int]
    """Which parts were started again."""
    late_until: float = 0.0
    silence: float = 0.0
    slowest: float = 0.0


@dataclass
class Load:
    """The two processes of the load."""

    sender: Child
    checker: Child

    @property
    def seen(self) -> dict[str, Any]:
        """Return the checker's last report."""
        return self.checker.said("seen")

    async def flow(self, since: float, what: str) -> float:
        """Wait until requests made after a moment are answered in every partition, and soon; return how long."""

        def flows() -> bool:
            return bool(self.seen) and self.seen["newest_asked"] > max(since, time.time() - FRESH_SECONDS)

        return await until(flows, FLOW_SECONDS_MAX, what)


@asynccontextmanager
async def load(
    stack: Stack, details: dict[str, Any], folder: Path, per_second: float = PER_SECOND
) -> AsyncIterator[Load]:
    """Run a sender and a checker for the length of a block."""
    settings = {
        "bootstrap": stack.environment["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"],
        "schema_registry": stack.environment["INTERLOCK_SCHEMA_REGISTRY_URL"],
        "endpoint": details["name"],
        "topic": details["topics"]["requests"],
        "schema": details["request_schema"],
        "schema_id": details["request_schema_id"],
        "per_second": per_second,
        "acknowledged": str(folder / "acknowledged.npy"),
        "wait_seconds": FLOW_SECONDS_MAX,
    }
    children = []
    try:
        for role in ("check", "send"):
            child = await Child.start("tests.fault.load", [role, json.dumps(settings)], folder / f"{role}.log")
            children.append(child)
            await child.hear("ready", START_SECONDS_MAX)
        yield Load(sender=children[1], checker=children[0])
    finally:
        for child in children:
            await child.stop()


def strike(stack: Stack, victim: str, version: int) -> Callable[[], bool]:
    """Kill -9 a part and return what tells that it is back."""
    if victim == REPLICA:
        before = stack.replicas(MODEL, version)
        assert before, f"no replica of version {version}"
        for pid in before:
            kill_9(pid)
        return lambda: bool(stack.replicas(MODEL, version) - before)
    pid = stack.pid(victim)
    kill_9(pid)
    return lambda: stack.is_back(victim, pid)


async def change_version(crew: People, running: Load, version: int) -> float:
    """Promote the other version and return the seconds until it answers: the whole control plane has to work."""
    began = time.monotonic()
    await crew.olga.promote(MODEL, version)
    await until(lambda: running.seen["version"] == version, FLOW_SECONDS_MAX, f"answers by version {version}")
    return time.monotonic() - began


async def kill(stack: Stack, crew: People, running: Load, victim: str, version: int) -> tuple[Recovery, list[float]]:
    """Kill one part in a steady flow, see it come back, then change from `version` to the other one."""
    await running.flow(time.time(), f"a steady flow before the kill of {victim}")
    before = stack.restarts()
    struck = time.time()
    back = await until(strike(stack, victim, version), RECOVERY_SECONDS_MAX, f"{victim} is back")
    fresh = back + await running.flow(struck + back, f"a steady flow after the kill of {victim}")
    window = [struck, time.time()]
    next_version = await change_version(crew, running, 3 - version)
    restarts = {name: count - before[name] for name, count in stack.restarts().items() if count != before[name]}
    return Recovery(back, fresh, next_version, restarts), window


async def test_each_part_killed_under_load_recovers_and_every_request_is_answered_once(
    killable: Stack, tmp_path: Path, record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nine kills under a steady load, a change of version after each: 0 lost, 0 doubled, 0 rejected, right versions.

    The judge is a process of its own with a plain `read_committed` client, and what counts as asked is what Kafka
    acknowledged to the sender. No part but the one that was killed is started again.
    """
    recoveries: dict[str, Recovery] = {}
    windows: dict[str, list[float]] = {}
    async with people(killable.environment) as crew:
        details = await numbered.two_versions(killable.environment, crew, tmp_path, MODEL)
        async with load(killable, details, tmp_path) as running:
            for number, victim in enumerate(VICTIMS):
                recoveries[victim], windows[victim] = await kill(killable, crew, running, victim, 1 + number % 2)
            await running.sender.tell(do="stop")
            sent = await running.sender.hear("stopped", REPORT_SECONDS_MAX)
            await running.checker.tell(do="finish", windows=windows)
            report = await running.checker.hear("report", REPORT_SECONDS_MAX)
        versions = {str(each["version"]): [each["digest"]] for each in await crew.olga.versions(MODEL)}
    for victim, recovery in recoveries.items():
        noticed = report["windows"][victim]
        recovery.late_until, recovery.silence, recovery.slowest = (
            noticed["late_until"], noticed["silence"], noticed["slowest"],
        )  # fmt: skip
        record_property(f"recovery of {victim}", json.dumps(asdict(recovery)))
    with capsys.disabled():
        sys.stdout.write(table(recoveries, report))
    judge(sent, report, versions)
    alone: dict[str, dict[str, int]] = {victim: {victim: 1} for victim in VICTIMS} | {REPLICA: {}}
    assert {victim: recovery.restarts for victim, recovery in recoveries.items()} == alone


def judge(sent: dict[str, Any], report: dict[str, Any], digests: dict[str, list[str]]) -> None:
    """Check that every acknowledged request is answered exactly once, by the version that the answer names."""
    assert (sent["failed"], sent["left"]) == ({}, 0), sent
    assert {name: report[name] for name in ZERO} == dict.fromkeys(ZERO, 0)
    assert report["rejected"] == {}
    assert report["requests"] == report["acknowledged"] == sent["acknowledged"] == report["results"]
    assert report["digests"] == digests


def table(recoveries: dict[str, Recovery], report: dict[str, Any]) -> str:
    """Return the recovery times and the counts as text."""
    heads = ("killed", "back after", "fresh after", "late until", "silence", "slowest", "next version", "restarts")
    lines = [heads] + [
        (
            victim,
            *(f"{each:.1f} s" for each in (row.back, row.fresh, row.late_until, row.silence, row.slowest)),
            f"{row.next_version:.1f} s",
            ", ".join(f"{name} {count}" for name, count in row.restarts.items()) or "-",
        )
        for victim, row in recoveries.items()
    ]
    text = "\n".join("".join(f"{cell:<14}" for cell in line).rstrip() for line in lines)
    counts = ", ".join(
        f"{name} {report[name]}"
        for name in ("requests", "acknowledged", "results", "lost", "duplicated", "dead_letters")
    )
    return f"\n{text}\n{counts}, misattributed {report['misattributed']}, by version {report['versions']}\n"
