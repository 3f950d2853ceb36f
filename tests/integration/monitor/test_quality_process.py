"""A monitor that is killed while labels come says in the end what a batch says that reads everything at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from interlock.codec import rows
from interlock.postgres.journal import history
from interlock.postgres.pool import connect
from tests.integration.monitor.rig import Feed, Room, until
from tests.integration.monitor.truths import RULES, World, recomputed, shows, world

SETTINGS = {
    "quality_every_seconds": 0.3,
    "quality_threshold": RULES.threshold,
    "quality_false_alarm_cost": RULES.false_alarm_cost,
    "scores_keep_days": 36_500,
    "windows_keep_days": 36_500,
    "answer_windows_max": 5_000,
}


async def send(feed: Feed, made: World, share: slice, labels: list[int]) -> None:
    """Write a share of the observations as lanes do, and some labels, whichever come."""
    for observation in made.observations[share]:
        producer = await feed._producer(observation.partition)
        async with producer.transaction():
            await producer.send_and_wait(
                f"{feed.endpoint}.observations", rows.encode(observation), key=b"e", partition=observation.partition
            )
    for number in labels:
        await feed.say(made.labels[number].label)


@pytest.mark.fault
@pytest.mark.timeout(300)
async def test_killed_twice_it_measures_what_a_batch_measures(room: Room) -> None:
    """Scores and labels in any order, kills between and behind: figures to 1e-9, revisions without a gap."""
    made, random = world(2_000, 40), np.random.default_rng(2)
    order = random.permutation(len(made.labels)).tolist()
    third = len(order) // 3
    async with Feed(room.settings, made.endpoint, partitions=4) as feed:
        await feed.route()
        monitor = await room.start(**SETTINGS)
        for part in range(3):
            await send(feed, made, slice(part * 14, part * 14 + 14), order[part * third : part * third + third])
            if part < 2:
                await monitor.kill()
                monitor = await room.start(**SETTINGS)
        await send(feed, made, slice(0, 0), order[3 * third :])
        wanted = recomputed(made, made.labels)
        labelled = sum(each["labelled"] for each in wanted.values())
        try:

            async def all_there() -> bool:
                view: dict[str, Any] = await monitor.answer(f"{made.endpoint}/quality?limit=5000")
                heard = sum(view["labels"][what] for what in ("recorded", "corrected", "repeated"))
                windows = [window for version in view["versions"] for window in version["windows"]]
                return bool(heard == len(made.labels) and sum(each["labelled"] for each in windows) == labelled)

            await until(all_there, 60)

            async def settled() -> bool:
                waiting = "SELECT (SELECT count(*) FROM quality_marks) + (SELECT count(*) FROM quality_due) AS left"
                return bool((await room.fetch(waiting))[0]["left"] == 0)

            await until(settled)
            shows(await monitor.answer(f"{made.endpoint}/quality?limit=5000"), wanted)
            pool = await connect(room.dsn)
            told = [line.event for line in await history(pool, f"quality/{made.endpoint}", rows_max=10_000)]
            await pool.close()
            revisions: dict[tuple[object, ...], list[int]] = {}
            for event in told:
                revisions.setdefault((event.window_start, event.arm, event.version), []).append(event.revision)
            assert len(revisions) == len(wanted)
            assert all(each == list(range(1, len(each) + 1)) for each in revisions.values())
            assert await monitor.stop() == 0
        finally:
            await monitor.stop()
