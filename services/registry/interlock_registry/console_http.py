"""The console: web pages that show what the API says, under the viewer's own token; they command nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from typing import Annotated, Any, Final
from urllib.parse import parse_qs

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from sse_starlette import EventSourceResponse, ServerSentEvent

from interlock.backoff import pause
from interlock.client.errors import Refused
from interlock.client.session import Interlock, connect
from interlock.client.watch import look
from interlock.errors import InterlockError, Refusal, Transient
from interlock_registry import console_pages, errors
from interlock_registry.settings import Settings

COOKIE: Final = "interlock_console"
LOGIN_BYTES_MAX: Final = 32 * 1024
TIMELINE_SHOWN: Final = 200
KINDS: Final = {"js": "text/javascript", "css": "text/css", "LICENSE": "text/plain"}
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
Name = Annotated[str, Path(max_length=64, pattern="^[a-z][a-z0-9_-]*$")]


class Pages:
    """The templates, and sessions of viewers with the API of this installation."""

    def __init__(self, settings: Settings, stopping: asyncio.Event) -> None:
        self._settings = settings
        self._templates = console_pages.environment()
        self.stopping = stopping
        self.viewers = asyncio.Semaphore(settings.console_viewers_max)

    def session(self, request: Request, token: str) -> Interlock:
        """Return a session that may do what the viewer's token may do.

        The registry is asked at the address that this request came to, which is the socket's word, not a header's.
        """
        host, port = request.scope["server"]
        settings = self._settings
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        return connect(url, token=token, monitor=settings.monitor_url, auditor=settings.auditor_url)

    def page(self, template: str, status: int = 200, **shown: Any) -> HTMLResponse:
        """Return a page."""
        content = self._templates.get_template(template).render({"subject": None, **shown})
        return HTMLResponse(content, status, HEADERS)

    async def show(
        self, request: Request, template: str, gather: Callable[[Interlock], Awaitable[dict[str, Any]]]
    ) -> Response:
        """Return the page for a viewer, or lead to the sign-in where there is no valid token."""
        token = request.cookies.get(COOKIE, "")
        try:
            subject = request.app.state.verifier.verify(token).subject
        except Refusal:
            return RedirectResponse("/console/login", 303, HEADERS)
        try:
            async with self.session(request, token) as session:
                shown = await gather(session)
        except Refused as refused:
            return self.page("problem.html", refused.status, subject=subject, title=refused.why, detail=refused.detail)
        except Transient as away:
            title = "A part of the platform is away"
            return self.page("problem.html", 503, subject=subject, title=title, detail=away.detail)
        return self.page(template, subject=subject, **shown)

    async def looks(self, request: Request, token: str, endpoint: str | None) -> AsyncIterator[ServerSentEvent]:
        """Yield one look each `console_seconds` until the viewer leaves or the process stops."""
        async with self.viewers, self.session(request, token) as session:
            while not self.stopping.is_set():
                try:
                    yield ServerSentEvent(json.dumps(await look(session, endpoint)), event="look")
                except InterlockError as error:
                    yield ServerSentEvent(json.dumps({"detail": error.detail}), event="away")
                await pause(self.stopping, self._settings.console_seconds)


def router(settings: Settings, stopping: asyncio.Event) -> APIRouter:
    """Return the routes under /console."""
    pages = Pages(settings, stopping)
    routes = APIRouter(prefix="/console", include_in_schema=False)
    _sign_in(routes, pages)
    _pages(routes, pages)
    _assets(routes)

    @routes.get("/stream")
    async def stream(
        request: Request, endpoint: Annotated[str | None, Query(max_length=64)] = None
    ) -> EventSourceResponse:
        """Send the viewer a look each second."""
        token = request.cookies.get(COOKIE, "")
        request.app.state.verifier.verify(token)
        if pages.viewers.locked():
            raise Refusal(errors.CONSOLE_FULL, f"{settings.console_viewers_max} pages are being watched already.")
        return EventSourceResponse(pages.looks(request, token, endpoint), headers=HEADERS)

    return routes


def _sign_in(routes: APIRouter, pages: Pages) -> None:
    @routes.get("/login")
    async def form() -> Response:
        """Show the form."""
        return pages.page("login.html", problem=None)

    @routes.post("/login")
    async def login(request: Request) -> Response:
        """Check the token, and keep it in a cookie that scripts cannot read and other sites cannot send."""
        body = await request.body()
        given = parse_qs(body[:LOGIN_BYTES_MAX].decode("utf-8", "replace")).get("token", [""])[0].strip()
        try:
            request.app.state.verifier.verify(given)
        except Refusal as refusal:
            return pages.page("login.html", 401, problem=refusal.detail)
        answer = RedirectResponse("/console", 303, HEADERS)
        answer.set_cookie(
            COOKIE, given, path="/console", httponly=True, samesite="strict", secure=request.url.scheme == "https"
        )
        return answer

    @routes.post("/logout")
    async def logout() -> Response:
        """Forget the token."""
        answer = RedirectResponse("/console/login", 303, HEADERS)
        answer.delete_cookie(COOKIE, path="/console")
        return answer


def _pages(routes: APIRouter, pages: Pages) -> None:
    @routes.get("")
    async def overview(request: Request) -> Response:
        """Show all endpoints."""

        async def gather(session: Interlock) -> dict[str, Any]:
            return {"look": await look(session)}

        return await pages.show(request, "overview.html", gather)

    @routes.get("/endpoints/{endpoint}")
    async def endpoint(request: Request, endpoint: Name) -> Response:
        """Show one endpoint: now, its windows, its drift, its quality."""
        return await pages.show(request, "endpoint.html", lambda session: _of_endpoint(session, endpoint))

    @routes.get("/versions")
    async def versions(request: Request) -> Response:
        """Show all models with their versions."""

        async def gather(session: Interlock) -> dict[str, Any]:
            names = [each["model"] for each in await session.models()]
            return {
                "models": [{"name": name, "versions": await session.versions(name)} for name in names],
                "url": session.addresses.url,
            }

        return await pages.show(request, "versions.html", gather)

    @routes.get("/timeline")
    async def timeline(request: Request) -> Response:
        """Show the newest control events."""

        async def gather(session: Interlock) -> dict[str, Any]:
            entries = (await session.timeline_page(newest=TIMELINE_SHOWN))["entries"]
            return {"entries": [{**each, "facts": console_pages.facts(each["event"])} for each in reversed(entries)]}

        return await pages.show(request, "timeline.html", gather)


async def _of_endpoint(session: Interlock, endpoint: str) -> dict[str, Any]:
    """Gather what an endpoint's page shows; the monitor away leaves its parts empty and says so."""
    seen = await look(session, endpoint)
    shown: dict[str, Any] = {"look": seen, "view": seen["endpoints"][0], "away": None}
    try:
        windows, drift, quality = await asyncio.gather(
            session.windows(endpoint, limit=console_pages.CHART_WINDOWS),
            session.drift(endpoint),
            session.quality(endpoint),
        )
    except InterlockError as error:
        return {**shown, "away": error.detail, "windows": [], "charts": [], "drift": [], "quality": []}
    return {
        **shown,
        "windows": windows[: -console_pages.WINDOWS_SHOWN - 1 : -1],
        "charts": console_pages.charts(windows, quality["versions"]),
        "drift": drift["versions"],
        "quality": [each for each in quality["versions"] if each["labelled"]],
    }


def _assets(routes: APIRouter) -> None:
    folder = files("interlock_registry") / "console" / "static"
    contents = {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file()}

    @routes.get("/static/{name}")
    async def asset(name: str) -> Response:
        """Give a script or a style sheet; they come from this server alone."""
        if name not in contents:
            raise Refusal(errors.PAGE_UNKNOWN, f"The console has no file {name}.")
        kind = KINDS[name.rpartition(".")[2]]
        headers = {"Cache-Control": "max-age=3600", "X-Content-Type-Options": "nosniff"}
        return Response(contents[name], media_type=kind, headers=headers)
