"""A version that is seen in the shadow of the champion before it is promoted, on a stack of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from interlock import embedded
from interlock.client.endpoint import Endpoint
from interlock.client.records import Result
from tests.integration.client.journey import approve, people, serve, session_of, small_model, small_score

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

MODEL = "seen"


@pytest.fixture
def shadowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Start a stack whose deployer puts approved versions into the shadow."""
    monkeypatch.setenv("INTERLOCK_SHADOW_APPROVED", "true")
    with embedded.running(tmp_path / "home", embedded.EVERYTHING) as environment:
        yield environment


async def test_an_approved_version_is_seen_before_it_answers(shadowed: dict[str, str], tmp_path: Path) -> None:
    """From its approval on the second version is asked what the first is; promoted, it answers and is no shadow."""
    async with people(shadowed) as crew, session_of(shadowed, "app", "viewer") as il:
        await serve(shadowed, crew, small_model(tmp_path / "seen", MODEL), MODEL)
        endpoint = await il.endpoint(MODEL)
        await approve(shadowed, crew, small_model(tmp_path / "seen", MODEL, 2), MODEL, 2)
        answered, shadow = await _seen(endpoint, 2)
        assert (answered.version, answered.arm) == (1, "champion")
        assert (shadow.version, shadow.arm) == (2, "shadow-2")
        assert (shadow.partition, shadow.offset, shadow.key) == (answered.partition, answered.offset, answered.key)
        assert shadow.score == answered.score == pytest.approx(small_score(120.0, night=False))

        await crew.olga.promote(MODEL, 2)
        async with asyncio.timeout(60):
            while (result := await _ask(endpoint)).version == 1:
                pass
        assert (result.version, result.arm) == (2, "champion")
        assert result.epoch > answered.epoch


async def _ask(endpoint: Endpoint) -> Result:
    return await endpoint.ask(key="card-1", timeout_seconds=30, amount=120.0, night=False)


async def _seen(endpoint: Endpoint, version: int) -> tuple[Result, Result]:
    """Ask until a version answers in the shadow; return what the champion and the shadow answered to one request."""
    answers: dict[str, Result] = {}

    async def keep_asking() -> None:
        while True:
            answer = await _ask(endpoint)
            answers[answer.request_id] = answer

    asking = asyncio.create_task(keep_asking())
    try:
        async with asyncio.timeout(120), aclosing(endpoint.shadows()) as shadows:
            async for shadow in shadows:
                if shadow.version == version and shadow.request_id in answers:
                    return answers[shadow.request_id], shadow
    finally:
        asking.cancel()
        await asyncio.wait({asking})
    raise AssertionError("shadows end never")
