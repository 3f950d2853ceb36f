"""The schemas that requests were written with, as the schema registry has them, for cases."""

from __future__ import annotations

from collections import OrderedDict

import httpx

from interlock import telemetry
from interlock.errors import Transient
from interlock.settings import PlatformSettings


class CaseSchemas:
    """Schemas by their id; an id never changes its meaning, so what was read once is kept, within a bound."""

    def __init__(self, settings: PlatformSettings, seconds_max: float, schemas_max: int) -> None:
        self._kept: OrderedDict[int, str] = OrderedDict()
        self._schemas_max = schemas_max
        url = httpx.URL(settings.schema_registry_url.get_secret_value())
        headers = {}
        if settings.token is not None and not url.userinfo:
            headers["Authorization"] = f"Bearer {settings.token.get_secret_value()}"
        self._client = httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=seconds_max)

    async def text(self, schema_id: int) -> str | None:
        """Return a schema as JSON, or None where no such id is registered. Raises Transient while nobody can say."""
        if schema_id in self._kept:
            self._kept.move_to_end(schema_id)
            return self._kept[schema_id]
        try:
            place = self._client.base_url
            with telemetry.calling("GET", place.host, place.port, "/schemas/ids/{id}") as traced:
                answer = await self._client.get(f"/schemas/ids/{schema_id}", headers=traced)
            if answer.status_code == httpx.codes.NOT_FOUND:
                return None
            found = str(answer.raise_for_status().json()["schema"])
        except (httpx.HTTPError, ValueError, KeyError) as error:
            raise Transient(f"the schema registry is away: {type(error).__name__}: {error}") from error
        self._kept[schema_id] = found
        while len(self._kept) > self._schemas_max:
            self._kept.popitem(last=False)
        return found

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
