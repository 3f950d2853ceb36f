"""A database role, a group and a key of each test's own, on the session's servers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.monitor.rig import Room, opened


@pytest.fixture
async def room(servers: dict[str, str], tmp_path: Path) -> AsyncIterator[Room]:
    """Everything a monitor needs."""
    async with opened(servers, tmp_path) as made:
        yield made
