"""The reference loops: the least that a transactional service on Kafka can do, each in a process of its own.

`echo` copies the bytes of requests into results. `bare` decodes them into columns, scores them with the model in its
own process and encodes what it answers. Both take what there is, at most `ROWS_MAX` requests, and commit results and
offsets in one transaction after the other. They keep no route, no provenance, no dead letters and no observations,
and they survive nothing: what they leave out is what Interlock adds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord

from interlock.codec.columns import decode
from interlock.codec.framing import HEADER_BYTES, frame
from interlock.codec.plan import compile_plan
from tests.bench import work

ROWS_MAX: Final = 3_200
POLL_MILLISECONDS: Final = 200
FETCH_WAIT_MILLISECONDS: Final = 10
BATCH_BYTES_MAX: Final = 768 * 1024
REQUEST_BYTES_MAX: Final = 16 * 1024 * 1024
RETRY_MILLISECONDS: Final = 2
"""The driver waits 100 ms by default, each time the broker still writes the last transaction's markers."""
TRANSACTION_MILLISECONDS_MAX: Final = 60_000

Answer = Callable[[Sequence[ConsumerRecord]], Sequence[bytes]]


def echo(records: Sequence[ConsumerRecord]) -> Sequence[bytes]:
    """Answer with the request's own bytes."""
    return [record.value for record in records]


class Bare:
    """Columns in, one call of the model, columns out."""

    def __init__(self, model: bytes, schema: dict[str, Any]) -> None:
        self._session = work.session(model)
        self._plan = compile_plan(schema)
        self._features = [each["name"] for each in schema["fields"] if each["type"] == "double"]
        self._head = frame(work.RESULT_SCHEMA_ID, b"")

    def __call__(self, records: Sequence[ConsumerRecord]) -> Sequence[bytes]:
        """Return one framed result for each record: request id and score."""
        columns = decode([record.value for record in records], self._plan, HEADER_BYTES)
        matrix = np.empty((len(records), len(self._features)), dtype=np.float32)
        for index, name in enumerate(self._features):
            matrix[:, index] = columns.columns[name].numbers
        scores = self._session.run(["probabilities"], {"X": matrix})[0][:, 1]
        cells = np.ascontiguousarray(scores, dtype="<f8").tobytes()
        names = columns.texts("request_id") or []
        head = self._head + bytes([2 * len(names[0] or b"")])
        return [
            b"".join((head, name, cells[start : start + 8]))
            for start, name in zip(range(0, len(cells), 8), names, strict=True)
            if name
        ]


async def run(answer: Answer, given: argparse.Namespace) -> None:
    """Take, answer, commit, until SIGTERM."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    consumer = AIOKafkaConsumer(
        given.requests,
        bootstrap_servers=given.bootstrap,
        group_id=given.group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=FETCH_WAIT_MILLISECONDS,
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=given.bootstrap,
        transactional_id=given.group,
        transaction_timeout_ms=TRANSACTION_MILLISECONDS_MAX,
        acks="all",
        enable_idempotence=True,
        linger_ms=0,
        max_batch_size=BATCH_BYTES_MAX,
        max_request_size=REQUEST_BYTES_MAX,
        retry_backoff_ms=RETRY_MILLISECONDS,
    )
    await producer.start()
    await consumer.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    try:
        while not stopping.is_set():
            taken = await consumer.getmany(timeout_ms=POLL_MILLISECONDS, max_records=ROWS_MAX)
            if taken:
                await commit(producer, given, {place: (records, answer(records)) for place, records in taken.items()})
    finally:
        await consumer.stop()
        await producer.stop()


async def commit(producer: AIOKafkaProducer, given: argparse.Namespace, answered: dict[Any, Any]) -> None:
    """Write results and offsets in one transaction."""
    async with producer.transaction():
        for place, (records, values) in answered.items():
            builder = producer.create_batch()
            for record, value in zip(records, values, strict=True):
                if builder.append(timestamp=None, key=record.key, value=value) is None:
                    await producer.send_batch(builder, given.results, partition=place.partition)
                    builder = producer.create_batch()
                    builder.append(timestamp=None, key=record.key, value=value)
            await producer.send_batch(builder, given.results, partition=place.partition)
        offsets = {place: records[-1].offset + 1 for place, (records, _) in answered.items()}
        await producer.send_offsets_to_transaction(offsets, given.group)


def main() -> int:
    """Read the command line, which is a peer's, and run the loop that it names."""
    logging.getLogger("aiokafka").setLevel("ERROR")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("loop", choices=("echo", "bare"))
    for name in ("bootstrap", "requests", "results", "group"):
        parser.add_argument("--" + name, required=True)
    for name in ("model", "schema"):
        parser.add_argument("--" + name, required=True, type=Path)
    given, _ = parser.parse_known_args()
    schema = json.loads(given.schema.read_bytes())
    uvloop.run(run(echo if given.loop == "echo" else Bare(given.model.read_bytes(), schema), given))
    return 0


if __name__ == "__main__":
    sys.exit(main())
