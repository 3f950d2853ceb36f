"""Faust (faust-streaming), at least once: an agent over `take_events(512)` that calls the model once a batch.

Faust's own exactly-once duplicates and crashes at a rebalance (its open issue 323), so the guarantee it can keep is
compared. What a competent user turns: raw bytes with fastavro inside in place of `faust.Record`, one call of the
model a batch, `send` without waiting for each answer (the batch is awaited as a whole before Faust may acknowledge
it), a memory store, no web server, uvloop.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from typing import Any

import faust
from mode.loop import use

from tests.bench.peers.work import BATCH_ROWS_MAX, WAIT_SECONDS_MAX, Assignment, ready


def main() -> None:
    """Run until SIGTERM, which Faust's worker answers itself."""
    use("uvloop")
    assignment = Assignment.read()
    with tempfile.TemporaryDirectory() as folder:
        app = build(assignment, folder)
        worker = faust.Worker(app, loglevel="WARNING", quiet=True, redirect_stdouts=False, stdout=sys.stderr)
        worker.execute_from_commandline()


def build(assignment: Assignment, folder: str) -> faust.App:
    """Return the app with its one agent; Faust wants a folder, though nothing is kept in it."""
    work = assignment.work()
    app = faust.App(
        assignment.group,
        broker=f"kafka://{assignment.bootstrap}",
        store="memory://",
        datadir=folder,
        processing_guarantee="at_least_once",
        web_enabled=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        producer_linger_ms=5,
        producer_max_batch_size=256 * 1024,
    )
    requests = app.topic(assignment.requests, key_type=bytes, value_type=bytes, value_serializer="raw")
    results = app.topic(assignment.results, key_type=bytes, value_type=bytes, value_serializer="raw")

    @app.agent(requests)
    async def score(stream: Any) -> AsyncIterator[None]:
        async for events in stream.take_events(BATCH_ROWS_MAX, within=WAIT_SECONDS_MAX):
            answers = work.answer([event.value for event in events])
            sent = [
                await results.send(key=event.key, value=answer) for event, answer in zip(events, answers, strict=True)
            ]
            await asyncio.gather(*sent)
            yield

    @app.on_partitions_assigned.connect  # type: ignore[arg-type]  # its own documentation connects such a function
    async def assigned(app: faust.App, assigned: set[Any], **_: Any) -> None:
        ready()

    return app


if __name__ == "__main__":
    main()
