"""A headless browser that the machine has; tests that need one are skipped where there is none."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Page, async_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@asynccontextmanager
async def browser() -> AsyncIterator[Page]:
    """Open a page; what its scripts complain about fails the test."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"no browser on this machine ({', '.join(NAMES)})")
    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = await opened.new_page(viewport={"width": 1300, "height": 1600})
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        try:
            yield page
            assert not complaints, complaints
        finally:
            await opened.close()


async def sign_in(page: Page, url: str, token: str) -> None:
    """Sign in through the form, as a person does."""
    await page.goto(f"{url}/console")
    assert page.url.endswith("/console/login")
    await page.fill("#token", token)
    await page.click("button")
    await page.wait_for_url(f"{url}/console")


async def looked(page: Page) -> None:
    """Wait until the server's stream has brought new figures at least twice."""
    await page.wait_for_selector('body[data-looks]:not([data-looks="1"])', timeout=20_000)
