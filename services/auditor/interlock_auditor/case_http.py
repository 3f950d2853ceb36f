"""What can be asked about one decision: its case, its bundle, and the script by which a stranger checks the bundle."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response

from interlock.auth import Identity
from interlock.http import require
from interlock_auditor import verifier
from interlock_auditor.case import Coordinates
from interlock_auditor.case_evidence import Cases

Asker = Annotated[Identity, Depends(require("author", "approver", "operator", "viewer", "service"))]
ID_LETTERS_MAX = 1_000


def router(cases: Cases) -> APIRouter:
    """Return the routes; all of them only read."""
    routes = APIRouter(prefix="/v1", tags=["cases"])
    script = Path(verifier.__file__).read_bytes()

    @routes.get("/cases", operation_id="find_case", summary="A case by the request's own id and time")
    async def find(
        asker: Asker,
        endpoint: Annotated[str, Query(max_length=200)],
        request_id: Annotated[str, Query(min_length=1, max_length=ID_LETTERS_MAX)],
        requested_at: datetime,
    ) -> dict[str, Any]:
        at = requested_at if requested_at.tzinfo is not None else requested_at.replace(tzinfo=UTC)
        coordinates = await cases.locate(endpoint, request_id, at)
        return (await cases.bundle(coordinates))[1] | {"keys": cases.keys}

    @routes.get("/cases/{topic}/{partition}/{offset}", operation_id="get_case", summary="How a result came about")
    async def show(topic: str, partition: str, offset: str, asker: Asker) -> dict[str, Any]:
        coordinates = Coordinates.parse(f"{topic}/{partition}/{offset}")
        return (await cases.bundle(coordinates))[1] | {"keys": cases.keys}

    @routes.get(
        "/cases/{topic}/{partition}/{offset}/bundle",
        operation_id="get_case_bundle",
        summary="The same as one file that proves itself",
        response_class=Response,
    )
    async def bundle(
        topic: str,
        partition: str,
        offset: str,
        asker: Asker,
        neighbours: Annotated[bool, Query(description="With the requests beside it, which prove its value.")] = False,
    ) -> Response:
        made, _ = await cases.bundle(Coordinates.parse(f"{topic}/{partition}/{offset}"), neighbours=neighbours)
        return Response(verifier.canonical(made), media_type="application/json")

    @routes.get("/verifier", operation_id="get_verifier", response_class=Response)
    async def verifying(asker: Asker) -> Response:
        """Give the script that checks a bundle, offline."""
        return Response(script, media_type="text/x-python")

    return routes
