"""HTTP: every error is a problem document; tokens, bounds, health."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from interlock import auth, http
from interlock.auth import Identity, Verifier
from interlock.cause import Cause
from interlock.errors import Code, Refusal, Transient
from interlock.testing import ManualClock

CLOCK = ManualClock()
PRIVATE, PUBLIC = auth.generate_keys()
NO = Code("TEST_HTTP_NO", 409, "It cannot be", "Do otherwise.")
TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


class _Body(BaseModel):
    version: int


def _router() -> APIRouter:
    router = APIRouter()

    @router.post("/things/{name}")
    async def thing(
        name: str, body: _Body, identity: Annotated[Identity, Depends(http.require("operator"))]
    ) -> dict[str, Any]:
        return {"name": name, "version": body.version, "subject": identity.subject}

    @router.get("/refused")
    async def refused() -> None:
        raise Refusal(NO, "The thing is shut.", thing="door")

    @router.get("/transient")
    async def transient() -> None:
        raise Transient("Postgres: away", retry_seconds=3)

    @router.get("/bug")
    async def bug() -> None:
        raise ZeroDivisionError("secret inner words")

    @router.get("/cause")
    async def cause(
        cause: Annotated[Cause, Depends(http.cause)], key: Annotated[str | None, Depends(http.idempotency_key)]
    ) -> dict[str, Any]:
        return {"actor": cause.actor, "traceparent": cause.traceparent, "id": cause.event_id, "key": key}

    @router.post("/stream/body")
    @router.post("/body")
    async def body(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    return router


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of an application with those routes and a small bound on bodies."""
    async for each in _client([]):
        yield each


async def _client(ready: list[http.Ready], stopping: asyncio.Event | None = None) -> AsyncIterator[httpx.AsyncClient]:
    app = http.application(
        "test",
        [_router()],
        Verifier(PUBLIC, CLOCK),
        ready,
        body_bytes_max=1000,
        ready_seconds_max=0.05,
        stopping=stopping,
        streams=["/stream/"],
    )
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def _authorization(*roles: str) -> dict[str, str]:
    return {"Authorization": "Bearer " + auth.issue(PRIVATE, "ada", roles, 60, CLOCK.now())}


def _problem(answer: httpx.Response, code: str, status: int) -> dict[str, Any]:
    """Return the problem document after checking what all of them have in common."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["type"] == f"urn:interlock:error:{code}"
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert body["instance"] == answer.request.url.path
    assert body["hint"]
    assert body["request_id"] == answer.headers["x-request-id"]
    assert "trace_id" in body
    return body


async def test_a_refusal_is_a_problem_with_its_fields(client: httpx.AsyncClient) -> None:
    """RFC 9457: type, title, status, detail, instance; and what the refusal carries."""
    assert _problem(await client.get("/refused"), "TEST_HTTP_NO", 409)["thing"] == "door"


async def test_a_transient_failure_is_503_with_retry_after(client: httpx.AsyncClient) -> None:
    """The sender learns when to come back."""
    answer = await client.get("/transient")
    _problem(answer, "UNAVAILABLE", 503)
    assert answer.headers["retry-after"] == "3"


async def test_a_bug_is_500_without_its_inner_words(client: httpx.AsyncClient) -> None:
    """No traceback and no message of the exception reaches a user."""
    answer = await client.get("/bug")
    _problem(answer, "INTERNAL", 500)
    assert "secret" not in answer.text


async def test_an_unknown_route_and_a_wrong_method_are_problems(client: httpx.AsyncClient) -> None:
    """404 and 405 in the same shape; 405 keeps its Allow header."""
    _problem(await client.get("/nowhere"), "NOT_FOUND", 404)
    answer = await client.delete("/refused")
    _problem(answer, "METHOD_NOT_ALLOWED", 405)
    assert answer.headers["allow"] == "GET"


async def test_a_body_that_does_not_fit_names_its_fields(client: httpx.AsyncClient) -> None:
    """Wrong type, missing field, no JSON at all: 422 with pointers."""
    headers = _authorization("operator")
    body = _problem(await client.post("/things/x", json={"version": "two"}, headers=headers), "REQUEST_INVALID", 422)
    assert body["errors"][0]["pointer"] == "/body/version"
    _problem(await client.post("/things/x", content=b"{", headers=headers), "REQUEST_INVALID", 422)


async def test_without_a_token_401_says_how_to_send_one(client: httpx.AsyncClient) -> None:
    """Both challenges are offered: Bearer for people, Basic for git."""
    answer = await client.post("/things/x", json={"version": 1})
    _problem(answer, "TOKEN_MISSING", 401)
    assert [each.split()[0] for each in answer.headers.get_list("www-authenticate")] == ["Bearer", "Basic"]


async def test_without_the_role_403_names_it(client: httpx.AsyncClient) -> None:
    """A viewer may not; an operator may."""
    answer = await client.post("/things/x", json={"version": 1}, headers=_authorization("viewer"))
    assert _problem(answer, "ROLE_MISSING", 403)["needed"] == ["operator"]
    answer = await client.post("/things/x", json={"version": 1}, headers=_authorization("operator"))
    assert answer.json() == {"name": "x", "version": 1, "subject": "ada"}


async def test_the_cause_carries_the_callers_trace(client: httpx.AsyncClient) -> None:
    """The same trace id goes on; an invalid traceparent is dropped."""
    headers = _authorization("viewer") | {"Idempotency-Key": "k"}
    answer = (await client.get("/cause", headers=headers | {"traceparent": TRACE})).json()
    assert (answer["actor"], answer["key"]) == ("ada", "k")
    assert answer["traceparent"].split("-")[1] == "a" * 32


@pytest.mark.parametrize("path", ["/body"])
async def test_a_body_over_the_bound_is_refused_declared_or_not(client: httpx.AsyncClient, path: str) -> None:
    """With and without Content-Length; on the bound it passes."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 100

    assert (await client.post(path, content=b"x" * 1000)).json() == {"bytes": 1000}
    _problem(await client.post(path, content=b"x" * 1001), "BODY_TOO_LARGE", 413)
    _problem(await client.post(path, content=chunks()), "BODY_TOO_LARGE", 413)


async def test_a_stream_is_bounded_by_its_own_route(client: httpx.AsyncClient) -> None:
    """Prefixes named as streams are let through."""
    assert (await client.post("/stream/body", content=b"x" * 5000)).json() == {"bytes": 5000}


async def test_an_idempotency_key_has_a_bound(client: httpx.AsyncClient) -> None:
    """Too long or empty: 422."""
    for key in ("", "k" * 201):
        _problem(
            await client.get("/cause", headers=_authorization("viewer") | {"Idempotency-Key": key}),
            "REQUEST_INVALID",
            422,
        )


async def test_readiness_says_what_it_waits_for_within_its_bound() -> None:
    """A check that raises Transient and one that hangs both count; the process stays alive."""

    async def away() -> None:
        raise Transient("Postgres: away")

    async def hang() -> None:
        await asyncio.Event().wait()

    async for client in _client([away, hang]):
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["waiting_for"][0] == "Postgres: away"
        assert "longer than" in answer.json()["waiting_for"][1]
        assert (await client.get("/livez")).status_code == 200


async def test_verbose_readiness_has_a_line_for_each_check() -> None:
    """As Kubernetes' own endpoints write them; the status is the same as without, and says it all."""

    class Kafka:
        async def ready(self) -> None:
            raise Transient("no broker answers")

    async def postgres() -> None:
        return

    async for client in _client([Kafka().ready, postgres]):
        answer = await client.get("/readyz?verbose")
        assert answer.status_code == 503
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.text.splitlines() == [
            "[-]kafka failed: no broker answers",
            "[+]postgres ok",
            "readyz check failed",
        ]
    async for client in _client([postgres]):
        assert (await client.get("/readyz?verbose")).text == "[+]postgres ok\nreadyz check passed\n"


async def test_metrics_are_given_as_openmetrics_to_who_accepts_it(client: httpx.AsyncClient) -> None:
    """Prometheus asks so, and gets exemplars; anybody else gets the plain text."""
    plain = await client.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=")
    opened = await client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert opened.headers["content-type"].startswith("application/openmetrics-text")
    assert opened.text.endswith("# EOF\n")


async def test_a_process_that_stops_is_not_ready() -> None:
    """So that nothing new is sent to it while it drains."""
    stopping = asyncio.Event()
    async for client in _client([], stopping):
        assert (await client.get("/readyz")).status_code == 200
        stopping.set()
        assert (await client.get("/readyz")).status_code == 503


async def test_openapi_is_served_and_no_page_loads_from_elsewhere(client: httpx.AsyncClient) -> None:
    """The document is there; the pages that would fetch scripts are not."""
    document = (await client.get("/openapi.json")).json()
    assert "/things/{name}" in document["paths"]
    assert document["components"]["securitySchemes"]
    for page in ("/docs", "/redoc"):
        _problem(await client.get(page), "NOT_FOUND", 404)


async def test_metrics_count_by_route_template(client: httpx.AsyncClient) -> None:
    """A scanner's thousand paths make one series, not a thousand."""
    for number in range(3):
        await client.get(f"/nowhere/{number}")
    text = (await client.get("/metrics")).text
    assert 'interlock_http_requests_total{method="GET",route="unmatched",status="404"}' in text
    assert "/nowhere" not in text


async def test_a_mounted_application_is_served_beside_the_routes() -> None:
    """What is no FastAPI route (git) lives under its prefix."""

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await Response("here")(scope, receive, send)

    app = http.application("test", [], None, [], mounts={"/git": mounted})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        assert (await client.get("/git/x")).text == "here"
