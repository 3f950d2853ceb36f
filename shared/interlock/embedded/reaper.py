"""Ends every process of a stack when its supervisor dies without saying goodbye.

Run as a plain file by an isolated interpreter (standard library only, a few megabytes): it sleeps on a pipe whose
other end only the supervisor holds. `bye` means a clean stop; end of file alone means the supervisor was killed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
from pathlib import Path
from types import ModuleType

GRACE_SECONDS = 8.0
ROUNDS_MAX = 5
GOODBYE = b"bye"


def _load_processes() -> ModuleType:
    specification = importlib.util.spec_from_file_location(
        "interlock_processes", Path(__file__).with_name("processes.py")
    )
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


def main(stack_id: str, folder: str, known_file: str) -> None:
    """Wait for the supervisor's end on standard input; then end what it left behind."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    processes = _load_processes()
    said = b""
    while chunk := os.read(0, 64):
        said = (said + chunk)[-len(GOODBYE) :]
    if said == GOODBYE:
        return
    for _ in range(ROUNDS_MAX):  # a process may have been starting while we looked
        entries = json.loads(Path(known_file).read_bytes())
        known = [processes.Process(entry["pid"], entry["started_ticks"]) for entry in entries]
        signals = {entry["pid"]: entry["signal"] for entry in entries}
        found = processes.find(stack_id, Path(folder), known=known)
        if not found:
            return
        processes.end(found, GRACE_SECONDS, signals)


if __name__ == "__main__":
    main(*sys.argv[1:4])
