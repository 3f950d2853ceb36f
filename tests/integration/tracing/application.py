"""An application with tracing of its own: sends requests, some of them within a span that is recorded.

`python application.py ENDPOINT SAMPLED PLAIN` prints the ids of the recorded traces, one a line. The addresses and the
collector come from the environment, as anywhere.
"""

from __future__ import annotations

import asyncio
import sys

import interlock
from interlock import telemetry


async def main(endpoint: str, sampled: int, plain: int) -> None:
    """Ask `sampled` questions within a span each and `plain` without, and hear every answer."""
    telemetry.setup_traces("caller")
    async with interlock.connect() as il:
        small = await il.endpoint(endpoint)
        for number in range(sampled):
            with telemetry.span("pay", traceparent=None):
                await small.ask(key=f"card-{number}", timeout_seconds=30, amount=1.0, night=False)
                sys.stdout.write(f"{telemetry.current_trace_id()}\n")
        for number in range(plain):
            await small.ask(key=f"card-{number}", timeout_seconds=30, amount=1.0, night=True)
    telemetry.shutdown()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
