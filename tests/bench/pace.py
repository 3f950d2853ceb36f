"""An open loop: requests sent when they are due whether or not the last are answered, results read as they commit.

Sender and reader are processes of their own, so that neither waits for the other or for the bench. Times are
CLOCK_MONOTONIC, which all processes of a machine share. A latency runs from when a request was due, not from when it
could be sent: so a service that stalls cannot hide it (no coordinated omission).
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
import zlib
from collections.abc import Awaitable, Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import uvloop
from aiokafka import AIOKafkaProducer

from interlock.codec.ragged import Ragged
from interlock.kafka.partition import PartitionReader, TopicPartition
from interlock.kafka.prepared import Prepared, Rows, prepared
from interlock.kafka.produce import WholeSender
from interlock.settings import PlatformSettings
from tests.bench import work
from tests.bench.topics import Kafka

LEAD_SECONDS: Final = 0.3
NAP_SECONDS: Final = 0.0003
WAIT_SECONDS_MAX: Final = 0.5
FLUSH_SECONDS_MAX: Final = 60.0
READ_ROWS: Final = 100_000
FETCH_BYTES_MAX: Final = 8 * 1024 * 1024
TICK_SECONDS: Final = 0.005
FLOOD_NAMES: Final = 65_536
FLOOD_ROWS: Final = 4_096
BLOCK_BYTES_MAX: Final = 1024 * 1024
LINGER_MILLISECONDS: Final = 1
SPACED_LEAST: Final = 0.7
"""Lone requests are spaced by 70 to 130 % of the even interval, so that none falls into step with a timer."""
_NAME_AT: Final = 7
_NAME_BYTES: Final = 9

Times = npt.NDArray[np.float64]
Found = TypeVar("Found")


def due_times(rate: float, seconds: float, seed: int, *, spaced: bool) -> Times:
    """Return when requests are due, in seconds from the start: Poisson arrivals, or spaced so that each is alone."""
    random = np.random.default_rng(seed)
    count = max(1, int(rate * seconds))
    gaps = random.uniform(SPACED_LEAST, 2 - SPACED_LEAST, count) if spaced else random.exponential(1.0, count)
    return np.cumsum(gaps) / rate


def send(given: argparse.Namespace) -> None:
    """Send, then write down when each request was due and when it was handed over."""
    kafka = Kafka(given.bootstrap)
    times = due_times(given.rate, given.seconds, given.seed, spaced=given.spaced)
    values, keys = [work.request(number) for number in range(times.size)], work.keys(times.size, given.seed)
    producer = kafka.producer(**{"linger.ms": LINGER_MILLISECONDS})
    producer.list_topics(given.topic, timeout=FLUSH_SECONDS_MAX)
    _say_ready()
    start = time.monotonic() + LEAD_SECONDS
    dues = (times + start).tolist()
    sent = np.empty(times.size)
    for number, due in enumerate(dues):
        while (now := time.monotonic()) < due:
            producer.poll(0)
            time.sleep(min(NAP_SECONDS, max(0.0, due - now)))
        producer.produce(given.topic, value=values[number], key=keys[number])
        sent[number] = now
        if number % 64 == 0:
            producer.poll(0)
    assert producer.flush(FLUSH_SECONDS_MAX) == 0
    np.save(given.file, np.stack([np.array(dues), sent]))


def stream(given: argparse.Namespace) -> None:
    """Do what `send` does for many requests a second: those of each tick in record batches that were written before.

    A request goes when its tick ends, as a producer with a linger of TICK_SECONDS would let it go, and the sender takes
    a few per cent of a core at any rate, where a call for each request would take most of one.
    """
    times = due_times(given.rate, given.seconds, given.seed, spaced=False)
    keys = work.keys(times.size, given.seed)
    blocks = _blocks(keys, (times / TICK_SECONDS).astype(np.int64))
    sent = np.empty(times.size)

    async def go(producer: AIOKafkaProducer) -> Times:
        start = time.monotonic() + LEAD_SECONDS
        waiting: list[asyncio.Future[Any]] = []
        for block in blocks:
            due = start + (block.tick + 1) * TICK_SECONDS
            while (now := time.monotonic()) < due:
                await asyncio.sleep(due - now)
            sent[block.numbers] = now
            waiting.append(await producer.send_batch(block.batch, given.topic, partition=block.partition))
        await asyncio.gather(*waiting)
        return times + start

    dues = uvloop.run(_producing(given, go))
    np.save(given.file, np.stack([dues, sent]))


def flood(given: argparse.Namespace) -> None:
    """Send at a rate, whatever becomes of it; write down how many were sent. Names repeat after a while."""
    blocks = _blocks(work.keys(FLOOD_NAMES, given.seed), np.arange(FLOOD_NAMES) // FLOOD_ROWS)
    total = int(given.rate * given.seconds)

    async def go(producer: AIOKafkaProducer) -> tuple[int, float]:
        start, sent, last = time.monotonic(), 0, dict[int, asyncio.Future[Any]]()
        for block in cycle(blocks):
            if sent >= total:
                break
            while sent > (time.monotonic() - start) * given.rate:
                await asyncio.sleep(TICK_SECONDS)
            if block.partition in last:
                await last[block.partition]  # one block of a partition is under way: this very one may come again
            last[block.partition] = await producer.send_batch(block.batch, given.topic, partition=block.partition)
            sent += block.numbers.size
        await asyncio.gather(*last.values())
        return sent, time.monotonic() - start

    np.save(given.file, np.array(uvloop.run(_producing(given, go))))


class Block(NamedTuple):
    """Requests of one tick that go to one partition, written already."""

    tick: int
    partition: int
    numbers: npt.NDArray[np.int64]
    batch: Prepared


def _blocks(keys: Sequence[bytes], ticks: npt.NDArray[np.int64]) -> list[Block]:
    """Write requests into one record batch for each tick and partition, in the order in which they are to be sent."""
    partitions = np.array([zlib.crc32(key) % work.PARTITIONS for key in keys])
    group = ticks * work.PARTITIONS + partitions
    order = np.argsort(group, kind="stable")
    cuts = np.flatnonzero(np.diff(group[order])) + 1
    stamp, blocks = round(time.time() * 1000), []
    for rows in np.split(order, cuts):
        values = Ragged.of([work.request(number) for number in rows.tolist()])
        [batch] = prepared(
            Rows([keys[row] for row in rows.tolist()], values), stamp, BLOCK_BYTES_MAX, transactional=False
        )
        blocks.append(Block(int(ticks[rows[0]]), int(partitions[rows[0]]), rows, batch))
    return blocks


async def _producing(given: argparse.Namespace, go: Callable[[AIOKafkaProducer], Awaitable[Found]]) -> Found:
    """Run `go` with a producer, after saying that all is ready."""
    producer = AIOKafkaProducer(
        bootstrap_servers=given.bootstrap, enable_idempotence=True, max_batch_size=BLOCK_BYTES_MAX,
        max_request_size=work.PARTITIONS * BLOCK_BYTES_MAX,
    )  # fmt: skip
    producer._sender = WholeSender.replacing(producer)
    await producer.start()
    try:
        await producer.partitions_for(given.topic)
        _say_ready()
        return await go(producer)
    finally:
        await producer.stop()


def read(given: argparse.Namespace) -> None:
    """Read results until SIGTERM, then write down when each came.

    By a lane's own reader, of a client for each partition: a client that makes an object of each result takes 0.2
    cores at 75,000 a second, which those measured need.
    """
    begins = Kafka(given.bootstrap).ends(given.topic, work.PARTITIONS)
    settings = PlatformSettings(kafka_bootstrap_servers=given.bootstrap)
    seen = [(0.0, np.empty(0, dtype=np.int64))]

    async def follow(partition: int, begin: int) -> None:
        place = TopicPartition(given.topic, partition)
        reader = PartitionReader(settings, [place], FETCH_BYTES_MAX)
        try:
            await reader.start({place: begin}, FLUSH_SECONDS_MAX)
            while True:
                taken = await reader.take(WAIT_SECONDS_MAX, READ_ROWS)
                seen.extend((time.monotonic(), _numbers(each.records)) for each in taken)
        finally:
            await reader.close()

    async def go() -> None:
        stopping = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
        following = [asyncio.ensure_future(follow(*each)) for each in enumerate(begins.tolist())]
        _say_ready()
        await asyncio.wait({asyncio.ensure_future(stopping.wait()), *following}, return_when=asyncio.FIRST_COMPLETED)
        for each in following:
            each.cancel()
        outcomes = await asyncio.gather(*following, return_exceptions=True)
        assert stopping.is_set(), outcomes

    uvloop.run(go())
    times = np.repeat([at for at, _ in seen], [len(numbers) for _, numbers in seen])
    np.save(given.file, np.stack([times, np.concatenate([numbers for _, numbers in seen])]))


def _numbers(records: Sequence[Any]) -> npt.NDArray[np.int64]:
    """Return the numbers of the requests that results answer, from the request ids in them."""
    names = b"".join([record.value[_NAME_AT : _NAME_AT + _NAME_BYTES] for record in records])
    digits = np.frombuffer(names, dtype=np.uint8).reshape(-1, _NAME_BYTES) - ord("0")
    return digits @ 10 ** np.arange(_NAME_BYTES - 1, -1, -1)


def _say_ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


def command(role: str, kafka: Kafka, topic: str, file: Path, **more: float | str) -> list[str]:
    """Return the command of a sender or a reader."""
    words = {"bootstrap": kafka.bootstrap, "topic": topic, "file": str(file)} | {n: str(v) for n, v in more.items()}
    return [sys.executable, "-m", "tests.bench.pace", role, *(w for n, v in words.items() for w in ("--" + n, v) if w)]


ROLES: Final[dict[str, Callable[[argparse.Namespace], None]]] = {
    "send": send, "stream": stream, "flood": flood, "read": read,
}  # fmt: skip


def main() -> int:
    """Read the command line and send or read."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=tuple(ROLES))
    for name in ("bootstrap", "topic"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--rate", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=work.SEED)
    parser.add_argument("--spaced", type=int, default=0)
    given = parser.parse_args()
    ROLES[given.role](given)
    return 0


if __name__ == "__main__":
    sys.exit(main())
