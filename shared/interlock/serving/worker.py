"""Ray's worker process, made to listen on loopback only.

Serve's replicas open a gRPC port on every interface, whatever the node's address is; the head starts workers by
this file, which narrows that address and then runs Ray's own worker.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

EVERYWHERE = "[::]:"
LOOPBACK = "127.0.0.1:"


def narrow(address: str) -> str:
    """Return the address with "all interfaces" replaced by loopback."""
    return LOOPBACK + address.removeprefix(EVERYWHERE) if address.startswith(EVERYWHERE) else address


def listen_on_loopback_only() -> None:
    """Make every asynchronous gRPC server of this process open its insecure ports on 127.0.0.1."""
    from grpc.aio import _server

    original = _server.Server.add_insecure_port

    def add_insecure_port(self: Any, address: str) -> int:
        return int(original(self, narrow(address)))

    _server.Server.add_insecure_port = add_insecure_port


if __name__ == "__main__":
    listen_on_loopback_only()
    import ray

    runpy.run_path(str(Path(ray.__file__).parent / "_private" / "workers" / "default_worker.py"), run_name="__main__")
