"""The writer of the log: one process at a time takes records from Kafka and enters each once, chunk by chunk.

A chunk is one transaction on the very connection whose advisory lock makes this process the writer. Where to go on
reading follows from the rows themselves, so nothing can be entered twice or left out, whatever dies when.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

from interlock import metrics
from interlock.backoff import pause
from interlock.clock import Clock
from interlock.kafka.chunks import ChunkReader, ChunkRecord, Gap
from interlock.merkle import Tree
from interlock.postgres.pool import Connection, dedicated
from interlock.schemas import endpoint_topic
from interlock.schemas.topics import (
    BUILD_EVENTS,
    DEPLOY_EVENTS,
    ENDPOINT_BATCHES,
    ENDPOINT_REQUESTS,
    MODEL_EVENTS,
    MONITOR_EVENTS,
    ROUTES,
)
from interlock_auditor import store
from interlock_auditor.entry import Entry, endpoint_of, leaves, of_record
from interlock_auditor.log import Log, Trouble
from interlock_auditor.log_check import Patrol, distrust, load
from interlock_auditor.settings import Settings
from interlock_auditor.witness_client import Witness

CONTROL_TOPICS: Final = (MODEL_EVENTS, BUILD_EVENTS, DEPLOY_EVENTS, ROUTES, MONITOR_EVENTS)
LEAD_SECONDS: Final = 1.0
"""How often a process that is not the writer asks whether it may be."""
REJOIN_SECONDS: Final = 30.0
"""How often topics are looked at for new partitions when none is missing."""

log_ = structlog.get_logger("interlock.auditor")


class Writer:
    """Enters what Kafka brings, while this process is the writer and the table is what it was."""

    def __init__(self, settings: Settings, log: Log, witness: Witness, clock: Clock, stopping: asyncio.Event) -> None:
        self._settings = settings
        self._log = log
        self._witness = witness
        self._clock = clock
        self._stopping = stopping
        self._chains: dict[tuple[str, int], int] = {}
        """For (topic of batches, partition), the offset of the requests at which the next batch must begin."""

    async def run(self) -> None:
        """Write until told to stop; raises Transient where a server goes away."""
        while not self._stopping.is_set():
            try:
                async with dedicated(self._settings.postgres_dsn.get_secret_value()) as connection:
                    if not await store.lead(connection):
                        self._log.trouble = None
                        await pause(self._stopping, LEAD_SECONDS)
                        continue
                    self._log.writer = connection.get_server_pid()
                    await self._lead(connection)
            finally:
                self._log.leading = False
            if self._log.trouble is not None:
                await pause(self._stopping, self._settings.unsure_seconds)

    async def _lead(self, connection: Connection) -> None:
        """Look at the table as a whole, then enter what comes."""
        tree, wrong = await load(connection)
        trouble = None
        if wrong:
            trouble = Trouble(f"The numbers of the table's rows have a gap at {wrong[0].first}.", tuple(wrong))
        trouble = trouble or await distrust(self._settings, self._log, tree, self._witness)
        self._log.gaps = await store.gaps(connection)
        self._distrust(trouble)
        if trouble is None:
            self._log.tree, self._log.leading = tree, True
            log_.info("auditor.leads", entries=tree.size, root=tree.root().hex())
            await self._enter(connection)

    def _distrust(self, trouble: Trouble | None) -> None:
        """Note why nothing is entered, or that all is well; say what is new."""
        before, self._log.trouble = self._log.trouble, trouble
        if trouble is not None and trouble != before:
            log_.error("auditor.refuses", detail=trouble.detail, todo="`interlock audit verify` names the rows")
        elif trouble is None and before is not None:
            log_.info("auditor.trusts_again")

    async def _enter(self, connection: Connection) -> None:
        """Take chunks and enter them until told to stop, or until the table is not what it was."""
        endpoints = await store.endpoints(connection)
        topics = [endpoint_topic(ENDPOINT_BATCHES, each) for each in endpoints]
        self._chains = {}
        for topic in topics:
            self._chains |= await store.chains(connection, topic)
        reader = ChunkReader(self._settings, await store.positions(connection), self._settings.chunk_rows_max)
        patrol = Patrol(self._settings.patrol_entries)
        try:
            await reader.start((*CONTROL_TOPICS, *topics))
            joined = walked = self._clock.monotonic()
            while not self._stopping.is_set() and self._log.trouble is None:
                records = await reader.take(self._settings.chunk_seconds)
                await self._keep_gaps(connection, reader.gaps())
                if records:
                    await self._append(connection, reader, records)
                now = self._clock.monotonic()
                if now - joined >= (self._settings.topics_seconds if reader.missing else REJOIN_SECONDS):
                    await reader.join()
                    joined = now
                if now - walked >= self._settings.patrol_seconds and self._log.trouble is None:
                    self._distrust(await patrol.step(connection, self._log.tree))
                    self._log.lag = await reader.lag()
                    metrics.AUDIT_LAG.set(self._log.lag)
                    walked = now
        finally:
            await reader.close()

    async def _append(self, connection: Connection, reader: ChunkReader, records: Sequence[ChunkRecord]) -> None:
        """Enter a chunk: rows first, committed, then the tree; what the rows say is looked at on the way."""
        tree: Tree = self._log.tree
        entries = [of_record(tree.size + number, record) for number, record in enumerate(records)]
        hashes = b"".join(leaves(entries))
        async with connection.transaction():
            end = await store.end(connection)
            if end != tree.size:
                self._distrust(Trouble(f"The table ends at {end}; {tree.size} entries were written."))
                return
            await store.append(connection, entries)
        tree.extend_with(hashes)
        metrics.AUDIT_ENTRIES.set(tree.size)
        await self._keep_gaps(connection, self._broken_chains(entries))
        for each in entries:
            if each.action == "EndpointCreated" and reader.want(
                topic := endpoint_topic(ENDPOINT_BATCHES, each.subject.rpartition("/")[2])
            ):
                log_.info("auditor.joins", topic=topic)

    def _broken_chains(self, entries: Sequence[Entry]) -> list[Gap]:
        """Return where a batch does not begin at the offset behind the batch before it."""
        found = []
        for each in entries:
            if each.action != "BatchAnswered":
                continue
            begins, behind = (int(part) for part in each.subject.split("/")[3:5])
            place = (each.topic, each.partition)
            expected = self._chains.get(place, begins)
            self._chains[place] = behind
            if begins != expected:
                topic = endpoint_topic(ENDPOINT_REQUESTS, endpoint_of(each.topic))
                said = f"entry {each.seq}: a batch of {topic}/{each.partition} begins at {begins}, not at {expected}."
                found.append(Gap(topic, each.partition, expected, begins, said))
        return found

    async def _keep_gaps(self, connection: Connection, gaps: Sequence[Gap]) -> None:
        """Keep gaps that were noticed, and say each once."""
        for gap in gaps:
            if await store.keep_gap(connection, gap):
                log_.error("auditor.gap", topic=gap.topic, partition=gap.partition, detail=gap.detail)
                metrics.AUDIT_GAPS.labels(gap.topic).inc()
                self._log.gaps.append(gap)
