from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest

from interlock.client import rest
from interlock.client.errors import Away, Refused
from interlock.client.rest import Rest

Answer = Callable[[httpx.Request], httpx.Response]


def connected(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> Rest:
    """A client whose wire is a function; retries do not wait."""
    monkeypatch.setattr(rest, "RETRY_SECONDS_FIRST", 0)
    found = Rest("http://registry", "secret")
    found._http = httpx.AsyncClient(
        base_url="http://registry", transport=httpx.MockTransport(answer), headers=found._http.headers
    )
    return found


async def test_a_refusal_becomes_an_exception_with_all_its_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """The problem document's detail, code, hint and further fields are at hand."""
    problem = {
        "type": "urn:interlock:ROLE_MISSING",
        "title": "Role missing",
        "status": 403,
        "detail": "d",
        "needs": ["x"],
    }
    client = connected(lambda _: httpx.Response(403, json=problem), monkeypatch)
    with pytest.raises(Refused) as caught:
        await client.get("/v1/models")
    assert (caught.value.status, caught.value.code, caught.value.detail) == (403, "ROLE_MISSING", "d")
    assert caught.value.fields["needs"] == ["x"]
    await client.close()


async def test_a_command_that_is_tried_again_keeps_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two absences, then an answer: one idempotency key throughout, so the command takes effect once."""
    seen: list[tuple[str, str, object]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((request.headers["idempotency-key"], request.headers["authorization"], json.loads(request.content)))
        return httpx.Response(503 if len(seen) < 3 else 202, json={"promotion": 1})

    client = connected(answer, monkeypatch)
    assert await client.post("/v1/endpoints/fraud/promotions", {"version": 2}) == {"promotion": 1}
    assert len(set(map(str, seen))) == 1
    assert seen[0][1:] == ("Bearer secret", {"version": 2})
    await client.close()


async def test_a_long_absence_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a bounded number of tries the client gives up with the address."""
    tries = 0

    def answer(_: httpx.Request) -> httpx.Response:
        nonlocal tries
        tries += 1
        raise httpx.ConnectError("refused")

    client = connected(answer, monkeypatch)
    with pytest.raises(Away, match="http://registry does not answer: refused"):
        await client.get("/v1/models")
    assert tries == rest.ATTEMPTS_MAX
    await client.close()
