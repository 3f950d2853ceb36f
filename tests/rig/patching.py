"""Patching the product from outside, in a process that lives for one test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from interlock.kafka.transaction import Outgoing
from tests.rig.crash_points import Point


def spoil(target: str, planted: Callable[[Any], Any]) -> Any:
    """Put what `planted` makes of it in the place of `module:Class.method`, and return what was there.

    Raises AttributeError or ModuleNotFoundError where the target is gone.
    """
    owner, attribute, inner = Point(target, target).place()
    setattr(owner, attribute, planted(inner))
    return inner


def records_of(outgoing: Outgoing) -> list[Any]:
    """Return outgoing records one by one, as (key, value, headers), also where they are columns."""
    columns: Any = outgoing.records
    if not hasattr(columns, "keys"):
        return [(key, bytes(value), headers) for key, value, headers in columns]
    return [
        (key, value, list(columns.headers.get(row, ())))
        for row, (key, value) in enumerate(zip(columns.keys, columns.values, strict=True))
    ]


def like(values: Any, changed: list[bytes]) -> Any:
    """Return byte strings in the same form as they had before: a list, or one column."""
    return type(values).of(changed) if hasattr(values, "of") else changed
