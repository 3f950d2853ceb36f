"""How a running stack is: parts, ports, restarts, memory, health, read from outside its supervisor."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from interlock.embedded.home import Home
from interlock.embedded.launch import is_running
from interlock.embedded.part import NotReady, port_answers
from interlock.embedded.processes import Process, find, is_alive, pss_bytes
from interlock.embedded.services import ask_readiness
from interlock.embedded.valkey import set_and_get

SERVERS = ("kafka", "postgres", "valkey", "ray")
SUPERVISOR = "supervisor"


@dataclass(frozen=True)
class Figures:
    """One part as it is now. Memory is PSS: a page shared by several processes is counted once over all of them."""

    name: str
    state: str
    health: str
    pid: int | None
    port: int | None
    uptime_seconds: float | None
    restarts: int
    processes: int
    memory_bytes: int


def read(home: Home) -> dict[str, Any]:
    """Return the state of the stack and the figures of each part, ready for JSON."""
    record = home.record() or {}
    running = is_running(home)
    state = record.get("state", "absent")
    if not running and state not in ("absent", "failed", "stopped"):
        state = "died"
    figures = [_part(home, name, known) for name, known in record.get("processes", {}).items()] if running else []
    if running:
        figures.append(_supervisor(home, record))
    return {
        "state": state,
        "home": str(home.folder),
        "failure": record.get("failure", ""),
        "supervisor_pid": record.get("supervisor_pid") if running else None,
        "uptime_seconds": round(time.time() - record["started_at"], 1) if running else None,
        "memory_bytes": sum(entry.memory_bytes for entry in figures),
        "memory_note": "PSS: shared pages counted once",
        "parts": [vars(entry) for entry in figures],
    }


def _part(home: Home, name: str, known: dict[str, Any]) -> Figures:
    leader = Process(known["pid"], known["started_ticks"]) if known["pid"] else None
    alive = leader is not None and is_alive(leader)
    found = find(home.stack_id, home.folder, name, [leader] if leader else [])
    return Figures(
        name=name,
        state=known["state"],
        health=_health(home, name, known["port"]) if alive else known["detail"] or "not running",
        pid=leader.pid if leader is not None and alive else None,
        port=known["port"],
        uptime_seconds=round(time.time() - known["started_at"], 1) if alive else None,
        restarts=known["restarts"],
        processes=len(found),
        memory_bytes=sum(pss_bytes(process.pid) for process in found),
    )


def _supervisor(home: Home, record: dict[str, Any]) -> Figures:
    pid = record["supervisor_pid"]
    reaper = record.get("reaper_pid")
    pids = [number for number in (pid, reaper) if number]
    return Figures(
        name=SUPERVISOR,
        state=record["state"],
        health="ok",
        pid=pid,
        port=None,
        uptime_seconds=round(time.time() - record["started_at"], 1),
        restarts=0,
        processes=len(pids),
        memory_bytes=sum(pss_bytes(number) for number in pids),
    )


def _health(home: Home, name: str, port: int) -> str:
    try:
        if name == "valkey":
            asyncio.run(set_and_get(port, home.secret("valkey")))
        elif name not in SERVERS:
            asyncio.run(ask_readiness(port))
        elif not port_answers(port):
            return "does not answer"
    except NotReady as error:
        return str(error)
    except OSError:
        return "does not answer"
    return "ok"
