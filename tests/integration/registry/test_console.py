from __future__ import annotations

import httpx
import pytest
from playwright.async_api import expect

from tests.integration.client.browser import browser, looked, sign_in
from tests.integration.registry.room import Room
from tests.integration.registry.test_commands import create, proven

LIVE = {
    "endpoint": "fraud",
    "instance": "host-1",
    "events_per_second": 2048.4,
    "lag": 37,
    "latency_ms": {"p50": 61.2, "p99": 132.9},
    "versions": {"1": 0.75, "2": 0.25},
    "dead_letters_per_second": 0.5,
}


async def endpoint(room: Room) -> str:
    """Make an endpoint with live figures; return a viewer's token."""
    await proven(room, 1)
    await create(room)
    await room.cache.put_live("live:fraud:host-1", LIVE, 300)
    return room.token("vera", "viewer")


async def test_a_browser_shows_the_figures_of_the_api(room: Room) -> None:
    """Signed in with a viewer's token, the pages show what the API says; the stream keeps them at it."""
    token = await endpoint(room)
    async with browser() as page:
        await sign_in(page, room.url, token)
        await looked(page)
        shown = {
            path: await page.text_content(f'[data-figure="fraud|{path}"]')
            for path in ("events_per_second", "lag", "latency_ms.p50", "latency_ms.p99", "versions")
        }
        assert shown == {
            "events_per_second": "2,048",
            "lag": "37",
            "latency_ms.p50": "61.2",
            "latency_ms.p99": "132.9",
            "versions": "v1 75%, v2 25%",
        }
        await room.cache.put_live("live:fraud:host-1", {**LIVE, "lag": 40_125}, 300)
        await expect(page.locator('[data-figure="fraud|lag"]')).to_have_text("40,125", timeout=20_000)
        await page.click("text=fraud")
        await looked(page)
        assert await page.text_content('[data-figure="fraud|lag"]') == "40,125"
        assert await page.locator(".chart canvas").count() == 2
        alerts = " ".join(await page.locator('[role="alert"]').all_text_contents())
        assert "monitor is away" in alerts and "auditor is away" in alerts
        await page.click("text=Versions")
        assert "proven" in (await page.text_content("main") or "")
        await page.click("text=Timeline")
        assert "EndpointCreated" in (await page.text_content("main") or "")


async def test_without_a_token_every_page_leads_to_the_sign_in(room: Room) -> None:
    """No page, and no figure, without a token that holds; a wrong one is refused in words."""
    async with httpx.AsyncClient(base_url=room.url, trust_env=False) as http:
        for path in ("", "/endpoints/fraud", "/versions", "/timeline"):
            answer = await http.get(f"/console{path}")
            assert (answer.status_code, answer.headers["location"]) == (303, "/console/login"), path
        assert (await http.get("/console/stream")).status_code == 401
        refused = await http.post("/console/login", data={"token": "nonsense"})
        assert refused.status_code == 401
        assert "not signed by this platform" in refused.text
        assert "set-cookie" not in refused.headers


async def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(room: Room) -> None:
    """The token lives in an HttpOnly, SameSite=Strict cookie; pages forbid everything that is not their own."""
    async with httpx.AsyncClient(base_url=room.url, trust_env=False) as http:
        answer = await http.post("/console/login", data={"token": room.token("vera", "viewer")})
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie and "path=/console" in cookie
        page = await http.get("/console")
        assert page.status_code == 200
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "script-src 'self'" in page.headers["content-security-policy"]


async def test_what_people_wrote_is_shown_as_text(room: Room) -> None:
    """A reason with markup in it cannot become markup of the page."""
    token = await endpoint(room)
    hostile = "<script>alert(1)</script>"
    async with room.client("bob", "approver") as http:
        await http.post("/v1/models/fraud/versions/1/approvals", json={"endpoint": "fraud", "note": hostile})
    async with httpx.AsyncClient(base_url=room.url, trust_env=False, cookies={"interlock_console": token}) as http:
        page = await http.get("/console/timeline")
    assert "&lt;script&gt;alert(1)" in page.text
    assert hostile not in page.text


@pytest.mark.parametrize(("name", "status"), [("console.js", 200), ("uplot.css", 200), ("../http.py", 404), ("x", 404)])
async def test_only_the_consoles_own_files_are_given(room: Room, name: str, status: int) -> None:
    """A path out of the folder finds nothing."""
    async with httpx.AsyncClient(base_url=room.url, trust_env=False) as http:
        answer = await http.get(f"/console/static/{name.replace('/', '%2f')}")
    assert answer.status_code == status
