"""Dead letters in any number on a real topic, what was replayed of them, and a replay in a process that ends itself."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from confluent_kafka import Producer

from interlock.client.dead_letters import Choice, DeadLetters, Replay
from interlock.clock import SystemClock, milliseconds
from interlock.codec import rows
from interlock.errors import Reason
from interlock.kafka.producer import make_producer
from interlock.kafka.replay import REPLAY_OF, Again, ReplayTransactions
from interlock.schemas.events import DeadLetter, Header
from interlock.settings import PlatformSettings
from tests.integration.router.rig import Rig

REASONS = (Reason.TRUNCATED, Reason.MODEL_RAISED, Reason.MODEL_CRASHED)
STEPS = ("before-commit", "after-commit")
PLANTED = "not-transactional"


def letter(rig: Rig, partition: int, offset: int, at: datetime) -> DeadLetter:
    """Return the letter of a made-up request; reason and version follow from its offset."""
    return DeadLetter(
        name=f"{rig.topic('requests')}/{partition}/{offset}",
        endpoint=rig.endpoint,
        reason=REASONS[offset % 3],
        detail="made up",
        topic=rig.topic("requests"),
        partition=partition,
        offset=offset,
        timestamp=0,
        key=b"k%d" % offset,
        value=b"request %d of %d" % (offset, partition),
        headers=(Header(name="ce_id", value=b"%d-%d" % (partition, offset)),),
        version=1 + offset % 2,
        at=at,
    )


def bury(rig: Rig, count: int) -> list[DeadLetter]:
    """Write so many letters to each partition, a second apart, the last one now; return them."""
    now = datetime.now(UTC).replace(microsecond=0)
    made = [
        letter(rig, partition, offset, now - timedelta(seconds=count - offset))
        for offset in range(count)
        for partition in range(rig.partitions)
    ]
    producer = Producer({"bootstrap.servers": rig.settings.kafka_bootstrap_servers, "linger.ms": 5})
    for each in made:
        while True:
            try:
                producer.produce(
                    rig.topic("dead-letters"),
                    key=each.name.encode(),
                    value=rows.encode(each),
                    partition=each.partition,
                    timestamp=milliseconds(each.at),
                )
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(60) == 0
    return made


def replayed(rig: Rig, count: int, seconds_max: float = 60.0) -> Counter[str]:
    """Return how often each letter was replayed, and check that each came whole and to its partition."""
    found: Counter[str] = Counter()
    for record in rig.read("requests", count, seconds_max):
        headers = dict(record.headers())
        name = headers[REPLAY_OF].decode()
        _, partition, offset = name.rsplit("/", 2)
        assert record.partition() == int(partition)
        assert record.key() == b"k%s" % offset.encode()
        assert record.value() == f"request {offset} of {partition}".encode()
        assert headers["ce_id"] == f"{partition}-{offset}".encode()
        found[name] += 1
    return found


MEASURED = """
import resource, subprocess, sys
status = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(status)
"""


async def interlock(rig: Rig, *words: str) -> Any:
    """Run `interlock dead-letters …` in a process of its own; return its JSON."""
    told, _ = await measured(rig, *words)
    return told


async def measured(rig: Rig, *words: str) -> tuple[Any, float]:
    """Do the same; return the most memory that the process had as well, in MiB."""
    environment = os.environ | {
        "INTERLOCK_KAFKA_BOOTSTRAP_SERVERS": rig.settings.kafka_bootstrap_servers,
        "INTERLOCK_URL": "http://127.0.0.1:1",
        "INTERLOCK_TOKEN": "none",
    }
    command = (sys.executable, "-m", "interlock.cli", "dead-letters", *words, "--json")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MEASURED, *command, env=environment, stdout=pipe, stderr=pipe
    )
    output, said = await asyncio.wait_for(process.communicate(), 240)
    assert process.returncode == 0, said.decode()
    return json.loads(output), int(said.split()[-1]) / 1024


async def ending(rig: Rig, step: str, transaction: int, batch_rows: int = 50) -> int:
    """Replay everything in a process that kills itself at a step of its n-th transaction; return its exit status."""
    command = (sys.executable, "-m", "tests.integration.router.letters", rig.settings.kafka_bootstrap_servers)
    process = await asyncio.create_subprocess_exec(*command, rig.endpoint, step, str(transaction), str(batch_rows))
    return await asyncio.wait_for(process.wait(), 120)


async def _replay(bootstrap_servers: str, endpoint: str, step: str, transaction: str, batch_rows: str) -> None:
    """Replay everything until the step comes."""
    left = int(transaction)
    whole = ReplayTransactions.write

    async def write(self: ReplayTransactions, records: Sequence[Again], next_offset: int, timestamp: int) -> None:
        nonlocal left
        left -= 1
        if step == PLANTED:
            producer = make_producer(self._settings)
            await producer.start()
            for each in records:
                place = {"key": each.key, "partition": self._sources[0].partition, "headers": each.marked()}
                await producer.send_and_wait(each.topic, each.value, **place)
            await producer.stop()
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            await whole(self, (), next_offset, timestamp)
            return
        if step == "before-commit" and not left:
            self._running().commit_transaction = _end
        await whole(self, records, next_offset, timestamp)
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    ReplayTransactions.write = write  # type: ignore[method-assign]  # the process ends at a step of its own
    settings = PlatformSettings(kafka_bootstrap_servers=bootstrap_servers)
    letters = DeadLetters(settings, endpoint)
    async for _ in Replay(letters, Choice(), SystemClock(), int(batch_rows)).run():
        pass
    await letters.close()


async def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    asyncio.run(_replay(*sys.argv[1:]))
