"""Bytewax, at least once: a dataflow that keys by partition and collects 512 requests for one call of the model.

Bytewax keeps offsets in recovery snapshots of its own, not in Kafka, and its sink may repeat the epoch that was under
way: at least once, and only with a recovery store, so one is kept. What a competent user turns: one worker process
(partitions of one process share its interpreter), consumption in chunks of the batch's size. `--form batch` leaves
out `collect` and scores whatever chunk the source handed over (`flat_map_batch`); it measured within 5 % of it.
"""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, NoReturn

import bytewax.operators as op  # type: ignore[import-not-found]  # not in our environment
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource  # type: ignore[import-not-found]
from bytewax.dataflow import Dataflow  # type: ignore[import-not-found]  # not in our environment
from bytewax.errors import BytewaxRuntimeError  # type: ignore[import-not-found]  # not in our environment
from bytewax.recovery import RecoveryConfig, init_db_dir  # type: ignore[import-not-found]
from bytewax.run import cli_main  # type: ignore[import-not-found]  # not in our environment

from tests.bench.peers.work import BATCH_ROWS_MAX, WAIT_SECONDS_MAX, Assignment, ready

EPOCH_SECONDS = 1.0
"""How often offsets are kept."""


def flow(assignment: Assignment) -> Dataflow:
    """Return the dataflow."""
    work = assignment.work()
    dataflow = Dataflow("peer")
    source = KafkaSource([assignment.bootstrap], [assignment.requests], batch_size=BATCH_ROWS_MAX)
    requests = op.input("requests", dataflow, source)

    def score(messages: Iterable[Any]) -> list[Any]:
        batch = list(messages)
        answers = work.answer([message.value for message in batch])
        return [
            KafkaSinkMessage(message.key, answer, partition=message.partition)
            for message, answer in zip(batch, answers, strict=True)
        ]

    if assignment.form != "batch":
        keyed = op.key_on("by-partition", requests, lambda message: str(message.partition))
        wait = timedelta(seconds=WAIT_SECONDS_MAX)
        batches = op.collect("batches", keyed, timeout=wait, max_size=BATCH_ROWS_MAX)
        results = op.flat_map("score", batches, lambda batch: score(batch[1]))
    else:
        results = op.flat_map_batch("score", requests, lambda chunk: score(chunk) if chunk else [])
    op.output("results", results, KafkaSink([assignment.bootstrap], assignment.results))
    return dataflow


def main() -> None:
    """Run until SIGTERM."""
    assignment = Assignment.read()

    stopped = False

    def stop(*_: object) -> NoReturn:
        nonlocal stopped
        stopped = True
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    with tempfile.TemporaryDirectory() as folder:
        init_db_dir(folder, 1)
        ready()
        try:
            cli_main(
                flow(assignment),
                workers_per_process=1,
                epoch_interval=timedelta(seconds=EPOCH_SECONDS),
                recovery_config=RecoveryConfig(folder),
            )
        except (KeyboardInterrupt, BytewaxRuntimeError):  # the second where a step of the dataflow was interrupted
            if not stopped:
                raise


if __name__ == "__main__":
    main()
