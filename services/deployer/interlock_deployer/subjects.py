"""The schema registry as the deployer needs it: the id of a schema under a subject, over HTTP."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

import httpx
import msgspec

from interlock import telemetry
from interlock.errors import Refusal, Transient
from interlock_deployer.errors import SCHEMA_REFUSED

_IDS_MAX: Final = 1024
_CONTENT_TYPE: Final = "application/vnd.schemaregistry.v1+json"


class Subjects:
    """Registers schemas and remembers their ids; registering what is there already is no change."""

    def __init__(self, url: str, seconds_max: float) -> None:
        """Talk to the registry at `url`, which may carry `user:token@`."""
        place = httpx.URL(url)
        self._url = str(place.copy_with(userinfo=b"")).rstrip("/")
        credentials = (place.username, place.password) if place.password else None
        # The credentials leave the URL, so that no log line and no error can repeat them.
        self._client = httpx.AsyncClient(
            timeout=seconds_max, headers={"Content-Type": _CONTENT_TYPE}, auth=credentials, trust_env=False
        )
        self._ids: OrderedDict[tuple[str, str], int] = OrderedDict()

    async def id_of(self, subject: str, schema: str) -> int:
        """Return the id of an Avro schema (JSON text) under a subject, registering it if it is new.

        Raises Refusal(SCHEMA_REFUSED) where the registry will not have it, Transient where it is away.
        """
        known = self._ids.get((subject, schema))
        if known is not None:
            return known
        answer = await self._post(f"{self._url}/subjects/{subject}/versions", {"schema": schema})
        self._ids[(subject, schema)] = number = int(answer["id"])
        while len(self._ids) > _IDS_MAX:
            self._ids.popitem(last=False)
        return number

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()

    async def _post(self, url: str, document: dict[str, Any]) -> dict[str, Any]:
        try:
            place = httpx.URL(url)
            with telemetry.calling("POST", place.host, place.port, "/subjects/{subject}/versions") as traced:
                response = await self._client.post(url, content=msgspec.json.encode(document), headers=traced)
        except httpx.TransportError as error:
            raise Transient(f"The schema registry is away: {error or type(error).__name__}.") from error
        if response.status_code in (409, 422):
            raise Refusal(SCHEMA_REFUSED, f"The schema registry refused {url.split('/')[-2]}: {_message(response)}.")
        if not response.is_success:
            raise Transient(f"The schema registry answered {response.status_code}: {_message(response)}.")
        return msgspec.json.decode(response.content, type=dict[str, Any])


def _message(response: httpx.Response) -> str:
    """Return what the registry said; Confluent's error bodies and problem documents both are JSON objects."""
    try:
        body = msgspec.json.decode(response.content, type=dict[str, Any])
    except msgspec.DecodeError:
        return response.reason_phrase
    return str(body.get("message") or body.get("detail") or response.reason_phrase).rstrip(".")
