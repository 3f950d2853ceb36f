"""A part of the stack: one server process, how to prepare it, when it is ready, how to stop it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interlock.embedded.processes import STACK_MARK

Report = Callable[[str], None]
"""Tells the person who waits what is going on, in a few words."""


class CannotStart(Exception):
    """A part cannot be started here; the text says what is missing and what to give instead."""


class NotReady(Exception):
    """A ready check failed; it is tried again."""


async def _nothing(report: Report) -> None:
    """Prepare nothing."""


def _ignore(_code: int) -> None:
    """Do nothing with the exit code."""


@dataclass(frozen=True)
class Launch:
    """What to execute."""

    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    user_id: int | None = None


@dataclass(frozen=True)
class Part:
    """One supervised process.

    `prepare` runs before every start and raises CannotStart; `launch` is asked after it. `ready` raises NotReady or
    OSError until the part has proved that it works; `follow_up` runs once per start after that (idempotent).
    """

    name: str
    port: int
    launch: Callable[[], Launch]
    ready: Callable[[], Awaitable[None]]
    after: tuple[str, ...] = ()
    prepare: Callable[[Report], Awaitable[None]] = _nothing
    follow_up: Callable[[Report], Awaitable[None]] = _nothing
    stop_signal: int = signal.SIGTERM
    stop_seconds: float = 15.0
    ready_seconds: float = 60.0
    stopped: Callable[[int], None] = _ignore
    """Is told the exit code after the stack stopped it."""
    patient: bool = False
    """Whether it waits by itself for what it needs: then a slow recovery is no reason to start it again."""


KEPT_VARIABLES = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "SHELL", "LD_LIBRARY_PATH",
    "VIRTUAL_ENV", "PYTHONPATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "CUDA_VISIBLE_DEVICES", "JAVA_HOME",
    "OMP_NUM_THREADS", "XDG_CACHE_HOME", STACK_MARK,
)  # fmt: skip


def base_environment() -> dict[str, str]:
    """Return what every part may inherit from the caller: no secret is among it."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    kept |= {name: value for name, value in os.environ.items() if name.startswith("LC_")}
    kept["PYTHONUNBUFFERED"] = "1"
    return kept


def becoming(user_id: int | None) -> dict[str, Any]:
    """Return the options of a subprocess that runs as another user (root may do that), or none."""
    return {} if user_id is None else {"user": user_id, "group": user_id, "extra_groups": []}


async def run_once(
    command: list[str],
    environment: Mapping[str, str],
    seconds: float,
    user_id: int | None = None,
    given: bytes | None = None,
) -> str:
    """Run a command to its end and return its output; raises NotReady with its last line when it fails or hangs."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=dict(environment),
        stdin=asyncio.subprocess.PIPE if given is not None else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        **becoming(user_id),
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(given), seconds)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise NotReady(f"{Path(command[0]).name} gave no answer in {seconds:.0f} s.") from None
    text = output.decode(errors="replace").strip()
    if process.returncode != 0:
        raise NotReady(f"{Path(command[0]).name} failed: {text.splitlines()[-1] if text else process.returncode}")
    return text


def port_answers(port: int, seconds: float = 0.5) -> bool:
    """Say whether something listens on 127.0.0.1:port."""
    try:
        socket.create_connection(("127.0.0.1", port), seconds).close()
    except OSError:
        return False
    return True
