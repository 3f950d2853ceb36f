"""Poison at the head of a partition: how long the good requests behind it wait, for every reason there is."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Sequence

import pytest
import structlog
from confluent_kafka import Consumer, Producer, TopicPartition

from interlock.errors import Reason
from interlock.ids import uuid7
from interlock.serving.failures import ModelDied, ModelRaised, ModelTimedOut
from interlock.signature import Matrix
from tests.integration.router.rig import Rig, RunningRouter, sums
from tests.integration.router.test_rejections import Killer

BLOCKED_SECONDS_MAX = 2.0
DEATHS_SECONDS_MAX = 5.0
"""A search among 2,000 rows costs six deaths, and half a second's pause (`death_pause_seconds`) after each."""
TRIES_MAX = 3
BATCH_ROWS = 2_000
CULPRIT = 7_777
HUGE_BYTES = 600_000
LARGEST_MAX = 20
"""How many of the poison are as large as this: more of them would measure the network."""

log = structlog.get_logger("tests")


async def answers(matrix: Matrix) -> Matrix:
    """Answer as `sums` does, but for the rows that are to be answered badly."""
    outputs = await sums(matrix, 1)
    outputs[matrix[:, 1] == -1] = math.nan
    outputs[matrix[:, 1] == -2] = -5
    return outputs


def poison(rig: Rig, count: int) -> tuple[list[bytes | None], Counter[str]]:
    """Return so many values of every reason that a record alone can have, and how many there are of each."""
    good = rig.value(1)
    kinds: tuple[tuple[bytes | None, Reason], ...] = (
        (b'{"f0": 1}', Reason.BAD_FRAMING),
        (b"\x00\x00\x0f\x42\x40" + good[5:], Reason.UNKNOWN_SCHEMA),
        (good[:-3], Reason.TRUNCATED),
        (good + b"\x00\x01", Reason.TRAILING_BYTES),
        (good[:5] + b"\x03" + good[6:], Reason.MALFORMED),
        (rig.value(1, f3=math.nan), Reason.MISSING_FEATURE),
        (None, Reason.EMPTY),
        (rig.value(1, f1=-1.0), Reason.MODEL_NOT_FINITE),
        (rig.value(1, f1=-2.0), Reason.MODEL_OUT_OF_RANGE),
        (b"x" * HUGE_BYTES, Reason.TOO_LARGE),
    )
    made = [kinds[index % len(kinds)] for index in range(count)]
    large = [index for index, (_, reason) in enumerate(made) if reason is Reason.TOO_LARGE][LARGEST_MAX:]
    for index in large:
        made[index] = kinds[0]
    return [value for value, _ in made], Counter(reason.value for _, reason in made)


class Head:
    """One partition: what is produced to it, and when its first good result can be read."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._consumer = Consumer(
            {
                "bootstrap.servers": rig.settings.kafka_bootstrap_servers,
                "group.id": uuid7(),
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 10,
            }
        )
        self._consumer.assign([TopicPartition(rig.topic("results"), 0, 0)])
        self._producer = Producer(
            {"bootstrap.servers": rig.settings.kafka_bootstrap_servers, "linger.ms": 1, "message.max.bytes": 2**24}
        )

    def blocked_seconds(self, bad: Sequence[bytes | None], good: Sequence[bytes]) -> float:
        """Produce the bad and behind them the good; return how long the first good one waited for its result.

        From the first poison's produce to the receipt of the result, read committed.
        """
        while self._consumer.consume(5_000, 0.3):
            pass
        started = time.monotonic()
        for value in (*bad, *good):
            while True:
                try:
                    self._producer.produce(self._rig.topic("requests"), key="k", value=value, partition=0)
                    break
                except BufferError:
                    self._producer.poll(0.01)
        self._producer.poll(0)
        seen = 0
        while time.monotonic() < started + 60:
            self._producer.poll(0)
            for record in self._consumer.consume(5_000, 0.05):
                seen += 1
                if seen > len(bad):
                    assert record.value() is not None
                    return time.monotonic() - started
        raise AssertionError(f"{seen} results of {len(bad) + len(good)} after a minute")

    def close(self) -> None:
        """Disconnect."""
        self._producer.flush(10)
        self._consumer.close()


async def blocked(
    rig: Rig, router: RunningRouter, bad: Sequence[bytes | None], good: Sequence[bytes], seconds_max: float
) -> list[float]:
    """Return the seconds of each try on a lane that runs and knows its schemas, until one is below the bound.

    Neighbours on the machine can only add, so a test takes the least of a few.
    """
    head = Head(rig)
    found: list[float] = []
    async with router:
        await asyncio.to_thread(head.blocked_seconds, (), [rig.value(1)])
        while len(found) < TRIES_MAX and min(found, default=seconds_max) >= seconds_max:
            found.append(round(await asyncio.to_thread(head.blocked_seconds, bad, good), 3))
    await asyncio.to_thread(head.close)
    return found


@pytest.mark.parametrize("count", [1, 100, 5_000])
async def test_poison_of_every_reason_holds_the_partition_up_for_less_than_two_seconds(rig: Rig, count: int) -> None:
    """Each becomes its letter, and the first good request behind them has its result in time."""
    rig.serving.add("m", 1, answers)
    rig.route((1, 10_000))
    bad, reasons = poison(rig, count)
    good = [rig.value(number) for number in range(100)]
    router = RunningRouter(rig, request_bytes_max=HUGE_BYTES // 2)
    seconds = await blocked(rig, router, bad, good, BLOCKED_SECONDS_MAX)
    log.info("blocked", poison=count, seconds=seconds)
    letters = Counter(each.reason for each in await rig.letters(count * len(seconds)))
    assert letters == Counter({reason: many * len(seconds) for reason, many in reasons.items()})
    assert min(seconds) < BLOCKED_SECONDS_MAX, f"{count} of poison: {seconds} s"


@pytest.mark.parametrize(
    ("failure", "reason", "seconds_max"),
    [
        (ModelRaised, Reason.MODEL_RAISED, BLOCKED_SECONDS_MAX),
        (None, Reason.MODEL_WRONG_SHAPE, BLOCKED_SECONDS_MAX),
        (ModelDied, Reason.MODEL_CRASHED, DEATHS_SECONDS_MAX),
        (ModelTimedOut, Reason.MODEL_TIMEOUT, DEATHS_SECONDS_MAX),
    ],
)
@pytest.mark.parametrize("place", [0, BATCH_ROWS - 1])
async def test_a_row_that_breaks_its_version_holds_a_batch_up_for_less_than_two_seconds(
    rig: Rig,
    place: int,
    failure: type[Exception] | None,
    reason: Reason,
    seconds_max: float,
) -> None:
    """One culprit among 2,000 rows of a batch, at its head or its end: found and set apart, all others answered.

    A row that kills its version takes longer, for after each death the lane lets the replica come back.
    """

    async def short(matrix: Matrix) -> Matrix:
        outputs = await sums(matrix, 1)
        return outputs[:-1] if (matrix[:, 0] == CULPRIT).any() else outputs

    rig.serving.add("m", 1, short if failure is None else Killer((CULPRIT,), failure))
    rig.route((1, 10_000))
    bad = [rig.value(CULPRIT if each == place else each) for each in range(BATCH_ROWS)]
    seconds = await blocked(rig, RunningRouter(rig), bad, [rig.value(5_000)], seconds_max)
    log.info("blocked", reason=reason, place=place, seconds=seconds)
    letters = await rig.letters(len(seconds))
    assert {(each.reason, each.value) for each in letters} == {(reason.value, rig.value(CULPRIT))}
    assert len(letters) == len(seconds)
    assert min(seconds) < seconds_max, f"{reason} at row {place}: {seconds} s"
