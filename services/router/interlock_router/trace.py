"""The trace of one batch: a span from taken to committed, linked both ways to the requests that are sampled.

A batch is no child of any request, for it answers hundreds: its span has links to the sampled ones, and each of those
gets a short span of its own, in its own trace, that links back to the batch. Per request that is not sampled there is
nothing but a look at its header. Source: OpenTelemetry's messaging conventions, batch processing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Final

from interlock import metrics, semconv, telemetry
from interlock.clock import milliseconds
from interlock.kafka.partition import TopicPartition
from interlock_router.score import Scored

HEADER: Final = "traceparent"
_SECOND: Final = timedelta(seconds=1)
_SAMPLED: Final = frozenset(b"13579bdf")  # the last hex digit of the flags, where the sampled bit is set


class LaneTraces:
    """The traces of one lane's batches, with a bound on how many sampled requests are linked in a second.

    A share of the requests, sampled, would make the cost of tracing grow with the load; under load this bound holds
    it, and a request that finds no room keeps its own trace, without the batch.
    """

    def __init__(self, endpoint: str, source: TopicPartition, group: str, links_max: int) -> None:
        self._endpoint = endpoint
        self._source = source
        self._group = group
        self._links_max = links_max
        self._room = 0
        self._since: datetime | None = None

    def begin(self, records: Sequence[Any], taken_at: datetime) -> BatchTrace:
        """Return the trace of a batch of these requests, taken just now."""
        linked: list[tuple[int, str]] = []
        if telemetry.has_collector():
            if self._since is None or not timedelta(0) <= taken_at - self._since < _SECOND:
                self._since, self._room = taken_at, self._links_max
            linked = sampled(records, self._room)
            self._room -= len(linked)
        return BatchTrace(self._endpoint, self._source, self._group, records, taken_at, linked)


class BatchTrace:
    """One batch on its way through a lane, until it is committed; one that is dropped on the way is never told."""

    def __init__(
        self,
        endpoint: str,
        source: TopicPartition,
        group: str,
        records: Sequence[Any],
        taken_at: datetime,
        linked: Sequence[tuple[int, str]],
    ) -> None:
        """`linked` are offset and traceparent of the sampled requests that the batch is linked to."""
        self._endpoint = endpoint
        self._topic, self._partition = source
        self._group = group
        self._linked = linked
        self._taken_nanoseconds = milliseconds(taken_at) * 1_000_000
        title, attributes = semconv.messaging(
            "process", "process", self._topic, partition=self._partition, group=group, rows=len(records)
        )
        attributes |= {semconv.ENDPOINT: endpoint, semconv.OFFSET: records[0].offset if records else None}
        self._span = telemetry.begin(title, "consumer", None, [link for _, link in linked], attributes)

    @property
    def traceparent(self) -> str | None:
        """The batch's own trace context."""
        return telemetry.traceparent_of(self._span)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Run one stage (read, score, commit): a child of the batch's span, and a measurement with its trace."""
        began = time.perf_counter()
        with telemetry.within(self._span):
            try:
                with self._child(name):
                    yield
            finally:
                seconds = time.perf_counter() - began
                metrics.LANE_SECONDS.labels(self._endpoint, name).observe(seconds, telemetry.exemplar())

    @contextmanager
    def _child(self, name: str) -> Iterator[None]:
        if name == "commit":
            title, attributes = semconv.messaging(
                "commit", "settle", self._topic, partition=self._partition, group=self._group
            )
            kind = "client"
        else:
            title, attributes, kind = f"{name} {self._endpoint}", {}, "internal"
        with telemetry.inner(title, kind, **attributes):
            yield

    @contextmanager
    def committing(self, next_offset: int, scored: Scored) -> Iterator[None]:
        """Run the commit, the last stage, and end the batch's span as it ends."""
        try:
            with self.stage("commit"):
                yield
        except BaseException as error:
            telemetry.failed(self._span, error)
            self._span.end()
            raise
        self._end(next_offset, sorted({answer.arm.version for answer in scored.answers}), len(scored.rejected))

    def _end(self, next_offset: int, versions: Sequence[int], rejected: int) -> None:
        """End the span of a committed batch, and tell each sampled request in its own trace where it was answered."""
        if self._span.is_recording():
            told = {semconv.OFFSET_NEXT: next_offset, semconv.REJECTED: rejected}
            self._span.set_attributes(told | semconv.answered(self._endpoint, versions))
        if self._linked:
            self._tell(versions)
        self._span.end()

    def _tell(self, versions: Sequence[int]) -> None:
        batch = self.traceparent
        title, attributes = semconv.messaging("answer", "process", self._topic, partition=self._partition)
        attributes |= {semconv.ENDPOINT: self._endpoint, semconv.VARIANT: ",".join(map(str, versions))}
        for offset, traceparent in self._linked:
            attributes[semconv.OFFSET] = offset
            telemetry.begin(title, "consumer", traceparent, [batch], attributes, self._taken_nanoseconds).end()


def sampled(records: Sequence[Any], links_max: int) -> list[tuple[int, str]]:
    """Return offset and traceparent of the first `links_max` requests whose senders sampled them."""
    found: list[tuple[int, str]] = []
    if links_max <= 0:
        return found
    for record in records:
        for name, value in record.headers:
            if name == HEADER and value and value[-1] in _SAMPLED:
                text = value.decode("ascii", "replace")
                if telemetry.is_sampled(text):
                    found.append((record.offset, text))
        if len(found) >= links_max:
            break
    return found[:links_max]
