"""A Jaeger and a whole stack that sends it its spans."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from interlock import embedded
from tests.integration.tracing import jaeger as jaegers


@pytest.fixture(scope="package")
def jaeger() -> Iterator[jaegers.Jaeger]:
    """The real thing, on loopback."""
    with jaegers.running(jaegers.binary()) as running:
        yield running


@pytest.fixture(scope="package")
def traced_stack(jaeger: jaegers.Jaeger, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Everything, told of the collector, and to record no trace that nobody asked for."""
    patch = pytest.MonkeyPatch()
    patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", jaeger.collector)
    patch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    patch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    with patch.context(), embedded.running(tmp_path_factory.mktemp("traced")) as environment:
        patch.undo()
        yield environment
