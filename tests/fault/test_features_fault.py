"""Valkey killed, frozen and flushed under load: each request answered once, by a score its result explains."""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from interlock import embedded
from tests.fault.victims import Stack, killed_and_back
from tests.integration.router.feature_rig import DEFAULTS, FeatureRig, FeatureRouter, check, feature_rig, missing_of
from tests.integration.router.rig import exactly_once

pytestmark = [pytest.mark.fault, pytest.mark.timeout(300)]

CARDS = 400
TICK_ROWS = 40
TICK_SECONDS = 0.04
FROZEN_SECONDS = 3.0
UNHURT_SECONDS = 1.5
DELAY_SECONDS_MAX = 3.0
"""From a request to its score, with other work on the same cores; a lane that waited for Valkey would be above."""


def _card(first: int, index: int) -> str:
    return f"card-{(first + index) % CARDS}"


class Load:
    """A steady stream of requests for cards whose features are all fed, until told to end."""

    def __init__(self, rig: FeatureRig) -> None:
        self._rig = rig
        self.sent = 0
        self.ended = asyncio.Event()

    async def run(self) -> None:
        """Send until ended."""
        while not self.ended.is_set():
            now = datetime.now(UTC)
            values = [
                self._rig.value(number, requested_at=now)  # type: ignore[arg-type]  # a time beside the features
                for number in range(self.sent, self.sent + TICK_ROWS)
            ]
            first = self.sent
            self.sent += TICK_ROWS
            await asyncio.to_thread(self._rig.produce, values, partial(_card, first))
            await asyncio.sleep(TICK_SECONDS)


async def test_every_answer_is_explained_by_its_own_result_whatever_becomes_of_valkey(
    servers: dict[str, str], tmp_path: Path
) -> None:
    """Killed, frozen beyond every bound, flushed: once each, never late, and at the end the features are back."""
    async with embedded.running(tmp_path / "valkey", ("valkey",)) as environment:
        stack = Stack(environment)
        with feature_rig(servers["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"], environment["INTERLOCK_REDIS_URL"]) as rig:
            await rig.create()
            for number in range(CARDS):
                rig.feed(f"card-{number}", 1.0, spent=float(number), visits=float(number % 9), home=0.0, mood=0.5)
            async with FeatureRouter(rig, features_pause_seconds_max=1.0):
                await rig.fed()
                load = Load(rig)
                loading = asyncio.create_task(load.run())
                await asyncio.sleep(UNHURT_SECONDS)
                await killed_and_back(stack, "valkey", 30)
                await rig.fed(60)
                frozen = stack.pid("valkey")
                os.kill(frozen, signal.SIGSTOP)
                await asyncio.sleep(FROZEN_SECONDS)
                os.kill(frozen, signal.SIGCONT)
                await asyncio.sleep(UNHURT_SECONDS)
                await asyncio.to_thread(rig.valkey.flushall)
                await rig.fed(60)
                load.ended.set()
                await loading
                await _features_are_back(rig, load)
                results = await rig.results(load.sent, 60)
    exactly_once(results, load.sent)
    for row in results:
        check(row)
        _check_values(row)
    delays = [(row["scored_at"] - row["requested_at"]).total_seconds() for row in results]
    assert max(delays) < DELAY_SECONDS_MAX
    degraded = sum(missing_of(row) == set(DEFAULTS) for row in results)
    assert 0 < degraded < load.sent
    assert not any(missing_of(row) for row in results if int(row["request_id"][1:]) >= load.sent - TICK_ROWS)


async def _features_are_back(rig: FeatureRig, load: Load) -> None:
    """Send until a whole tick is answered with looked-up values."""
    async with asyncio.timeout(30):
        while True:
            first = load.sent
            tick = Load(rig)
            tick.sent = first
            sending = asyncio.create_task(tick.run())
            while tick.sent == first:
                await asyncio.sleep(TICK_SECONDS)
            tick.ended.set()
            await sending
            load.sent = tick.sent
            newest = [
                row for row in await rig.results(load.sent) if int(row["request_id"][1:]) >= load.sent - TICK_ROWS
            ]
            if len(newest) == TICK_ROWS and not any(missing_of(row) for row in newest):
                return


def _check_values(row: dict[str, Any]) -> None:
    """Check that what was not missing is what was fed for this card."""
    card = int(row["request_id"][1:]) % CARDS
    fed = {"spent": float(card), "visits": float(card % 9), "home": 0.0, "mood": 0.5}
    assert all(row[f"online_{name}"] == fed[name] for name in set(fed) - missing_of(row))
