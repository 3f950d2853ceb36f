from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from interlock.embedded.home import Home
from interlock.embedded.services import token
from tests.integration.client.browser import browser, looked, sign_in
from tests.integration.client.journey import TOKEN_SECONDS, session_of, until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]
REQUESTS = 400


async def test_the_browser_shows_what_monitor_and_auditor_say(small: dict[str, Any], stack: dict[str, str]) -> None:
    """Windows, drift states and the audit head on the page are, figure by figure, those of the API."""
    async with session_of(stack, "vera", "viewer") as vera:
        endpoint = await vera.endpoint("small")

        async def counted() -> int:
            return sum(each["rows"] for each in await vera.windows("small"))

        before = await counted()
        await endpoint.send_many((f"card-{n % 9}", {"amount": float(n), "night": n % 2 == 0}) for n in range(REQUESTS))
        await endpoint.close()

        async def settled() -> bool:
            return await counted() >= before + REQUESTS

        await until(settled, "the monitor has not counted what was answered")
        secret = token(Home(Path(stack["INTERLOCK_HOME"])), "vera", ("viewer",), TOKEN_SECONDS)
        async with browser() as page:
            await sign_in(page, stack["INTERLOCK_URL"], secret)
            await page.goto(f"{stack['INTERLOCK_URL']}/console/endpoints/small")
            await looked(page)
            windows = await vera.windows("small")
            for each in windows[-20:]:
                row = page.locator(f'tr[data-window="{each["window_start"]}"][data-version="{each["version"]}"]').first
                assert await row.locator("[data-rows]").text_content() == f"{each['rows']:,}"
            for each in (await vera.drift("small"))["versions"]:
                title = await page.locator("h2", has_text=f"Version {each['version']} against").first.text_content()
                assert each["state"].replace("_", " ") in (title or "")
            head = await vera.audit_head()
            shown = int((await page.text_content('[data-figure="audit|size"]') or "0").replace(",", ""))
            assert 0 < shown <= head["size"]
            assert await page.locator(".chart canvas").count() >= 4
