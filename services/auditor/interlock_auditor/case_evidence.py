"""Gathering a case: the batch's entry, what the topics still hold of it, the entries about it, a head of the log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from interlock.clock import Clock, milliseconds
from interlock.codec.framing import HEADER_BYTES, MAGIC
from interlock.errors import Refusal
from interlock.kafka.lookup import Lookup
from interlock.postgres.pool import Pool, borrowed
from interlock.schemas import endpoint_topic
from interlock.schemas.events import BatchAnswered
from interlock.schemas.topics import ENDPOINT_DEAD_LETTERS, ENDPOINT_RESULTS
from interlock_auditor import case, store, verifier
from interlock_auditor.case import Coordinates, Evidence, Reread
from interlock_auditor.case_errors import (
    CASE_AMBIGUOUS,
    CASE_CONTRADICTED,
    CASE_GONE,
    CASE_UNANSWERED,
    CASE_UNKNOWN,
    CASE_UNWITNESSED,
)
from interlock_auditor.case_schemas import CaseSchemas
from interlock_auditor.checkpoint import Checkpoint
from interlock_auditor.entry import Entry
from interlock_auditor.log import Log
from interlock_auditor.settings import Settings

WINDOWS_MAX: Final = 500
LOOK_SECONDS: Final = 0.05
NAMES_MAX: Final = 20

logger = structlog.get_logger("interlock.auditor")


class Cases:
    """Makes cases, one reader of Kafka for all of them."""

    def __init__(
        self,
        pool: Pool,
        log: Log,
        lookup: Lookup,
        schemas: CaseSchemas,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self.keys = {"log": str(log.key.public), "witness": str(log.witness_key)}
        self._pool, self._log, self._lookup, self._schemas = pool, log, lookup, schemas
        self._settings, self._clock = settings, clock

    async def close(self) -> None:
        """Disconnect."""
        await self._lookup.close()
        await self._schemas.close()

    async def bundle(
        self, coordinates: Coordinates, *, neighbours: bool = False
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return a request's bundle and its account; nothing leaves that a stranger would refuse.

        `neighbours`: with parts of the requests beside it, which prove its value too.
        Raises Refusal with one of the codes of `case_errors`, and Transient while a server is away.
        """
        entry, checkpoint = await self._batch(coordinates)
        evidence = await self._evidence(coordinates, entry, checkpoint)
        made = case.bundle(
            evidence,
            checkpoint.note,
            self.keys,
            lambda seq: self._log.proof(seq, checkpoint.size),
            neighbours=neighbours,
        )
        made["statement"] = self._log.statement(verifier.statement(made, self._log.origin))
        account, problems = verifier.examine(verifier.canonical(made), self.keys["log"], self.keys["witness"])
        if problems:
            logger.error("case.contradicted", name=str(coordinates), problems=problems)
            raise Refusal(CASE_CONTRADICTED, f"{coordinates}: {'; '.join(problems)}", problems=problems)
        return made, account

    async def locate(self, endpoint: str, request_id: str, requested_at: datetime) -> Coordinates:
        """Find a request by its id, near its time; raises Refusal(CASE_UNKNOWN | CASE_AMBIGUOUS)."""
        topic, at = endpoint + case.REQUESTS, milliseconds(requested_at)
        span = round(self._settings.case_search_seconds * 1000)
        wanted, times, found = request_id.encode(), case.times_of(requested_at), list[Coordinates]()
        for partition in await self._lookup.partitions(topic):
            start = await self._lookup.offset_at(topic, partition, at - span)
            if start is None:
                continue
            records = await self._lookup.read(
                topic,
                partition,
                start,
                rows_max=self._settings.case_search_rows_max,
                enough=lambda record: record.timestamp > at + span,
            )
            for record in records:
                if wanted in (record.value or b"") and await self._is(record, request_id, times):
                    found.append(Coordinates(topic, partition, record.offset))
        said = f"id {request_id!r} at {requested_at.astimezone(UTC).isoformat(timespec='milliseconds')}"
        if not found:
            raise Refusal(
                CASE_UNKNOWN,
                f"No request of {endpoint} with {said} within {self._settings.case_search_seconds:g} s of that time.",
            )
        if len(found) > 1:
            names = [str(each) for each in found[:NAMES_MAX]]
            raise Refusal(CASE_AMBIGUOUS, f"{len(found)} requests of {endpoint} have {said}: {', '.join(names)}.")
        return found[0]

    async def _is(self, record: Any, request_id: str, times: frozenset[int]) -> bool:
        """Say whether a request has this id and one of these times; one that cannot be read has neither."""
        schema = await self._schema_of(record.value)
        if schema is None:
            return False
        read = verifier.request_of(record.value, schema)
        return read is not None and read.get("request_id") == request_id and read.get("requested_at") in times

    async def _schema_of(self, value: bytes | None) -> str | None:
        if value is None or len(value) < HEADER_BYTES or value[0] != MAGIC:
            return None
        return await self._schemas.text(int.from_bytes(value[1:HEADER_BYTES], "big"))

    async def _batch(self, coordinates: Coordinates) -> tuple[Entry, Checkpoint]:
        """Return the entry of the batch that answered the request, and a head that the witness saw it under.

        An answer of a moment ago may not be entered or witnessed yet: that is waited for, within a bound.
        """
        deadline = self._clock.monotonic() + self._settings.case_wait_seconds
        entry, checkpoint = await self._entered(coordinates), self._log.witnessed
        while entry is None or checkpoint is None or checkpoint.size <= entry.seq:
            refusal = self._unseen(coordinates, entry, checkpoint) if entry else await self._absent(coordinates)
            if refusal.code not in (CASE_UNANSWERED, CASE_UNWITNESSED) or self._clock.monotonic() >= deadline:
                raise refusal
            await asyncio.sleep(LOOK_SECONDS)
            entry, checkpoint = entry or await self._entered(coordinates), self._log.witnessed
        return entry, checkpoint

    async def _entered(self, coordinates: Coordinates) -> Entry | None:
        async with borrowed(self._pool) as connection:
            return await store.batch_of(connection, *coordinates)

    def _unseen(self, coordinates: Coordinates, entry: Entry, checkpoint: Checkpoint | None) -> Refusal:
        seen = 0 if checkpoint is None else checkpoint.size
        said = f"{coordinates} was answered in entry {entry.seq}; the witness has seen {seen} entries."
        return Refusal(CASE_UNWITNESSED, said, entry=entry.seq, witnessed_size=seen)

    async def _absent(self, coordinates: Coordinates) -> Refusal:
        """Return why no batch of the log has the request."""
        bounds = await self._lookup.bounds(coordinates.topic, coordinates.partition)
        if bounds is None:
            topic = f"topic {coordinates.topic}, or it has no partition {coordinates.partition}"
            return Refusal(CASE_UNKNOWN, f"There is no {topic}.")
        begin, end = bounds
        if coordinates.offset >= end:
            return Refusal(CASE_UNKNOWN, f"{coordinates} was not written yet: the partition ends at {end}.", end=end)
        if coordinates.offset < begin:
            return Refusal(
                CASE_GONE,
                f"{coordinates} is not in the log, and its topic now begins at {begin}: it was never answered under "
                "this log's eyes.",
                begin=begin,
            )
        return Refusal(CASE_UNANSWERED, f"{coordinates} is there, but the log knows no batch that answered it.")

    async def _evidence(self, coordinates: Coordinates, entry: Entry, checkpoint: Checkpoint) -> Evidence:
        batch = entry.event
        async with borrowed(self._pool) as connection:
            by_endpoint = await store.entries_about(connection, actions=case.OF_ENDPOINT, endpoint=batch.endpoint)
        known = case.told(by_endpoint, checkpoint.size)
        results = await self._results(batch, entry, coordinates)
        row = next(at for at, value in enumerate(results) if case.place_of(value) == coordinates.offset)
        route = case.route_of(batch, known)
        result = case.result_of(results[row], route)
        if result["version"]:
            known += case.told(await self._about(batch, result, entry.seq), checkpoint.size)
        requests = await self._requests(batch)
        request = next((each for each in requests or () if each.offset == coordinates.offset), None)
        again = Reread(
            results=results,
            row=row,
            requests=None if requests is None else [each.value for each in requests],
            request=request,
            request_schema=None if request is None else await self._schema_of(request.value),
            dead_letter=await self._dead_letter(batch, coordinates) if result["rejection"] else None,
            at=self._clock.now(),
        )
        return Evidence(coordinates, entry, case.choose(batch, result, known), again)

    async def _about(self, batch: BatchAnswered, result: dict[str, Any], seq: int) -> list[Entry]:
        """Return the entries about the version that answered, and the windows that closed after the batch."""
        model, version, endpoint = result["model"], result["version"], batch.endpoint
        async with borrowed(self._pool) as connection:
            found = await store.entries_about(connection, actions=case.OF_MODEL, model=model)
            found += await store.entries_about(connection, actions=case.OF_VERSION, model=model, version=version)
            found += await store.entries_about(
                connection, actions=case.OF_DRIFT, model=model, version=version, endpoint=endpoint
            )
            return found + await store.page(connection, seq, WINDOWS_MAX, action="WindowClosed", endpoint=endpoint)

    async def _results(self, batch: BatchAnswered, entry: Entry, coordinates: Coordinates) -> Sequence[bytes]:
        """Return the batch's results as the topic holds them, in order; raises Refusal where it does not."""
        topic, at = endpoint_topic(ENDPOINT_RESULTS, batch.endpoint), milliseconds(batch.at)
        start = await self._lookup.offset_at(topic, batch.partition, at)
        found: dict[int, bytes] = {}

        def take(record: Any) -> bool:
            place = case.place_of(record.value or b"") if record.timestamp == at else None
            if place is not None and batch.first_offset <= place < batch.next_offset:
                found.setdefault(place, record.value)
            return len(found) == batch.rows

        if start is not None:
            rows_max = batch.rows + self._settings.case_rows_beside_max
            await self._lookup.read(topic, batch.partition, start, rows_max=rows_max, enough=take)
        if len(found) < batch.rows:
            raise Refusal(
                CASE_GONE,
                f"{topic}/{batch.partition} holds {len(found)} of the {batch.rows} results of the batch that entry "
                f"{entry.seq} of the log stands for.",
                entry=entry.seq,
            )
        if coordinates.offset not in found:
            raise Refusal(CASE_UNKNOWN, f"{coordinates} is no request: the batch over it (entry {entry.seq}) has none.")
        return [found[place] for place in sorted(found)]

    async def _requests(self, batch: BatchAnswered) -> list[Any] | None:
        """Return the batch's requests as the topic holds them; None where they are not all there any more."""
        records = await self._lookup.read(
            batch.topic,
            batch.partition,
            batch.first_offset,
            rows_max=batch.rows,
            enough=lambda record: record.offset >= batch.next_offset,
        )
        return records if len(records) == batch.rows else None

    async def _dead_letter(self, batch: BatchAnswered, coordinates: Coordinates) -> bytes | None:
        """Return the dead letter as the topic holds it; None where it is not there any more."""
        topic, at = endpoint_topic(ENDPOINT_DEAD_LETTERS, batch.endpoint), milliseconds(batch.at)
        start = await self._lookup.offset_at(topic, batch.partition, at)
        if start is None:
            return None
        rows_max = batch.rejected + self._settings.case_rows_beside_max
        found: list[bytes] = []

        def take(record: Any) -> bool:
            if record.timestamp == at and record.key == str(coordinates).encode() and not found:
                found.append(record.value)
            return bool(found)

        await self._lookup.read(topic, batch.partition, start, rows_max=rows_max, enough=take)
        return found[0] if found else None
