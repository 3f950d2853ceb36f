"""Each request of a transaction brought into doubt by a proxy a hundred times in each way, under load."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.rig.doubts import APIS, LATE, UNANSWERED, doubted
from tests.rig.line import until
from tests.rig.proxy import Cut, Hold

pytestmark = [pytest.mark.fault, pytest.mark.timeout(900)]

PARTITIONS = 8
PER_SECOND = 200
EVERY = 15
SEALING = ("AddPartitionsToTxn", "AddOffsetsToTxn", "InitProducerId")
"""What is asked once in a producer's life: for these, lives are cut short, and each third request is in doubt."""
EVERY_LIFE = 3
CUT_EVERY = 10
CUTS = 100_000
TIMES = 100
DOUBT_SECONDS_MAX = 600.0
LANDING_SECONDS_MAX = 30.0
IMPATIENT = "impatient"
"""Two seconds of patience for an answer, in place of eight."""


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
        every = EVERY
        if api in SEALING:
            every = EVERY_LIFE
            await line.proxy.on("EndTxn", Cut(), times=CUTS, every=CUT_EVERY)
        for late in LATE:
            await line.doubt(api, late, math.ceil(TIMES / len(LATE)), every)
        for unanswered in UNANSWERED:
            await line.doubt(api, unanswered, TIMES, every)
        await line.doubted(DOUBT_SECONDS_MAX)
        await line.feed.stop()
        assert await line.judge() == []


async def test_late_offsets_do_not_land_in_the_next_transaction(servers: dict[str, str], tmp_path: Path) -> None:
    """A TxnOffsetCommit is held until the next transaction is about to end, and comes just before its EndTxn.

    Its epoch is over by then; taken for the next transaction's, it would set the group's offset back.
    """
    bootstrap = servers["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"]
    async with doubted(bootstrap, tmp_path, 1, PER_SECOND, transaction_seconds_max=20.0) as line:
        await line.start(IMPATIENT)
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
        assert await line.judge() == []
