"""Where the platform is: from arguments, else from INTERLOCK_* variables, else from the stack that runs here."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interlock.client.errors import ADDRESS_UNKNOWN
from interlock.errors import Refusal


@dataclass(frozen=True)
class Addresses:
    """All that a client has to know. The token is never shown by `repr`."""

    url: str
    token: str = field(repr=False)
    kafka_bootstrap_servers: str
    schema_registry_url: str = field(repr=False)
    monitor_url: str = ""
    auditor_url: str = ""


def home_folder(environment: Mapping[str, str]) -> Path:
    """Return the folder of the stack on this machine: $INTERLOCK_HOME, or ~/.interlock."""
    given = environment.get("INTERLOCK_HOME")
    return Path(given).expanduser() if given else Path.home() / ".interlock"


def running_stack(home: Path) -> dict[str, str]:
    """Return the variables of the stack that runs from a folder; empty if none does."""
    try:
        record: dict[str, Any] = json.loads((home / "run" / "stack.json").read_bytes())
    except (FileNotFoundError, NotADirectoryError, PermissionError, ValueError):
        return {}
    return {str(name): str(value) for name, value in (record.get("env") or {}).items()}


def find(
    url: str | None = None,
    token: str | None = None,
    bootstrap: str | None = None,
    schema_registry: str | None = None,
    *,
    monitor: str | None = None,
    auditor: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Addresses:
    """Return the addresses, each from the first place that has it: argument, variable, running stack.

    Raises Refusal(ADDRESS_UNKNOWN) naming what is missing and where it was looked for.
    """
    environment = os.environ if environment is None else environment
    home = home_folder(environment)
    stack = running_stack(home)
    found = {
        name: given or environment.get(name) or stack.get(name)
        for name, given in {
            "INTERLOCK_URL": url,
            "INTERLOCK_TOKEN": token,
            "INTERLOCK_KAFKA_BOOTSTRAP_SERVERS": bootstrap,
            "INTERLOCK_SCHEMA_REGISTRY_URL": schema_registry,
            "INTERLOCK_MONITOR_URL": monitor,
            "INTERLOCK_AUDITOR_URL": auditor,
        }.items()
    }
    missing = [name for name in ("INTERLOCK_URL", "INTERLOCK_TOKEN") if not found[name]]
    if missing:
        raise Refusal(
            ADDRESS_UNKNOWN,
            f"{' and '.join(missing)}: neither given nor set, and no stack runs from {home}.",
            missing=missing,
            home=str(home),
        )
    return Addresses(
        url=str(found["INTERLOCK_URL"]).rstrip("/"),
        token=str(found["INTERLOCK_TOKEN"]),
        kafka_bootstrap_servers=found["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"] or "",
        schema_registry_url=found["INTERLOCK_SCHEMA_REGISTRY_URL"] or "",
        monitor_url=(found["INTERLOCK_MONITOR_URL"] or "").rstrip("/"),
        auditor_url=(found["INTERLOCK_AUDITOR_URL"] or "").rstrip("/"),
    )
