"""A service as small as one can be, for the runner's tests: it listens, serves, repeats."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import Field

from interlock import http
from interlock.auth import Identity
from interlock.cause import Cause
from interlock.postgres import journal
from interlock.schemas.events import BuildStarted, ModelCreated
from interlock.service import Host, Service
from interlock.settings import PlatformSettings


class Settings(PlatformSettings):
    """The toy's settings."""

    toy_topic: str = Field(description="The topic it listens to.")
    toy_service: str = Field(description="The name (and schema) it runs under.")


async def on_build_started(event: BuildStarted, unit: journal.Unit, *, owner: str) -> None:
    """Answer each build with a model; end the process, or hang in a thread, where told to."""
    if event.model == "bug":
        raise ZeroDivisionError("planted")
    if event.model == "bug-with-a-hanging-thread":
        threading.Thread(target=threading.Event().wait).start()
        raise ZeroDivisionError("planted")
    await unit.append(
        "heard", ModelCreated(model=event.model, owner=owner, created_by=unit.cause.actor, at=unit.clock.now())
    )


async def build(host: Host) -> Service:
    """Put the toy together."""
    router = APIRouter()
    settings = host.settings

    @router.post("/models/{name}", status_code=202)
    async def create(
        name: str,
        identity: Annotated[Identity, Depends(http.require("operator"))],
        cause: Annotated[Cause, Depends(http.cause)],
        key: Annotated[str | None, Depends(http.idempotency_key)],
    ) -> Any:
        async def decide(unit: journal.Unit) -> dict[str, str]:
            event = ModelCreated(model=name, owner="toy", created_by=identity.subject, at=host.clock.now())
            return {"id": await unit.append(f"model/{name}", event), "process": str(os.getpid())}

        return await journal.command(host.pool, key, cause, decide, request={"name": name})

    async def loop() -> None:
        await host.stopping.wait()
        await asyncio.sleep(0)

    return Service(
        name=settings.toy_service,
        consumes={settings.toy_topic: {BuildStarted: on_build_started}},
        routers=[router],
        loops=[loop],
        needs={"owner": "toy"},
    )
