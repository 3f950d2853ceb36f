"""A whole stack of their own for the tests that kill its parts, so that nobody else's stack is hurt."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from interlock import embedded
from interlock.embedded.home import Home
from tests.fault.victims import Stack

HOME = "INTERLOCK_FAULT_HOME"
"""Names the home of a running stack that may be killed, so that a test written by hand need not start one."""


@pytest.fixture(scope="package")
def killable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Everything: servers, Ray with Serve, the services."""
    given = os.environ.get(HOME)
    record = Home(Path(given)).record() if given else None
    if record is not None:
        yield Stack(record["env"])
        return
    with embedded.running(tmp_path_factory.mktemp("killable")) as environment:
        yield Stack(environment)
