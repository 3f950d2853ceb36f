"""Each request of a transaction brought into doubt by a proxy a hundred times in each way, under load."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.rig.doubts import APIS, LATE, UNANSWERED, doubted
from tests.rig.history import Kind
from tests.rig.line import until
from tests.rig.proxy import Hold

pytestmark = [pytest.mark.fault, pytest.mark.timeout(900)]

PARTITIONS = 8
PER_SECOND = 200
EVERY = 15
TIMES = 100
DOUBT_SECONDS_MAX = 600.0
LANDING_SECONDS_MAX = 30.0
IMPATIENT = "impatient"
"""Two seconds of patience for an answer, in place of eight."""

UNGUARDED = f"end-repeated-by-the-driver+{IMPATIENT}"
"""The driver's own handlers: a request whose answer did not come is sent again by the same producer."""


@pytest.mark.parametrize("api", APIS)
async def test_a_hundred_times_late_a_hundred_times_unanswered(
    servers: dict[str, str], tmp_path: Path, api: str
) -> None:
    """Held past the client's patience, done but unanswered, cut off before, cut off after: a hundred times each.

    0 torn, 0 lost, 0 duplicated, order kept, by an independent reader of every topic and of the group's offsets.
    """
    bootstrap = servers["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"]
    async with doubted(bootstrap, tmp_path, PARTITIONS, PER_SECOND) as line:
        await line.start()
        for late in LATE:
            await line.doubt(api, late, math.ceil(TIMES / len(LATE)), EVERY)
        for unanswered in UNANSWERED:
            await line.doubt(api, unanswered, TIMES, EVERY)
        await line.doubted(DOUBT_SECONDS_MAX)
        await line.feed.stop()
        assert await line.judge() == []


@pytest.mark.parametrize("plant", [IMPATIENT, UNGUARDED])
async def test_late_offsets_land_in_the_next_transaction_only_where_the_guard_is_gone(
    servers: dict[str, str], tmp_path: Path, plant: str
) -> None:
    """A TxnOffsetCommit is held until the next transaction is about to end, and comes just before its EndTxn.

    With the guard its producer is fenced by then. Without, it was repeated by the same producer, and so it is taken
    for the next transaction's: the group's offset goes back to where it was, which the history shows.
    """
    bootstrap = servers["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"]
    async with doubted(bootstrap, tmp_path, 1, PER_SECOND, transaction_seconds_max=20.0) as line:
        await line.start(plant)
        late = await line.proxy.on("TxnOffsetCommit", Hold(), times=1, skip=3)
        await late.acted(1, LANDING_SECONDS_MAX)
        next_end = await line.proxy.on("EndTxn", Hold(), times=1, skip=1)
        await next_end.acted(1, LANDING_SECONDS_MAX)
        assert await late.release() == 1

        async def has_landed() -> bool:
            return await line.proxy.lingering() == 0

        await until(has_landed, LANDING_SECONDS_MAX, "the broker has answered the late request")
        assert await next_end.release() == 1
        await line.feed.stop()
        kinds = {each.kind for each in await line.judge()}
    if plant == UNGUARDED:
        assert Kind.OFFSET_REGRESSION in kinds
    else:
        assert kinds == set()
