"""Transactions brought into doubt by a proxy before Kafka: a lean round of what `tests/fault/test_doubt.py` does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rig.doubts import APIS, UNANSWERED, doubted
from tests.rig.proxy import Delay

PARTITIONS = 8
PER_SECOND = 400
EVERY = 3
DOUBT_SECONDS_MAX = 150.0
PATIENCE_SECONDS = 1.5
LATE = Delay(1.8)


@pytest.mark.timeout(300)  # it takes 15 s; lanes that get no CPU do not keep their patience
async def test_a_request_that_comes_late_or_is_not_answered_costs_nothing_but_time(
    servers: dict[str, str], tmp_path: Path
) -> None:
    """Every request of a transaction held past the client's patience, unanswered, cut off before and after, under load.

    Once each: everything is answered once, by the version that it names, in order, and the offsets stand with it.
    """
    bootstrap = servers["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"]
    patience = {"transaction_seconds_max": PATIENCE_SECONDS}
    async with doubted(bootstrap, tmp_path, PARTITIONS, PER_SECOND, **patience) as line:
        router = await line.start()
        for api in APIS:
            for action in (LATE, *UNANSWERED):
                await line.doubt(api, action, 1, EVERY)
        await line.doubted(DOUBT_SECONDS_MAX)
        await line.feed.stop()
        assert await line.judge() == []
        assert len(router.heard("lane.restarts")) + len(router.heard("lane.fenced")) >= len(line.doubts) / 3
