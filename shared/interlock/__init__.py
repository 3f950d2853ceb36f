"""Interlock: continuous delivery for machine-learning models whose callers live on Kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interlock.client.session import connect

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the client when `interlock.connect` is first used, so that `import interlock` costs nothing."""
    if name == "connect":
        from interlock.client.session import connect

        return connect
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["__version__", "connect"]
