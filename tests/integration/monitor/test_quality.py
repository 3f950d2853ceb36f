"""Quality on a real Postgres equals a batch that reads everything at once, whatever came when and how often."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import pytest

from interlock.cause import Cause
from interlock.clock import milliseconds
from interlock.postgres import journal, migrate
from interlock.postgres.pool import Pool, connect
from interlock.schemas.events import Observation, QualityMeasured
from interlock.testing.clock import ManualClock
from interlock_monitor import quality
from interlock_monitor.quality import Arrived
from interlock_monitor.quality_scores import Block, blocks
from interlock_monitor.windows_reading import read
from tests.integration.monitor.truths import BEGAN, BEGAN_MS, RULES, WINDOW, World, close, recomputed, shows, world

SQL = Path("services/monitor/interlock_monitor/sql")
SERVICE = "monitor_quality"
PASSWORD = "for-one-test"


@pytest.fixture(scope="module")
def dsn(servers: dict[str, str]) -> str:
    """A schema with the monitor's tables and a role of this module's own."""
    owner = servers["INTERLOCK_POSTGRES_OWNER_DSN"]
    asyncio.run(migrate.migrate(owner, SERVICE, [SQL], PASSWORD))
    scheme, _, rest = owner.partition("://")
    return f"{scheme}://{migrate.role_of(SERVICE)}:{PASSWORD}@{rest.rpartition('@')[2]}"


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    """Connections of the monitor's role."""
    opened = await connect(dsn)
    yield opened
    await opened.close()


def cut(observations: Sequence[Observation]) -> list[Block]:
    return [block for each in observations for block in blocks(read(each, WINDOW))]


async def keep(pool: Pool, *observations: Observation) -> None:
    async with journal.unit(pool, Cause.start("test")) as unit:
        await quality.keep_scores(unit.connection, cut(observations))


async def take(pool: Pool, *labels: Arrived) -> quality.Taken:
    async with journal.unit(pool, Cause.start("test")) as unit:
        return await quality.take_labels(unit, labels, RULES)


async def die(pool: Pool, observations: Sequence[Observation], labels: Sequence[Arrived]) -> None:
    """End before the commit."""
    async with journal.unit(pool, Cause.start("test")) as unit:
        await quality.keep_scores(unit.connection, cut(observations))
        await quality.take_labels(unit, labels, RULES)
        raise ZeroDivisionError


async def measure(pool: Pool, clock: ManualClock) -> int:
    async with journal.unit(pool, Cause.start("test"), clock=clock) as unit:
        return await quality.measure_due(unit, RULES)


async def settle(pool: Pool, clock: ManualClock) -> None:
    """Measure until nothing is due any more."""
    clock.advance(RULES.every_seconds)
    while await measure(pool, clock):
        pass


async def said(pool: Pool, endpoint: str) -> list[QualityMeasured]:
    return [line.event for line in await journal.history(pool, f"quality/{endpoint}", rows_max=100_000)]


async def agrees(pool: Pool, made: World, labels: Sequence[Arrived]) -> None:
    """The newest revisions, and the view, are the batch's; revisions rise by one, and each says something new."""
    wanted = recomputed(made, labels)
    newest: dict[tuple[int, str, int], QualityMeasured] = {}
    for event in await said(pool, made.endpoint):
        key = (milliseconds(event.window_start), event.arm, event.version)
        before = newest.get(key)
        assert event.revision == (before.revision if before else 0) + 1
        assert before is None or figures_of(event) != figures_of(before)
        assert milliseconds(event.window_end) - milliseconds(event.window_start) == WINDOW
        newest[key] = event
    assert newest.keys() == wanted.keys()
    for key, event in newest.items():
        close(figures_of(event), wanted[key], key)
    view = await quality.view(pool, made.endpoint, rules=RULES, windows_max=10_000)
    shows(view, wanted)


def figures_of(event: QualityMeasured) -> dict[str, Any]:
    names = ("rows", "labelled", "positives", "precision", "recall", "roc_auc", "average_precision", "cost",
             "label_lag_seconds_p50")  # fmt: skip
    return {name: getattr(event, name) for name in names}


async def test_figures_are_those_of_a_batch_whatever_came_when(pool: Pool) -> None:
    """Scores before labels and behind, in any order, chunks repeated, transactions undone, and measured between."""
    made, clock, random = world(6_000, 120), ManualClock(BEGAN + timedelta(hours=1)), np.random.default_rng(8)
    labels = [made.labels[row] for row in random.permutation(len(made.labels))]
    chunks: list[tuple[str, Sequence[Any]]] = [
        ("scores", made.observations[at : at + 5]) for at in range(0, len(made.observations), 5)
    ]
    chunks += [("labels", labels[at : at + 97]) for at in range(0, len(labels), 97)]
    for number in random.permutation(len(chunks)).tolist():
        kind, chunk = chunks[number]
        with pytest.raises(ZeroDivisionError):
            await die(pool, made.observations[:1], labels[:3])
        for _ in range(1 + (number % 3 == 0)):  # and every third chunk is heard twice
            await (keep(pool, *chunk) if kind == "scores" else take(pool, *chunk))
        if number % 4 == 0:
            clock.advance(float(random.uniform(0.1, 2)))
            await measure(pool, clock)
    await settle(pool, clock)
    await agrees(pool, made, made.labels)
    assert len({event.version for event in await said(pool, made.endpoint)}) == 4


async def test_those_who_bring_and_those_who_measure_do_not_miss_each_other(pool: Pool) -> None:
    """Scores, labels and two who measure, all at the same time."""
    made, clock = world(4_000, 80, seed=9), ManualClock(BEGAN + timedelta(hours=1))
    bringing = asyncio.gather(
        *(keep(pool, *made.observations[at : at + 4]) for at in range(0, 80, 4)),
        *(take(pool, *made.labels[at : at + 200]) for at in range(0, len(made.labels), 200)),
    )

    async def measuring() -> None:
        while not bringing.done():
            clock.advance(0.3)
            await measure(pool, clock)
            await asyncio.sleep(0)

    await asyncio.gather(bringing, measuring(), measuring())
    await settle(pool, clock)
    await agrees(pool, made, made.labels)


async def test_one_measures_at_a_time(pool: Pool) -> None:
    """While one has not committed another does nothing; afterwards there is nothing left to do."""
    made, clock = world(300, 6), ManualClock(BEGAN + timedelta(hours=1))
    await keep(pool, *made.observations)
    await take(pool, *made.labels)
    async with journal.unit(pool, Cause.start("test"), clock=clock) as unit:
        assert await quality.measure_due(unit, RULES) > 0
        assert await measure(pool, clock) == 0
    clock.advance(RULES.every_seconds)
    assert await measure(pool, clock) == 0
    await agrees(pool, made, made.labels)


async def test_bad_labels_change_no_figure_and_are_told(pool: Pool) -> None:
    """From the future, no number, another endpoint's, learnt too late: refused, counted, and with the reason."""
    made, clock = world(300, 6), ManualClock(BEGAN + timedelta(hours=1))
    await keep(pool, *made.observations)
    await take(pool, *made.labels)
    first = made.labels[0].label
    at, requested = milliseconds(first.at), milliseconds(first.requested_at)
    month = 31 * 86_400_000
    bad = {
        "learnt_in_the_future": made.label(900, first.request_id, requested, 0, at + 10**9, received=at),
        "not_finite": made.label(901, first.request_id, requested, math.nan, at + 1),
        "negative_weight": made.label(902, first.request_id, requested, 1, at + 1, weight=-1.0),
        "too_late": made.label(903, first.request_id, requested, 0, requested + month),
        "request_id": made.label(904, "", requested, 0, at + 1),
        "other_endpoint": made.label(905, first.request_id, requested, 0, at + 1)._replace(topic="other.labels"),
    }
    taken = await take(pool, *bad.values())
    assert {str(reason): label for label, reason in taken.refused} == bad
    await settle(pool, clock)
    await agrees(pool, made, made.labels)
    shown = (await quality.view(pool, made.endpoint, rules=RULES))["labels"]["refused"]
    assert shown == dict.fromkeys(bad, 1) | {"other_endpoint": 0}
    assert (await quality.view(pool, "other", rules=RULES))["labels"]["refused"]["other_endpoint"] >= 1


async def test_the_same_labels_again_say_nothing_and_a_correction_does(pool: Pool) -> None:
    """No new revision for a repetition, even with scores kept again; one for the window of a correction."""
    made, clock = world(300, 6, label_share=1.0), ManualClock(BEGAN + timedelta(hours=1))
    await keep(pool, *made.observations)
    await take(pool, *made.labels)
    await settle(pool, clock)
    before = len(await said(pool, made.endpoint))
    again = [each._replace(offset=each.offset + 10_000) for each in made.labels]
    taken = await take(pool, *again)
    assert (taken.recorded, taken.corrected, taken.repeated) == (0, 0, len(again))
    await keep(pool, *made.observations)
    await settle(pool, clock)
    assert len(await said(pool, made.endpoint)) == before
    row = made.rows.iloc[0]
    late = BEGAN_MS + 3_000_000
    correction = made.label(50_000, row.id, int(row.requested), 1 - row.truth, late, weight=3.0)
    assert (await take(pool, correction)).corrected == 1
    await settle(pool, clock)
    assert len(await said(pool, made.endpoint)) == before + 1
    await agrees(pool, made, [*made.labels, correction])


async def test_a_window_is_measured_at_most_once_in_a_while(pool: Pool) -> None:
    """Labels that keep coming make one revision each `every_seconds`, and the last of them is not forgotten."""
    made, clock = world(400, 4, label_share=1.0), ManualClock(BEGAN + timedelta(hours=1))
    await keep(pool, *made.observations)
    counts = []
    for at in range(0, 40, 2):
        await take(pool, *made.labels[at : at + 2])
        await measure(pool, clock)
        counts.append(len(await said(pool, made.endpoint)))
        clock.advance(0.25)
    windows = len({(event.window_start, event.arm) for event in await said(pool, made.endpoint)})
    assert counts[-1] <= windows * (1 + 20 * 0.25 / RULES.every_seconds)
    await settle(pool, clock)
    await agrees(pool, made, made.labels[:40])


async def test_unknown_requests_wait_and_are_joined_when_their_score_comes(pool: Pool) -> None:
    """Until then they are counted as waiting; so are those of nobody's requests, until they expire."""
    made, clock = world(300, 6, label_share=1.0), ManualClock(BEGAN + timedelta(hours=1))
    await take(pool, *made.labels)
    await settle(pool, clock)
    view = await quality.view(pool, made.endpoint, rules=RULES)
    keys = {(each.label.request_id, each.label.requested_at) for each in made.labels}
    assert (view["waiting_labels"], view["versions"]) == (len(keys), [])
    await keep(pool, *made.observations)
    await settle(pool, clock)
    nobodys = len(keys) - 300
    assert (await quality.view(pool, made.endpoint, rules=RULES))["waiting_labels"] == nobodys > 0
    await agrees(pool, made, made.labels)


async def test_what_is_too_old_goes_and_figures_stay(pool: Pool) -> None:
    """Scores and joined labels after keep_days, waiting ones after twice that; no revision comes of it."""
    made, clock = world(300, 6), ManualClock(BEGAN + timedelta(hours=1))
    await keep(pool, *made.observations)
    await take(pool, *made.labels)
    await settle(pool, clock)
    before = len(await said(pool, made.endpoint))

    async def after(days: float) -> tuple[int, ...]:
        clock.advance((BEGAN + timedelta(days=days) - clock.now()).total_seconds())
        async with journal.unit(pool, Cause.start("test"), clock=clock) as unit:
            await quality.prune(unit, RULES)
        await measure(pool, clock)
        return tuple([
            await pool.fetchval(f"SELECT count(*) FROM {table} WHERE endpoint = $1", made.endpoint)
            for table in ("quality_scores", "quality_labels", "quality_windows")
        ])  # fmt: skip

    whole = await after(29.9)
    waiting = (await quality.view(pool, made.endpoint, rules=RULES))["waiting_labels"]
    assert await after(30.1) == (0, waiting, whole[2])
    assert await after(60.1) == (0, 0, whole[2])
    view = await quality.view(pool, made.endpoint, rules=RULES)
    assert view["labels"]["expired"] == waiting
    assert view["versions"][0]["total_windows"] == 0 and view["versions"][0]["windows"]
    assert len(await said(pool, made.endpoint)) == before


async def test_figures_over_all_windows_are_those_of_all_rows(pool: Pool) -> None:
    """Not a mean of means; filters and the bound choose windows; all of it is JSON."""
    made, clock = world(3_000, 60, label_share=1.0), ManualClock(BEGAN + timedelta(hours=1))
    await keep(pool, *made.observations)
    plain = [each for each in made.labels if not each.label.request_id.startswith("nobody")]
    await take(pool, *plain)
    await settle(pool, clock)
    view = await quality.view(pool, made.endpoint, rules=RULES, version=2, arm="champion")
    json.dumps(view)
    (version,) = view["versions"]
    wanted = {key: value for key, value in recomputed(made, plain).items() if key[1:] == ("champion", 2)}
    assert version["labelled"] == sum(each["labelled"] for each in wanted.values())
    assert version["cost"] == pytest.approx(sum(each["cost"] for each in wanted.values()))
    assert version["total_windows"] == len(version["windows"]) == len(wanted) > 2
    starts = [window["window_start"] for window in version["windows"]]
    assert starts == sorted(starts)
    newest = await quality.view(pool, made.endpoint, rules=RULES, version=2, arm="champion", windows_max=1)
    assert [window["window_start"] for window in newest["versions"][0]["windows"]] == starts[-1:]
    since = datetime.fromisoformat(starts[1])
    later = await quality.view(pool, made.endpoint, rules=RULES, version=2, arm="champion", since=since)
    assert [window["window_start"] for window in later["versions"][0]["windows"]] == starts[1:]
    assert (await quality.view(pool, made.endpoint, rules=RULES, version=99))["versions"] == []


async def test_the_role_cannot_rewrite_scores_nor_forget_figures(pool: Pool) -> None:
    """Scores are only added and dropped, figures are only added and replaced."""
    for statement in (
        "UPDATE quality_scores SET version = 1",
        "UPDATE quality_marks SET pane = 1",
        "DELETE FROM quality_windows",
        "DELETE FROM quality_counts",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.execute(statement)


async def test_a_hundred_thousand_labels_are_joined_in_seconds(pool: Pool) -> None:
    """No statement for each row: recorded, joined and measured, each in a few seconds on a busy machine."""
    made, clock = world(100_000, 400, seed=4, label_share=1.0), ManualClock(BEGAN + timedelta(hours=1))
    began = time.perf_counter()
    for at in range(0, 400, 40):
        await keep(pool, *made.observations[at : at + 40])
    kept = time.perf_counter()
    for at in range(0, len(made.labels), 20_000):
        await take(pool, *made.labels[at : at + 20_000])
    taken = time.perf_counter()
    await settle(pool, clock)
    settled = time.perf_counter()
    figures = f"kept {kept - began:.2f} s, labels {taken - kept:.2f} s, measured {settled - taken:.2f} s"
    print(figures)  # noqa: T201 - the figure of this test, for whoever runs it with -s
    assert settled - began < 60, "on a quiet machine it is a few seconds"
    await agrees(pool, made, made.labels)
