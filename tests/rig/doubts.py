"""A router behind the proxy, whose transactions are brought into doubt: what it asks comes late, or no answer comes."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import fastavro

from interlock.codec.contract import request_schema
from interlock.ids import uuid7
from interlock_router.settings import Settings
from tests.integration.router.rig import REQUEST_SCHEMA_ID, RESULT_SCHEMA_ID, SIGNATURE, Rig, schema_registry
from tests.rig.history import History, Violation
from tests.rig.history_check import check
from tests.rig.history_reading import gather
from tests.rig.line import Feed
from tests.rig.nursery import Hurt, Nursery
from tests.rig.proxy import Action, Cut, Delay, DropResponse, Side
from tests.rig.proxy_process import ProxyProcess, RemoteRule

TRANSACTION_SECONDS_MAX: Final = 2.0
"""How long the lanes under test wait for a transaction; less than the driver's own bound of a request (8 s)."""

LATE: Final = (Delay(2.1), Delay(2.5), Delay(3.2))
"""Longer than the client waits: such a request comes to the broker when the next producer is being born, or works."""

UNANSWERED: Final[tuple[Action, ...]] = (DropResponse(), Cut(), Cut(Side.RESPONSE))
"""The broker did it and nobody heard; it never came; it was done and the connection is gone."""

APIS: Final = ("EndTxn", "Produce", "TxnOffsetCommit", "AddPartitionsToTxn", "AddOffsetsToTxn", "InitProducerId")
VERSIONS: Final = ((1, 7_000), (2, 3_000))
"""Two versions, so that a score under the wrong label shows."""

START_SECONDS_MAX: Final = 90.0
JUDGE_SECONDS_MAX: Final = 90.0
LOOK_SECONDS: Final = 0.1
QUICK: Final[dict[str, Any]] = {
    "transaction_seconds_max": TRANSACTION_SECONDS_MAX,
    "lane_retry_seconds": 0.05,
    "lane_retry_seconds_max": 0.1,
    "batch_rows_max": 200,
    "batch_interval_seconds": 0.01,
    "poll_seconds": 0.1,
}
"""The router's settings for many doubts in little time."""


@dataclass
class Doubted:
    """An endpoint that a router behind the proxy answers, fed and read at the broker itself."""

    rig: Rig
    feed: Feed
    proxy: ProxyProcess
    nursery: Nursery
    settings: dict[str, Any]
    doubts: list[tuple[str, int, RemoteRule]] = field(default_factory=list)
    """What is done, how often, and the rule that does it."""

    async def start(self, plant: str = "") -> Hurt:
        """Start a router and wait until it works."""
        router = await self.nursery.start(
            "router", json.dumps(self.settings), self.rig.endpoint, str(self.rig.partitions), json.dumps(VERSIONS),
            plant=plant,
        )  # fmt: skip
        await router.hear("lane.started", START_SECONDS_MAX, times=self.rig.lanes)
        return router

    async def doubt(self, api: str, action: Action, times: int, every: int) -> None:
        """Bring each `every`-th request of a kind into doubt, `times` in all."""
        rule = await self.proxy.on(api, action, times=times, every=every)
        self.doubts.append((f"{api} {action}", times, rule))

    async def doubted(self, seconds_max: float) -> None:
        """Return once all that was to be done is done, and nothing late is on its way; fails with what is missing."""
        deadline = asyncio.get_running_loop().time() + seconds_max
        while missing := await self._missing():
            assert asyncio.get_running_loop().time() < deadline, f"not in {seconds_max:.0f} s: {missing}"
            await asyncio.sleep(LOOK_SECONDS)

    async def _missing(self) -> list[str]:
        """Return what has not been done often enough, and what is still on its way."""
        counts = [(name, times, await rule.count()) for name, times, rule in self.doubts]
        missing = [f"{name}: {count} of {times}" for name, times, count in counts if count < times]
        waiting = await self.proxy.waiting()
        return missing or ([f"{waiting} frames wait"] if waiting else [])

    async def history(self) -> History:
        """Return all that happened, once the router has answered everything, or could have long ago."""
        schemas = {
            REQUEST_SCHEMA_ID: request_schema(self.rig.endpoint, SIGNATURE),
            RESULT_SCHEMA_ID: self.rig.result_schema,
        }
        history = await asyncio.to_thread(
            gather,
            self.rig.settings.kafka_bootstrap_servers,
            self.rig.endpoint,
            self.rig.settings.group,
            lambda number: fastavro.parse_schema(schemas[number]),
            self.feed.sent,
            seconds_max=JUDGE_SECONDS_MAX,
        )
        history.acks = await self.proxy.acks()
        return history

    async def judge(self) -> list[Violation]:
        """Return what is wrong."""
        return check(await self.history())


@asynccontextmanager
async def doubted(
    bootstrap: str, folder: Path, partitions: int, per_second: float, **changes: Any
) -> AsyncIterator[Doubted]:
    """Make an endpoint whose router, once started, reaches Kafka through a proxy only; feed it from outside.

    Its processes log into `folder`; `changes` are settings of the router.
    """
    with schema_registry({REQUEST_SCHEMA_ID: request_schema("any", SIGNATURE)}) as url:
        settings = Settings(
            kafka_bootstrap_servers=bootstrap, schema_registry_url=url, group=f"doubted-{uuid7()[-12:]}"
        )
        rig = Rig(settings, partitions)
        await rig.create()
        async with ProxyProcess(bootstrap) as proxy, Nursery(folder) as nursery:
            plain = {"kafka_bootstrap_servers": proxy.bootstrap, "schema_registry_url": url, "group": settings.group}
            line = Doubted(rig, Feed(rig, math.inf), proxy, nursery, plain | QUICK | changes)
            line.feed.start(per_second)
            try:
                yield line
            finally:
                await line.feed.stop()
