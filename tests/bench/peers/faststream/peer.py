"""FastStream over aiokafka, at least once: a subscriber of batches of 512 that publishes a batch for each partition.

FastStream keeps no offsets in transactions; its strongest way is to commit after the handler. What a competent user
turns: a decoder that takes the whole batch as it is (the default parses each message into an object of its own), no
type casting of arguments, `publish_batch` (one prepared record batch), batches that may grow to 1 MiB, uvloop.
Requests of one partition are answered into the same partition, so that the order per key is kept.
"""

from __future__ import annotations

import asyncio
import signal
from itertools import groupby
from operator import attrgetter
from typing import Any

import uvloop
from faststream import AckPolicy  # type: ignore[import-not-found]  # not in our environment
from faststream.kafka import KafkaBroker  # type: ignore[import-not-found]  # not in our environment

from tests.bench.peers.work import BATCH_ROWS_MAX, WAIT_SECONDS_MAX, Assignment, ready


async def main(assignment: Assignment) -> None:
    """Run until SIGTERM."""
    work = assignment.work()
    broker = KafkaBroker(assignment.bootstrap, apply_types=False, max_batch_size=1024 * 1024, linger_ms=0, logger=None)

    async def whole(message: Any) -> Any:
        return message.raw_message

    @broker.subscriber(  # type: ignore[untyped-decorator]  # not in our environment
        assignment.requests,
        group_id=assignment.group,
        batch=True,
        max_records=BATCH_ROWS_MAX,
        batch_timeout_ms=int(WAIT_SECONDS_MAX * 1000),
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.ACK,
        decoder=whole,
    )
    async def score(records: Any) -> None:
        for partition, of_it in groupby(records, key=attrgetter("partition")):
            answers = work.answer([record.value for record in of_it])
            await broker.publish_batch(*answers, topic=assignment.results, partition=partition)

    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await broker.start()
    ready()
    await stopped.wait()
    await broker.stop()


if __name__ == "__main__":
    uvloop.run(main(Assignment.read()))
