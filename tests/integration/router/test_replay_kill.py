"""100,000 dead letters replayed while the replay is killed again and again: each is on its way exactly once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.integration.router.letters import bury, measured, replayed
from tests.integration.router.rig import Rig

pytestmark = [pytest.mark.slow, pytest.mark.fault, pytest.mark.timeout(1200)]

LETTERS = 50_000
"""In each of two partitions."""
KILLS = 4
MEMORY_MIB_MAX = 400
SECONDS_MAX = 120.0


async def test_a_hundred_thousand_letters_are_replayed_once_each_though_the_replay_is_killed(rig: Rig) -> None:
    """Killed by -9 whenever some more have been sent, then the same command again; its memory stays bounded."""
    letters = await asyncio.to_thread(bury, rig, LETTERS)
    for number in range(KILLS):
        await killed(rig, (number + 1) * len(letters) // (KILLS + 2))
    told, mebibytes = await measured(rig, "replay", rig.endpoint, "--all")
    assert told["sent"] + told["passed"] == len(letters)
    assert told["passed"] >= len(letters) // 2
    found = await asyncio.to_thread(replayed, rig, len(letters), 300)
    assert (len(found), set(found.values())) == (len(letters), {1})
    assert mebibytes < MEMORY_MIB_MAX


async def killed(rig: Rig, sent: int) -> None:
    """Replay in a process that is killed once so many records lie in the topic of requests."""
    environment = os.environ | {
        "INTERLOCK_KAFKA_BOOTSTRAP_SERVERS": rig.settings.kafka_bootstrap_servers,
        "INTERLOCK_URL": "http://127.0.0.1:1",
        "INTERLOCK_TOKEN": "none",
    }
    command = (sys.executable, "-m", "interlock.cli", "dead-letters", "replay", rig.endpoint, "--all")
    process = await asyncio.create_subprocess_exec(*command, "--batch-rows", "500", env=environment)
    consumer = Consumer({"bootstrap.servers": rig.settings.kafka_bootstrap_servers, "group.id": "ends"})
    places = [TopicPartition(rig.topic("requests"), each) for each in range(rig.partitions)]
    deadline = time.monotonic() + SECONDS_MAX
    try:
        while sum(consumer.get_watermark_offsets(each)[1] for each in places) < sent:
            assert process.returncode is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
    finally:
        consumer.close()
        process.send_signal(signal.SIGKILL)
        await process.wait()
