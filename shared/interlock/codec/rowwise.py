"""Avro records read one at a time, for the schemas that are not flat; and the faults that both readers keep."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from interlock.clock import milliseconds
from interlock.codec.plan import Plan
from interlock.errors import Reason


class Faults:
    """Which records of a batch could not be read, and why; the first fault of a record stands."""

    def __init__(self, count: int) -> None:
        self.mask: npt.NDArray[np.bool_] = np.zeros(count, dtype=np.bool_)
        self._found: dict[int, tuple[Reason, str]] = {}

    def set(self, rows: npt.NDArray[Any], reason: Reason, where: str) -> None:
        """Note a fault at each of the rows, unless it has one."""
        for row in rows.tolist():
            self._found.setdefault(row, (reason, where))
        self.mask[rows] = True

    def __bool__(self) -> bool:
        """Say whether any record has a fault."""
        return bool(self._found)

    def __getitem__(self, row: int) -> tuple[Reason, str] | None:
        """Return the reason and the place of a record's fault, or None."""
        return self._found.get(row)

    def items(self) -> list[tuple[int, Reason, str]]:
        """Return every fault as (row, reason, place), by row."""
        return [(row, reason, where) for row, (reason, where) in sorted(self._found.items())]


def read_rows(values: Sequence[bytes], plan: Plan, skip: int) -> tuple[dict[str, list[Any]], Faults]:
    """Read each record whole by itself; return its cells by field name, None where it has a fault."""
    names = [each["name"] for each in plan.schema["fields"]]
    cells: dict[str, list[Any]] = {name: [None] * len(values) for name in names}
    faults = Faults(len(values))
    for row, value in enumerate(values):
        record = _read_row(value, plan, skip)
        if isinstance(record, Reason):
            faults.set(np.array([row]), record, "the record")
            continue
        for name in names:
            cell = record.get(name)
            cells[name][row] = milliseconds(cell) if isinstance(cell, datetime) else cell
    return cells, faults


def _read_row(value: bytes, plan: Plan, skip: int) -> dict[str, Any] | Reason:
    from fastavro import schemaless_reader  # loaded only where a schema needs it

    if len(value) < skip:
        return Reason.TRUNCATED
    stream = io.BytesIO(value)
    stream.seek(skip)
    try:
        record = schemaless_reader(stream, plan.parsed, None)
    except EOFError:
        return Reason.TRUNCATED
    except (IndexError, KeyError, OverflowError, UnicodeDecodeError, ValueError, TypeError, MemoryError):
        return Reason.MALFORMED
    if stream.tell() != len(value):
        return Reason.TRAILING_BYTES
    return record if isinstance(record, dict) else Reason.MALFORMED
