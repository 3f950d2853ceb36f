"""A registry on real servers, and model repositories to push to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.registry.room import Room, registry


@pytest.fixture
async def room(servers: dict[str, str], tmp_path: Path) -> AsyncIterator[Room]:
    """A registry of this test's own."""
    async with registry(servers, tmp_path / "registry") as opened:
        yield opened
