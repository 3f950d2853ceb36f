"""A hundred thousand requests under a thousand faults of everything that can fail: nothing of it is to be seen."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from examples.fraud.checker import schema_source
from interlock.codec.contract import request_schema
from interlock.errors import InterlockError
from interlock_router.settings import Settings
from tests.fault import numbered
from tests.fault.test_kills import judge, load
from tests.fault.victims import REPLICA, Stack
from tests.integration.client.journey import People, people
from tests.integration.router.rig import REQUEST_SCHEMA_ID, SIGNATURE, schema_registry
from tests.rig.chaos import Replicas, RouterSlot, Server, Target, carry_out, finish, router_victims, slots
from tests.rig.history import Rules, Violation
from tests.rig.history import numbered as score_of
from tests.rig.history_check import check
from tests.rig.history_reading import gather
from tests.rig.line import Line
from tests.rig.nursery import Nursery
from tests.rig.schedule import SERVER_FAULTS, Fault, Strike, Victim, draw, mix

pytestmark = [pytest.mark.fault, pytest.mark.timeout(5_400)]

SEED = 5
FAULTS = 1_000
SECONDS = 600.0
MODEL = "chaos"
STACK_PER_SECOND = 60.0
LINES = 8
ROUTERS = 2
PARTITIONS = 3
LINE_REQUESTS = 10_000
PROMOTION_SECONDS = 15.0
ANSWER_SECONDS_MAX = 180.0
REPORT_SECONDS_MAX = 240.0
REQUESTS_MIN = 100_000
STACK = (
    Victim("kafka", 2, SERVER_FAULTS),
    Victim("postgres", 4, SERVER_FAULTS),
    Victim("valkey", 4, SERVER_FAULTS),
    Victim("ray", 1, {Fault.KILL: 1, Fault.FREEZE: 2}),
    Victim("router", 5, SERVER_FAULTS),
    Victim(REPLICA, 4, {Fault.KILL: 1}),
)
"""The weights of sixteen routers in lanes of their own are ten each."""


@asynccontextmanager
async def _lines(stack: Stack, folder: Path) -> AsyncIterator[tuple[list[Line], dict[str, RouterSlot]]]:
    """Run endpoints whose versions answer in the routers' own processes, on the stack's Kafka."""
    with schema_registry({REQUEST_SCHEMA_ID: request_schema("any", SIGNATURE)}) as url:
        bootstrap = stack.environment["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"]
        settings = Settings(kafka_bootstrap_servers=bootstrap, schema_registry_url=url)
        async with Nursery(folder) as nursery:
            lines = [Line(settings, nursery, PARTITIONS, LINE_REQUESTS) for _ in range(LINES)]
            places = slots(lines, ROUTERS)
            for line in lines:
                await line.rig.create()
                line.feed.start(LINE_REQUESTS / SECONDS)
            for place in places.values():
                await place.fill()
            yield lines, places
            await asyncio.gather(*(each.leave() for each in places.values()))


@asynccontextmanager
async def _promotions(crew: People) -> AsyncIterator[list[int]]:
    """Promote the one and the other version in turn, as often as the control plane is there to hear it."""
    done: list[int] = []

    async def promote() -> None:
        while True:
            await asyncio.sleep(PROMOTION_SECONDS)  # the pace of the promotions
            version = 2 - len(done) % 2
            with contextlib.suppress(InterlockError):
                await crew.olga.promote(MODEL, version)
                done.append(version)

    task = asyncio.create_task(promote())
    try:
        yield done
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _judge_stack(stack: Stack) -> list[Violation]:
    """Return what is wrong with the endpoint that the stack itself serves, through Ray."""
    environment = stack.environment
    history = await asyncio.to_thread(
        gather,
        environment["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"],
        MODEL,
        Settings.model_fields["group"].default,
        schema_source(environment["INTERLOCK_SCHEMA_REGISTRY_URL"]),
        seconds_max=ANSWER_SECONDS_MAX,
        number="number",
    )
    return await asyncio.to_thread(check, history, Rules(score=score_of))


async def _storm(
    stack: Stack, crew: People, strikes: list[Strike], folder: Path
) -> tuple[dict[str, Any], dict[str, Any], list[Violation], float, int]:
    """Carry out the schedule under load; return what was sent, what the checkers say, how long, how many promotions."""
    details = await numbered.two_versions(stack.environment, crew, folder, MODEL)
    async with (
        load(stack, details, folder, STACK_PER_SECOND) as running,
        _lines(stack, folder / "routers") as (lines, places),
    ):
        targets: dict[str, Target] = {
            **places,
            **{each.name: Server(stack, each.name) for each in STACK},
            REPLICA: Replicas(stack, MODEL, (1, 2)),
        }
        async with _promotions(crew) as promoted:
            seconds = await carry_out(strikes, targets)
        await running.sender.tell(do="stop")
        sent = await running.sender.hear("stopped", REPORT_SECONDS_MAX)
        wrong = await finish(lines, LINE_REQUESTS, ANSWER_SECONDS_MAX)
        wrong += await _judge_stack(stack)
        await running.checker.tell(do="finish", windows={})
        report = await running.checker.hear("report", REPORT_SECONDS_MAX)
    return sent, report, wrong, seconds, len(promoted)


async def test_a_hundred_thousand_requests_under_a_thousand_faults(
    killable: Stack, tmp_path: Path, record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Routers, replicas, Ray, Kafka, PostgreSQL and Valkey: 0 lost, 0 doubled, 0 torn, right versions, order kept."""
    names = [f"line{number}/router{place}" for number in range(LINES) for place in range(ROUTERS)]
    strikes = draw(SEED, FAULTS, SECONDS, [*router_victims(names), *STACK])
    (tmp_path / "schedule").write_text("\n".join(map(str, strikes)))
    async with people(killable.environment) as crew:
        sent, report, wrong, seconds, promotions = await _storm(killable, crew, strikes, tmp_path)
        versions = {str(each["version"]): [each["digest"]] for each in await crew.olga.versions(MODEL)}
    requests = LINES * LINE_REQUESTS + int(report["requests"])
    told = (
        f"seed {SEED}: {requests} requests ({report['requests']} of them through Ray), {len(strikes)} faults in "
        f"{seconds:.0f} s ({mix(strikes)}), {promotions} promotions"
    )
    record_property("chaos", told)
    with capsys.disabled():
        sys.stdout.write(f"\n{told}\n")
    assert wrong == [], "\n".join(map(str, wrong))
    judge(sent, report, versions)
    assert requests >= REQUESTS_MIN
