"""The real servers that tests run against, started once per session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from interlock import embedded
from interlock.embedded.home import Home
from interlock.embedded.launch import is_running

# The same examples each time, and no verdict on how busy the machine is.
hypothesis.settings.register_profile(
    "deterministic", derandomize=True, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("deterministic")

REUSED_HOME = "INTERLOCK_TEST_HOME"
"""Names the home of a running stack to test against, so that a test written by hand need not start one each time."""


def _environment(factory: pytest.TempPathFactory, name: str, parts: tuple[str, ...]) -> Iterator[dict[str, str]]:
    reused = Home(Path(os.environ[REUSED_HOME])) if REUSED_HOME in os.environ else None
    record = reused.record() if reused is not None and is_running(reused) else None
    if record is not None and set(parts) <= set(record["processes"]):
        yield record["env"]
        return
    with embedded.running(factory.mktemp(name), parts) as environment:
        yield environment


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Kafka, PostgreSQL and Valkey; the client environment (INTERLOCK_… names and values)."""
    yield from _environment(tmp_path_factory, "servers", embedded.SERVERS)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Everything: servers, Ray with Serve, the services; the client environment."""
    yield from _environment(tmp_path_factory, "stack", embedded.EVERYTHING)
