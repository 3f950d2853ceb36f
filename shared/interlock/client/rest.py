"""HTTP to one service: JSON in and out, refusals as exceptions, short absences ridden out."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from interlock import telemetry
from interlock.client.errors import Away, Refused
from interlock.ids import uuid7

ATTEMPTS_MAX = 6
RETRY_SECONDS_FIRST = 0.2
TIMEOUT_SECONDS = 15.0
AWAY_STATUSES = frozenset({502, 503, 504})


class Rest:
    """One connection pool to one service; an attempt that meets nobody is repeated, `attempts_max` times in all."""

    def __init__(self, url: str, token: str, attempts_max: int = ATTEMPTS_MAX) -> None:
        self._url = url
        self._attempts_max = attempts_max
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
            timeout=TIMEOUT_SECONDS,
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def get(self, path: str, *, timeout_seconds: float = TIMEOUT_SECONDS, **parameters: Any) -> Any:
        """Return the JSON at a path; parameters that are None are left out. Raises Refused or Away."""
        given = {name: value for name, value in parameters.items() if value is not None}
        return (await self._send("GET", path, timeout_seconds, params=given)).json()

    async def content(self, path: str) -> bytes:
        """Return the bytes at a path. Raises Refused or Away."""
        return (await self._send("GET", path, TIMEOUT_SECONDS)).content

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        """Send a command and return the JSON of its answer.

        The command carries one idempotency key for all its attempts, so that it takes effect once.
        """
        headers = {"Idempotency-Key": uuid7()}
        return (await self._send("POST", path, TIMEOUT_SECONDS, json=body, headers=headers)).json()

    async def _send(self, method: str, path: str, timeout_seconds: float, **more: Any) -> httpx.Response:
        traceparent = telemetry.recorded_traceparent()  # of the caller's own span
        if traceparent is not None:
            more["headers"] = {**more.get("headers", {}), "traceparent": traceparent}
        reason = ""
        for attempt in range(self._attempts_max):
            if attempt:
                await asyncio.sleep(RETRY_SECONDS_FIRST * 2 ** (attempt - 1))
            try:
                response = await self._http.request(method, path, timeout=timeout_seconds, **more)
            except httpx.TransportError as error:
                reason = str(error) or type(error).__name__
                continue
            if response.status_code in AWAY_STATUSES:
                reason = f"HTTP status {response.status_code}"
                continue
            if response.is_error:
                raise Refused(response.status_code, _document(response))
            return response
        raise Away(self._url, reason)


def _document(response: httpx.Response) -> dict[str, Any]:
    """Return the problem document of a refusal, or one made of what there is."""
    try:
        document = response.json()
    except ValueError:
        document = None
    if isinstance(document, dict):
        return document
    return {"title": response.reason_phrase, "detail": response.text[:500]}
