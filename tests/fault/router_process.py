"""A router in a process of its own that can be killed; its arguments are settings, endpoint and partitions."""

from __future__ import annotations

import asyncio
import json
import sys

import uvloop

from interlock_router.settings import Settings
from tests.integration.router.rig import Rig, RunningRouter


async def main(settings: str, endpoint: str, partitions: str) -> None:
    """Route until killed, by version 1 alone."""
    rig = Rig(Settings(**json.loads(settings)), int(partitions))
    rig.endpoint = endpoint
    rig.serving.add("m", 1)
    rig.route((1, 10_000))
    async with RunningRouter(rig):
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
