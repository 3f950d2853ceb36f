"""The deployer as a process, with schema ids from a function: `python -m tests.integration.deployer.process`."""

from __future__ import annotations

import asyncio
import zlib

from interlock import service, telemetry
from interlock.service import Host, Service
from interlock_deployer import app


async def schema_id(subject: str, schema: str) -> int:
    """Return an id that is the same for the same subject and schema, above the platform's own."""
    return 1000 + zlib.crc32(f"{subject} {schema}".encode()) % 1_000_000


async def build(host: Host) -> Service:
    """Put the deployer together without a schema registry."""
    return app.assemble(host, schema_id)


if __name__ == "__main__":
    telemetry.setup("deployer")
    asyncio.run(service._live("deployer", build, app.Settings(), app.USES))
