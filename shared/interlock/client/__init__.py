"""The public client: ask endpoints over Kafka, and command the platform over HTTP, from asynchronous Python.

async with interlock.connect() as il:
fraud = await il.endpoint("fraud")
await fraud.request(key="card-1", amount=12.5, night=False)
async for result in fraud.results():
print(result.score, result.version)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interlock.client.endpoint import Endpoint
    from interlock.client.records import Result, Sent
    from interlock.client.session import Interlock, connect

_HOMES = {
    "connect": "interlock.client.session",
    "Interlock": "interlock.client.session",
    "Endpoint": "interlock.client.endpoint",
    "Result": "interlock.client.records",
    "Sent": "interlock.client.records",
}


def __getattr__(name: str) -> Any:
    """Import the module of a public name when the name is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


__all__ = ["Endpoint", "Interlock", "Result", "Sent", "connect"]
