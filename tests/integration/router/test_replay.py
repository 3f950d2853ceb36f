"""Dead letters are listed, shown and sent again by the command line, and a replay is answered like any request."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from interlock.codec.contract import request_schema
from tests.integration.router.rig import SIGNATURE, Rig, RunningRouter


async def interlock(rig: Rig, *words: str) -> Any:
    """Run `interlock dead-letters …` in a process of its own; return its JSON."""
    environment = os.environ | {
        "INTERLOCK_KAFKA_BOOTSTRAP_SERVERS": rig.settings.kafka_bootstrap_servers,
        "INTERLOCK_URL": "http://127.0.0.1:1",
        "INTERLOCK_TOKEN": "none",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "interlock.cli",
        "dead-letters",
        *words,
        "--json",
        env=environment,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0
    return json.loads(output)


async def test_a_schema_that_was_unknown_is_registered_and_the_request_replayed(
    rig: Rig, registry: tuple[str, dict[int, Any]]
) -> None:
    """The letter keeps the bytes; once the cause is gone, replay has it scored and the result says what it replays."""
    rig.serving.add("m", 1)
    rig.route((1, 10_000))
    late = b"\x00\x00\x00\x07\xd0" + rig.value(7)[5:]
    async with RunningRouter(rig, schema_unknown_seconds=0.01):
        rig.produce([late, rig.value(8)])
        await rig.results(2)
        [letter] = await interlock(rig, "list", rig.endpoint)
        assert (letter["reason"], letter["schema_id"], letter["key"]) == ("UNKNOWN_SCHEMA", 2000, "k0")
        shown = await interlock(rig, "show", rig.endpoint, letter["name"])
        assert bytes.fromhex(shown["value"]) == late
        registry[1][2000] = request_schema("any", SIGNATURE)
        assert await interlock(rig, "replay", rig.endpoint, letter["name"]) == {"replayed": [letter["name"]]}
        results = await rig.results(3)
        records = rig.read("results", 3)
    answered = [row for row in results if row["rejection"] is None]
    assert {row["request_id"] for row in answered} == {"r7", "r8"} and len(results) == 3
    marks = [record.headers() for record in records if record.headers()]
    assert marks == [[("interlock-replay-of", letter["name"].encode())]]
