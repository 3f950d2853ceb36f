"""kill -9 of everything, one after the other, under load: all recover by themselves, nothing is lost or doubled."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from examples.fraud.processes import Child
from tests.fault import numbered
from tests.fault.victims import REPLICA, Stack, kill_9, until
from tests.integration.client.journey import People, people, push, serve
from tests.integration.client.journey import until as asked_until

pytestmark = [pytest.mark.fault, pytest.mark.timeout(900)]

MODEL = "kills"
PER_SECOND = 800
VICTIMS = ("registry", "builder", "deployer", "router", REPLICA, "kafka", "postgres", "valkey", "ray")
RECOVERY_SECONDS_MAX = 90.0
FLOW_SECONDS_MAX = 60.0
FRESH_SECONDS = 1.0
START_SECONDS_MAX = 30.0
REPORT_SECONDS_MAX = 150.0


@dataclass
class Load:
    """The two processes of the load, and what they said last."""

    sender: Child
    checker: Child
    changes: list[int] = field(default_factory=list)

    @property
    def seen(self) -> dict[str, Any]:
        """Return the checker's last report."""
        return self.checker.said("seen")

    def flows(self, since: float) -> bool:
        """Say whether requests made after a moment are answered, and soon."""
        seen = self.seen
        return bool(seen) and seen["newest_asked"] > max(since, time.time() - FRESH_SECONDS - 0.5)


@asynccontextmanager
async def load(stack: Stack, details: dict[str, Any], folder: Path) -> AsyncIterator[Load]:
    """Run a sender and a checker for the length of a block."""
    settings = {
        "bootstrap": stack.environment["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"],
        "schema_registry": stack.environment["INTERLOCK_SCHEMA_REGISTRY_URL"],
        "endpoint": details["name"],
        "topic": details["topics"]["requests"],
        "schema": details["request_schema"],
        "schema_id": details["request_schema_id"],
        "per_second": PER_SECOND,
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


async def two_versions(stack: Stack, crew: People, folder: Path) -> dict[str, Any]:
    """Bring version 1 to live traffic and keep version 2 warm beside it; return the endpoint's details."""
    details = await serve(stack.environment, crew, numbered.write(folder / "tree", MODEL, 1), MODEL)
    accepted, lines = await push(stack.environment, numbered.write(folder / "tree", MODEL, 2), MODEL, "2")
    assert accepted, lines

    async def proven() -> bool:
        return bool((await crew.olga.version(MODEL, 2))["state"] == "proven")

    await asked_until(proven, "version 2 is not proven")
    await crew.bob.approve(MODEL, 2, MODEL, "for the test")

    async def warm() -> bool:
        page = await crew.olga.timeline_page(endpoint=MODEL)
        return any("warmed" in each["type"].lower() and each["event"]["version"] == 2 for each in page["entries"])

    await asked_until(warm, "version 2 is not warm")
    return details


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


async def test_each_part_killed_under_load_recovers_and_every_request_is_answered_once(
    killable: Stack, tmp_path: Path, record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nine kills under a steady load, a change of version after each: 0 lost, 0 doubled, 0 rejected, right versions.

    The judge is a process of its own with a plain `read_committed` client, and what counts as asked is what Kafka
    acknowledged to the sender. No part but the one that was killed is started again.
    """
    windows: dict[str, tuple[float, float]] = {}
    rows: dict[str, dict[str, Any]] = {}
    async with people(killable.environment) as crew:
        details = await two_versions(killable, crew, tmp_path)
        async with load(killable, details, tmp_path) as running:
            version = 1
            for victim in VICTIMS:
                began = time.time()
                await until(
                    lambda began=began: running.flows(began), FLOW_SECONDS_MAX, f"a steady flow before {victim}"
                )
                before = killable.restarts()
                struck = time.time()
                is_back = strike(killable, victim, version)
                back = await until(is_back, RECOVERY_SECONDS_MAX, f"{victim} is back")
                flow = await until(
                    lambda struck=struck: running.flows(struck + 0.2), FLOW_SECONDS_MAX, f"results after {victim}"
                )
                windows[victim] = (struck, time.time())
                version = 3 - version
                changed = await change_version(crew, running, version)
                others = {name: n - before[name] for name, n in killable.restarts().items() if n != before[name]}
                rows[victim] = {"back": back, "flow": back + flow, "changed": changed, "restarts": others}
                with capsys.disabled():
                    print(f"{victim}: {rows[victim]}", flush=True)
            await running.sender.tell(do="stop")
            sent = await running.sender.hear("stopped", REPORT_SECONDS_MAX)
            await running.checker.tell(do="finish", windows=windows)
            report = await running.checker.hear("report", REPORT_SECONDS_MAX)
        versions = {str(each["version"]): [each["digest"]] for each in await crew.olga.versions(MODEL)}
    for victim, row in rows.items():
        row |= report["windows"][victim]
        record_property(f"recovery of {victim}", json.dumps(row))
    with capsys.disabled():
        print(table(rows, report))
    judge(sent, report, versions)
    assert {victim: row["restarts"] for victim, row in rows.items()} == {
        victim: {} if victim == REPLICA else {victim: 1} for victim in VICTIMS
    }


def judge(sent: dict[str, Any], report: dict[str, Any], digests: dict[str, list[str]]) -> None:
    """Every acknowledged request is answered exactly once, by the version that the answer names."""
    assert (sent["failed"], sent["left"]) == ({}, 0), sent
    assert report["requests"] == report["acknowledged"] == sent["acknowledged"] == report["results"], (sent, report)
    zero = (
        "acknowledged_lost", "requests_doubled", "lost", "duplicated", "unasked", "misattributed", "mismatched",
        "out_of_order", "epochs_of_two_versions", "dead_letters",
    )  # fmt: skip
    assert {name: report[name] for name in zero} == dict.fromkeys(zero, 0)
    assert report["rejected"] == {}
    assert report["digests"] == digests


def table(rows: dict[str, dict[str, Any]], report: dict[str, Any]) -> str:
    """Return the recovery times and the counts as text."""
    heads = ("killed", "back after", "fresh after", "late until", "silence", "slowest", "next version", "restarts")
    lines = [heads] + [
        (
            victim, *(f"{row[name]:.1f} s" for name in ("back", "flow", "late_until", "silence", "slowest", "changed")),
            ", ".join(f"{name} {count}" for name, count in row["restarts"].items()) or "-",
        )
        for victim, row in rows.items()
    ]  # fmt: skip
    text = "\n".join("  ".join(f"{cell:<13}" for cell in line) for line in lines)
    counts = ", ".join(
        f"{name} {report[name]}" for name in ("requests", "results", "lost", "duplicated", "dead_letters")
    )
    return f"\n{text}\n{counts}, by version {report['versions']}"
