"""One endpoint as an application sees it: requests in, results out, whatever version answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from interlock.client.errors import TimedOut
from interlock.client.records import Feature, RequestWriter, Result, Sent
from interlock.codec import rows
from interlock.codec.framing import unframe
from interlock.ids import uuid7
from interlock.schemas import endpoint_topic
from interlock.schemas.events import LabelRecorded
from interlock.schemas.topics import ENDPOINT_LABELS, ENDPOINT_SHADOW

if TYPE_CHECKING:
    from interlock.client.session import Interlock
    from interlock.kafka.plain import PlainConsumer

WAITING_MAX = 10_000

Since = Literal["opened", "beginning", "end"]


class Endpoint:
    """A stable name with a request topic and a result topic; get one from `Interlock.endpoint`."""

    def __init__(self, session: Interlock, details: Mapping[str, Any], marks: Mapping[int, int]) -> None:
        self._session = session
        self._writer = RequestWriter(details["request_schema"], details["request_schema_id"])
        self._marks = dict(marks)
        self._waiting: dict[str, asyncio.Future[Result]] = {}
        self._answers: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()
        self.name: str = details["name"]
        self.model: str = details["model"]
        self.requests_topic: str = details["topics"]["requests"]
        self.results_topic: str = details["topics"]["results"]

    @property
    def features(self) -> tuple[Feature, ...]:
        """What a request must or may say, in the order of the model's signature."""
        return self._writer.features

    async def request(
        self, *, key: str, request_id: str | None = None, requested_at: datetime | None = None, **features: Any
    ) -> Sent:
        """Send one request and return where it lies. Requests with one key are answered in order.

        Raises MissingFeature, UnknownFeature or WrongType before anything is sent.
        """
        request_id = request_id or uuid7()
        value = self._writer.write(request_id, requested_at or self._session.clock.now(), features)
        producer = await self._session.producer()
        place = await producer.send(self.requests_topic, key.encode(), value)
        return Sent(request_id, place.topic, place.partition, place.offset)

    async def send_many(self, requests: Iterable[tuple[str, Mapping[str, Any]]]) -> int:
        """Send (key, features) pairs as fast as Kafka takes them; return how many there were.

        Each request is checked as in `request`; the first bad one raises, those before it are sent.
        """
        producer = await self._session.producer()
        pairs = ((key.encode(), self._writer.write(uuid7(), self._session.clock.now(), each)) for key, each in requests)
        return await producer.send_many(self.requests_topic, pairs)

    async def label(
        self,
        request_id: str,
        requested_at: datetime,
        label: float,
        *,
        weight: float | None = None,
        source: str = "",
        at: datetime | None = None,
    ) -> None:
        """Say the truth about a past request, as it became known at `at` (now); a later word replaces it.

        `requested_at` is the request's own time, as it stands in its result: with the id it names the request. `label`
        is 1 or 0 (or a regression's number), `weight` what the decision is worth.
        """
        said = LabelRecorded(
            endpoint=self.name,
            request_id=request_id,
            requested_at=requested_at,
            label=float(label),
            weight=weight,
            source=source,
            at=at or self._session.clock.now(),
        )
        producer = await self._session.producer()
        await producer.send(endpoint_topic(ENDPOINT_LABELS, self.name), request_id.encode(), rows.encode(said))

    async def results(self, group: str | None = None, *, since: Since = "opened") -> AsyncGenerator[Result, None]:
        """Yield committed results as they come, for ever.

        Without a group: every result since this endpoint was opened (or since the topic's beginning, or from now
        on). With a group: this member's share, going on where the group stopped, at least once.
        """
        async with aclosing(self._follow(self.results_topic, group, since)) as results:
            async for result in results:
                yield result

    async def shadows(self, *, since: Literal["beginning", "end"] = "beginning") -> AsyncGenerator[Result, None]:
        """Yield what versions in the shadow answer as it comes, for ever, in the form of results.

        A version is in the shadow where the deployer puts it there (INTERLOCK_SHADOW_APPROVED). There is at most one
        answer of each to a request, and none where its lane had no time to spare.
        """
        async with aclosing(self._follow(endpoint_topic(ENDPOINT_SHADOW, self.name), None, since)) as results:
            async for result in results:
                yield result

    async def ask(self, *, key: str, timeout_seconds: float = 10.0, **features: Any) -> Result:
        """Send one request and return its own result (which may be a rejection).

        Raises TimedOut if none comes in time; the request may still be answered.
        """
        await self._listen(timeout_seconds)
        if len(self._waiting) >= WAITING_MAX:
            raise TimedOut(f"{WAITING_MAX} questions are waiting for their results already.")
        request_id = uuid7()
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = answer
        try:
            sent = await self.request(key=key, request_id=request_id, **features)
            async with asyncio.timeout(timeout_seconds):
                return await answer
        except TimeoutError:
            raise TimedOut(
                f"No result for {sent.topic}/{sent.partition}/{sent.offset} within {timeout_seconds:g} seconds."
            ) from None
        finally:
            self._waiting.pop(request_id, None)

    async def close(self) -> None:
        """Stop listening for the results of questions."""
        if self._answers is not None:
            self._answers.cancel()
            await asyncio.gather(self._answers, return_exceptions=True)
            self._answers = None

    async def _listen(self, timeout_seconds: float) -> None:
        """Have one reader of results for all questions, in place before the first question is sent."""
        if self._answers is None or self._answers.done():
            self._listening.clear()
            self._answers = asyncio.create_task(self._answer())
        ready = asyncio.create_task(self._listening.wait())
        await asyncio.wait({ready, self._answers}, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._answers.done():
            await self._answers
        if not self._listening.is_set():
            raise TimedOut(f"The results of {self.name} could not be read within {timeout_seconds:g} seconds.")

    async def _answer(self) -> None:
        consumer = await self._session.consumer(self.results_topic)
        try:
            await consumer.seek(await consumer.ends())
            self._listening.set()
            async with aclosing(self._read(consumer)) as results:
                async for result in results:
                    waiting = self._waiting.get(result.request_id) if result else None
                    if waiting is not None and not waiting.done() and result is not None:
                        waiting.set_result(result)
        finally:
            self._listening.clear()
            await self._session.release(consumer)

    async def _follow(self, topic: str, group: str | None, since: Since) -> AsyncGenerator[Result, None]:
        consumer = await self._session.consumer(topic, group)
        try:
            if group is None:
                await consumer.seek(await self._begin(consumer, since))
            async with aclosing(self._read(consumer)) as results:
                async for result in results:
                    if result is not None:
                        yield result
        finally:
            await self._session.release(consumer)

    async def _begin(self, consumer: PlainConsumer, since: Since) -> Mapping[int, int]:
        if since == "end":
            return await consumer.ends()
        return self._marks if since == "opened" else {}

    async def _read(self, consumer: PlainConsumer) -> AsyncGenerator[Result | None, None]:
        """Yield each result, and None whenever nothing came for a while (so that a caller may stop)."""
        reader = self._session.reader
        async for records in consumer.batches():
            if not records:
                yield None
            for record in records:
                schema_id, body = unframe(record.value)
                if not reader.knows(schema_id):
                    reader.learn(schema_id, await self._session.schema(schema_id))
                yield reader.read(schema_id, body, record.key, record.timestamp)
