"""A driver in a process of its own, as deployer and router are: answers `status` and `call NAME` lines on its input."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import Any

import numpy as np

from interlock.errors import InterlockError
from interlock.serving import cluster

DRAIN_SECONDS = 4.0


async def answer(control: cluster.ServeControl, handles: cluster.Handles, words: list[str]) -> dict[str, Any]:
    """Carry out one line."""
    try:
        if words[0] == "status":
            return {"status": {name: state.state for name, state in (await control.status()).items()}}
        digest, outputs = await handles.call(words[1], np.array([[1.0, 2.0]]), 5)
        return {"digest": digest, "outputs": outputs.tolist()}
    except InterlockError as error:
        return {"error": type(error).__name__, "detail": error.detail}


async def main() -> None:
    """Serve lines until SIGTERM, then drain as a service does, then end."""
    address = os.environ["INTERLOCK_RAY_ADDRESS"]
    control, handles = cluster.ServeControl(address), cluster.Handles(address)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    stop = asyncio.create_task(stopping.wait())
    while not stop.done():
        line = asyncio.create_task(reader.readline())
        await asyncio.wait({stop, line}, return_when=asyncio.FIRST_COMPLETED)
        if line.done() and line.result():
            sys.stdout.write(json.dumps(await answer(control, handles, line.result().decode().split())) + "\n")
            sys.stdout.flush()
    await asyncio.sleep(DRAIN_SECONDS)
    await cluster.disconnect()


if __name__ == "__main__":
    asyncio.run(main())
