"""Ray with Serve as a part: one node on loopback, handles only, no dashboard, tokens required."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import sys

from interlock.embedded.home import Home
from interlock.embedded.part import CannotStart, Launch, Part, Report, base_environment, run_once

LOGICAL_PROCESSORS = 64  # replicas ask for fractions: this bounds their number, not their speed
OBJECT_STORE_BYTES = 100 * 1024 * 1024
PROOF_SECONDS_MAX = 120.0
MEMORY_SHARE_MAX = 0.97
SESSIONS_KEPT = 2  # Ray logs into a new folder at each start: the last ones tell why it died
SOCKET_ROOM_BYTES = 72  # what Ray appends to its folder: session_<date>_<pid>/sockets/plasma_store


def address(port: int) -> str:
    """Return the address for drivers."""
    return f"127.0.0.1:{port}"


def client_environment(home: Home) -> dict[str, str]:
    """Return what a driver needs beside the address: the token's file, and to take loopback for its own address."""
    home.secret("ray-token")
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(home.secret_file("ray-token")),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # the switch by which Ray stays on 127.0.0.1
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def _collector() -> dict[str, str]:
    """Return what replicas need to send their spans; a collector's credentials are not for processes of models."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith("OTEL_") and not any(word in name for word in ("HEADERS", "KEY"))
    }


def _environment(home: Home) -> dict[str, str]:
    return (
        base_environment()
        | _collector()
        | client_environment(home)
        | {
            "RAY_memory_usage_threshold": str(MEMORY_SHARE_MAX),
            "RAY_DISABLE_IMPORT_WARNING": "1",
            "RAY_TQDM": "0",
            "MALLOC_ARENA_MAX": "2",
        }
    )


def part(home: Home, port: int) -> Part:
    """Return the Ray part."""

    async def prepare(report: Report) -> None:
        if importlib.util.find_spec("ray") is None:
            raise CannotStart("Ray is missing: run `pip install 'interlock[serve]'`.")
        sessions = sorted(home.short_folder("ray", SOCKET_ROOM_BYTES).glob("session_2*"))
        for old in sessions[:-SESSIONS_KEPT]:
            await asyncio.to_thread(shutil.rmtree, old, ignore_errors=True)

    def launch() -> Launch:
        arguments = {
            "--port": port,
            "--folder": home.short_folder("ray", SOCKET_ROOM_BYTES),
            "--processors": LOGICAL_PROCESSORS,
            "--object-store-bytes": OBJECT_STORE_BYTES,
        }
        words = [str(word) for pair in arguments.items() for word in pair]
        return Launch([sys.executable, "-m", "interlock.serving.head", "run", *words], _environment(home))

    async def ready() -> None:
        command = [sys.executable, "-m", "interlock.serving.head", "prove", address(port)]
        await run_once(command, _environment(home), PROOF_SECONDS_MAX)

    def stopped(_code: int) -> None:
        # A home with a long path has Ray's folder outside; that one must not stay behind.
        folder = home.short_folder("ray", SOCKET_ROOM_BYTES)
        if not folder.is_relative_to(home.folder):
            shutil.rmtree(folder, ignore_errors=True)

    return Part("ray", port, launch, ready, prepare=prepare, stopped=stopped, stop_seconds=15.0, ready_seconds=120.0)
