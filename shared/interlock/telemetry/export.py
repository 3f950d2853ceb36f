"""The way of spans to a collector: sampled at the head, sent in batches by a thread, bounded, and counted.

Settings are OpenTelemetry's own variables (OTEL_EXPORTER_OTLP_*, OTEL_TRACES_SAMPLER, OTEL_BSP_*); only the defaults of
the batches differ. A collector that is away or slow costs a full queue, never a wait: what finds no room is counted.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState, get_current_span
from opentelemetry.util.types import Attributes

from interlock import metrics, semconv
from interlock.ids import uuid7

QUEUE_SPANS_MAX = 8192
BATCH_SPANS_MAX = 512  # a collector takes 4 MiB at once
DELAY_MILLISECONDS = 1000
SECONDS_MAX = 3.0
"""How long one batch may take, and how long the end of the process may wait for the last."""


def provider(service: str, *, sending: bool) -> TracerProvider:
    """Return the process's provider of spans; one that sends nothing only hands the caller's trace on."""
    resource = Resource.create(
        {
            semconv.SERVICE_NAME: f"interlock-{service}",
            semconv.SERVICE_NAMESPACE: "interlock",
            semconv.SERVICE_VERSION: _version(),
            semconv.SERVICE_INSTANCE: uuid7(),
        }
    )
    if not sending:
        return TracerProvider(sampler=ParentBased(ALWAYS_OFF), resource=resource)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    made = TracerProvider(resource=resource)  # which reads OTEL_TRACES_SAMPLER
    if made.sampler is not ALWAYS_OFF:
        made.sampler = BySampledLinks(made.sampler)
    given = "OTEL_EXPORTER_OTLP_TIMEOUT" in os.environ or "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT" in os.environ
    made.add_span_processor(Batches(OTLPSpanExporter(timeout=None if given else SECONDS_MAX)))
    return made


class BySampledLinks(Sampler):
    """Records a root span with a link to a sampled one; about every other span the sampler inside decides.

    A request that its sender sampled is answered in a batch, which has no parent. Left to a coin of its own, the batch
    would be missing from almost every trace that leads to it.
    """

    def __init__(self, inside: Sampler) -> None:
        self._inside = inside

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Decide at the head, before the span begins."""
        if links and not get_current_span(parent_context).get_span_context().is_valid:
            for link in links:
                if link.context.trace_flags.sampled:
                    return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)
        return self._inside.should_sample(parent_context, trace_id, name, kind, attributes, links)

    def get_description(self) -> str:
        """Return what it is, for people."""
        return f"BySampledLinks({self._inside.get_description()})"


class Batches(BatchSpanProcessor):
    """OpenTelemetry's batch processor, with the spans counted that found no room and an end that is bounded."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._room = int(_default("OTEL_BSP_MAX_QUEUE_SIZE", QUEUE_SPANS_MAX))
        self._counted = Counted(exporter)
        self._ended = 0
        self._dropped = 0
        super().__init__(
            self._counted,
            max_queue_size=self._room,
            max_export_batch_size=min(self._room, int(_default("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", BATCH_SPANS_MAX))),
            schedule_delay_millis=_default("OTEL_BSP_SCHEDULE_DELAY", DELAY_MILLISECONDS),
        )

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span that ended; where there is no room the oldest makes way."""
        if span.context is None or not span.context.trace_flags.sampled:
            return
        self._ended += 1
        if self._ended - self._dropped - self._counted.taken > self._room:
            self._dropped += 1
            metrics.SPANS_DROPPED.labels("queue_full").inc()
        super().on_end(span)

    def shutdown(self) -> None:
        """Send what is left, within SECONDS_MAX: a collector that is away does not hold the process up."""
        self._batch_processor.shutdown(timeout_millis=int(SECONDS_MAX * 1000))
        left = self._ended - self._dropped - self._counted.give_up()
        if left > 0:
            metrics.SPANS_DROPPED.labels("shutdown").inc(left)


class Counted(SpanExporter):
    """An exporter that counts what it took and what came of it; runs in the processor's thread."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._settled = 0
        self._given_up = False
        self.taken = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch; one that the collector did not take is gone, and counted as dropped."""
        self.taken += len(spans)
        result = self._exporter.export(spans)
        if self._given_up:
            return result
        self._settled += len(spans)
        if result is SpanExportResult.SUCCESS:
            metrics.SPANS_EXPORTED.inc(len(spans))
        else:
            metrics.SPANS_DROPPED.labels("not_taken").inc(len(spans))
        return result

    def give_up(self) -> int:
        """Count nothing from now on; return how many spans are counted: a batch still under way is not."""
        self._given_up = True
        return self._settled

    def shutdown(self) -> None:
        """Give up what is being tried."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing waits here."""
        return self._exporter.force_flush(timeout_millis)


def _default(variable: str, otherwise: float) -> float:
    """Return a number from the environment, or ours where there is none that can be read."""
    try:
        return float(os.environ.get(variable, otherwise))
    except ValueError:
        return otherwise


def _version() -> str:
    try:
        return version("interlock")
    except PackageNotFoundError:
        return "unknown"
