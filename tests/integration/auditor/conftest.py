"""Servers of these tests' own, so that nobody else's events are entered, and an auditor with its witness."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from interlock import embedded
from tests.integration.auditor.rig import Room, model_created


@pytest.fixture(scope="module")
def own_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Kafka, PostgreSQL and Valkey of this module's own."""
    with embedded.running(tmp_path_factory.mktemp("auditor"), embedded.SERVERS) as environment:
        yield environment


@pytest.fixture(scope="module")
def shared(own_servers: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """One log for the module: its past goes on from test to test, as a log's does."""
    room = Room(own_servers, tmp_path_factory.mktemp("room"))
    yield room
    room.end()


@pytest.fixture
async def room(shared: Room) -> AsyncIterator[Room]:
    """The log with auditor and witness running, nothing wrong and all of it witnessed."""
    await shared.prepare()
    for process in (shared.witness, shared.auditor):
        if process.child is None or process.child.poll() is not None:
            process.start()
    if not (await shared.until_state("witnessed", "unwitnessed"))["size"]:
        await shared.say([model_created(0)])
    await shared.until_state("witnessed")
    yield shared
    await shared.close()
