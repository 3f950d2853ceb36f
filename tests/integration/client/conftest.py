from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.integration.client.journey import people, serve, small_model


@pytest.fixture(scope="session")
def small(stack: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """An endpoint `small`, answered by version 1 of the small model; the endpoint's details."""

    async def bring(folder: Path) -> dict[str, Any]:
        async with people(stack) as crew:
            details = await crew.olga.endpoints()
            known = [each for each in details if each["name"] == "small" and each["champion"]]
            return known[0] if known else await serve(stack, crew, folder, "small")

    return asyncio.run(bring(small_model(tmp_path_factory.mktemp("small") / "tree", "small")))
