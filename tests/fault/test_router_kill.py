"""Routers killed, frozen and woken under load: an independent consumer sees every request answered exactly once."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from interlock.codec.contract import request_schema
from interlock.ids import uuid7
from interlock_router.settings import Settings
from tests.integration.router.rig import REQUEST_SCHEMA_ID, SIGNATURE, Rig, exactly_once, schema_registry

pytestmark = [pytest.mark.fault, pytest.mark.timeout(300)]

REQUESTS = 20_000
ROUNDS = 8
PARTITIONS = 4


@contextmanager
def _rig(servers: dict[str, str]) -> Iterator[Rig]:
    with schema_registry({REQUEST_SCHEMA_ID: request_schema("any", SIGNATURE)}) as url:
        settings = Settings(
            kafka_bootstrap_servers=servers["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"],
            schema_registry_url=url,
            group="router-" + uuid7()[-12:],
        )
        yield Rig(settings, PARTITIONS)


async def _router(rig: Rig) -> asyncio.subprocess.Process:
    settings = {
        "kafka_bootstrap_servers": rig.settings.kafka_bootstrap_servers,
        "schema_registry_url": rig.settings.schema_registry_url.get_secret_value(),
        "group": rig.settings.group,
        "batch_rows_max": 200,
    }
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.fault.router_process",
        json.dumps(settings),
        rig.endpoint,
        str(rig.partitions),
        stdout=asyncio.subprocess.DEVNULL,
    )


async def _feed(rig: Rig) -> None:
    """Write the requests over the whole time of the faults."""
    for start in range(0, REQUESTS, 200):
        await asyncio.to_thread(rig.produce, [rig.value(number) for number in range(start, start + 200)])
        await asyncio.sleep(0.1)


async def test_kill_9_again_and_again_loses_nothing_and_doubles_nothing(servers: dict[str, str]) -> None:
    """Eight times, at random moments: the next router fences the dead one and goes on from the witness."""
    chance = random.Random(7)
    with _rig(servers) as rig:
        await rig.create()
        feeding = asyncio.create_task(_feed(rig))
        for _ in range(ROUNDS):
            router = await _router(rig)
            await asyncio.sleep(chance.uniform(1.5, 4.0))  # the moment of the fault, not a wait for a condition
            router.kill()
            await router.wait()
        router = await _router(rig)
        await feeding
        results = await rig.results(REQUESTS, 120)
        router.send_signal(signal.SIGKILL)
        await router.wait()
    exactly_once(results, REQUESTS)
    assert all(row["score"] == int(row["request_id"][1:]) + 0.001 for row in results)


async def test_a_frozen_router_that_wakes_up_is_fenced(servers: dict[str, str]) -> None:
    """SIGSTOP longer than the session, another router takes over, SIGCONT: the zombie changes nothing that is seen."""
    with _rig(servers) as rig:
        await rig.create()
        feeding = asyncio.create_task(_feed(rig))
        frozen, other = await _router(rig), await _router(rig)
        for victim in (frozen, other, frozen):
            await asyncio.sleep(2.0)
            victim.send_signal(signal.SIGSTOP)
            await asyncio.sleep(rig.settings.kafka_session_seconds + 2.0)
            victim.send_signal(signal.SIGCONT)
        await feeding
        results = await rig.results(REQUESTS, 120)
        for router in (frozen, other):
            router.kill()
            await router.wait()
    exactly_once(results, REQUESTS)
