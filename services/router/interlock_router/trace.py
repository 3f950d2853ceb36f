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
from interlock.kafka.partition import Taken
from interlock_router.score import Scored

HEADER: Final = "traceparent"
_SECOND: Final = timedelta(seconds=1)
_SAMPLED: Final = frozenset(b"13579bdf")  # the last hex digit of the flags, where the sampled bit is set


class LaneTraces:
    """The traces of one lane's batches, with a bound on how many sampled requests are linked in a second.

    A share of the requests, sampled, would make the cost of tracing grow with the load; under load this bound holds
    it, and a request that finds no room keeps its own trace, without the batch.
    """

    def __init__(self, endpoint: str, group: str, links_max: int) -> None:
        self._endpoint = endpoint
        self._group = group
        self._links_max = links_max
        self._room = 0
        self._since: datetime | None = None

    def begin(self, taken: Sequence[Taken], taken_at: datetime) -> BatchTrace:
        """Return the trace of a batch of these requests, taken just now."""
        linked: list[Link] = []
        if telemetry.has_collector():
            if self._since is None or not timedelta(0) <= taken_at - self._since < _SECOND:
                self._since, self._room = taken_at, self._links_max
            linked = sampled(taken, self._room)
            self._room -= len(linked)
        return BatchTrace(self._endpoint, self._group, taken, taken_at, linked)


class BatchTrace:
    """One batch on its way through a lane, until it is committed; one that is dropped on the way is never told.

    Its span names partition and offsets where all its requests are of one partition.
    """

    def __init__(
        self,
        endpoint: str,
        group: str,
        taken: Sequence[Taken],
        taken_at: datetime,
        linked: Sequence[Link],
    ) -> None:
        """`linked` are the sampled requests that the batch is linked to."""
        self._endpoint = endpoint
        self._topic = taken[0].source.topic
        self._only = taken[0] if len(taken) == 1 else None
        self._partition = self._only.source.partition if self._only else None
        self._group = group
        self._linked = linked
        self._taken_nanoseconds = milliseconds(taken_at) * 1_000_000
        title, attributes = semconv.messaging(
            "process",
            "process",
            self._topic,
            partition=self._partition,
            group=group,
            rows=sum(len(each.records) for each in taken),
        )
        attributes[semconv.ENDPOINT] = endpoint
        if self._only is not None:
            attributes[semconv.OFFSET] = self._only.records[0].offset
        self._span = telemetry.begin(title, "consumer", None, [link for _, _, link in linked], attributes)

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
    def committing(self, scored: Scored) -> Iterator[None]:
        """Run the commit, the last stage, and end the batch's span as it ends."""
        try:
            with self.stage("commit"):
                yield
        except BaseException as error:
            telemetry.failed(self._span, error)
            self._span.end()
            raise
        self._end(sorted({answer.arm.version for answer in scored.answers}), len(scored.rejected))

    def _end(self, versions: Sequence[int], rejected: int) -> None:
        """End the span of a committed batch, and tell each sampled request in its own trace where it was answered."""
        if self._span.is_recording():
            told: dict[str, Any] = {semconv.REJECTED: rejected}
            if self._only is not None:
                told[semconv.OFFSET_NEXT] = self._only.next_offset
            self._span.set_attributes(told | semconv.answered(self._endpoint, versions))
        if self._linked:
            self._tell(versions)
        self._span.end()

    def _tell(self, versions: Sequence[int]) -> None:
        batch = self.traceparent
        for partition, offset, traceparent in self._linked:
            title, attributes = semconv.messaging("answer", "process", self._topic, partition=partition, offset=offset)
            attributes |= {semconv.ENDPOINT: self._endpoint, semconv.VARIANT: ",".join(map(str, versions))}
            telemetry.begin(title, "consumer", traceparent, [batch], attributes, self._taken_nanoseconds).end()


Link = tuple[int, int, str]
"""Partition, offset and traceparent of a request."""


def sampled(taken: Sequence[Taken], links_max: int) -> list[Link]:
    """Return the first `links_max` requests whose senders sampled them."""
    found: list[Link] = []
    if links_max <= 0:
        return found
    for partition, record in ((each.source.partition, record) for each in taken for record in each.records):
        for name, value in record.headers:
            if name == HEADER and value and value[-1] in _SAMPLED:
                text = value.decode("ascii", "replace")
                if telemetry.is_sampled(text):
                    found.append((partition, record.offset, text))
        if len(found) >= links_max:
            break
    return found[:links_max]
