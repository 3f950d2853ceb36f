"""Results as bytes: what a batch has in common is encoded once, and per request only what differs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from interlock.clock import milliseconds
from interlock.codec import varints
from interlock.codec.contract import RESULT_FIELDS_ONLINE
from interlock.codec.framing import frame
from interlock.ids import request_name
from interlock.signature import Matrix
from interlock_router.batch import Batch, Rejection
from interlock_router.features import NO_AGE
from interlock_router.model import Arm, RouteTable, Rows

Floats = npt.NDArray[np.float64]

_NULL = b"\x00"
_VALUE = b"\x02"  # the second branch of a union whose first is null
_SHORT_TEXT_BYTES = 64
_PREFIXES = tuple(varints.encode(length) for length in range(_SHORT_TEXT_BYTES))


class _Cells:
    """What differs from row to row, side by side in one table of bytes of which some are kept."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._tables: list[npt.NDArray[np.uint8]] = []
        self._kept: list[npt.NDArray[np.bool_]] = []

    def add_longs(self, numbers: varints.Longs) -> None:
        """Add integers."""
        table, length = varints.write(numbers)
        self._add(table, np.arange(varints.BYTES_MAX) < length[:, None])

    def add_nullable_longs(self, numbers: varints.Longs, there: npt.NDArray[np.bool_]) -> None:
        """Add integers, null where they are not there."""
        self._add_branch(there)
        table, length = varints.write(numbers)
        self._add(table, (np.arange(varints.BYTES_MAX) < length[:, None]) & there[:, None])

    def add_doubles(self, numbers: Floats | None, there: npt.NDArray[np.bool_] | None = None) -> None:
        """Add nullable doubles, all of them null without `numbers`, and those that are not there."""
        if numbers is None:
            self._add_branch(np.zeros(self._rows, dtype=np.bool_))
            return
        if there is None:
            there = np.ones(self._rows, dtype=np.bool_)
        self._add_branch(there)
        table = np.ascontiguousarray(numbers, dtype="<f8").view(np.uint8).reshape(-1, 8)
        self._add(table, np.broadcast_to(there[:, None], table.shape))

    def joined(self) -> tuple[bytes, list[int]]:
        """Return all rows as one stretch of bytes, and where each ends."""
        kept = np.concatenate(self._kept, axis=1)
        return np.concatenate(self._tables, axis=1)[kept].tobytes(), np.cumsum(kept.sum(axis=1)).tolist()

    def _add_branch(self, there: npt.NDArray[np.bool_]) -> None:
        self._add((2 * there.astype(np.uint8))[:, None], np.ones((self._rows, 1), dtype=np.bool_))

    def _add(self, table: npt.NDArray[np.uint8], kept: npt.NDArray[np.bool_]) -> None:
        self._tables.append(table)
        self._kept.append(kept)


@dataclass(frozen=True)
class Answer:
    """One arm's answers, row by row for `rows` of the batch.

    Outputs are float64 (rows, the arm's outputs), features (rows, the arm's inputs) as the version was given them.
    """

    arm: Arm
    rows: Rows
    outputs: Matrix
    features: Matrix


@dataclass(frozen=True)
class Rejected:
    """One request without a score, and the arm that was asked, if it came that far."""

    row: int
    rejection: Rejection
    arm: Arm | None


class ResultEncoder:
    """Encodes the results of one batch by the schema that `interlock.codec.contract.result_schema` makes."""

    def __init__(self, table: RouteTable, topic: str, partition: int, scored_at: datetime) -> None:
        self._table = table
        self._topic = topic
        self._partition = partition
        self._scored_at = varints.encode(milliseconds(scored_at))
        self._head = frame(table.result_schema_id, b"")
        self._nulls = len(table.outputs) + (len(table.online) + len(RESULT_FIELDS_ONLINE) if table.online else 0)

    def encode(self, batch: Batch, answers: list[Answer], rejected: list[Rejected]) -> list[bytes]:
        """Return one framed result per request, in the order of their offsets."""
        values: list[bytes] = [b""] * len(batch.records)
        for answer in answers:
            for schema_id in np.unique(batch.schema_ids[answer.rows]).tolist():
                chosen = np.flatnonzero(batch.schema_ids[answer.rows] == schema_id)
                self._encode_answers(batch, answer, chosen, schema_id, values)
        for each in rejected:
            values[each.row] = self._encode_rejected(batch, each)
        return values

    def _encode_answers(self, batch: Batch, answer: Answer, chosen: Rows, schema_id: int, values: list[bytes]) -> None:
        rows = answer.rows[chosen]
        places = rows.tolist()
        cells = _Cells(rows.size)
        cells.add_longs(batch.offsets[rows])
        cells.add_longs(batch.requested_at[rows])
        self._add_outputs(cells, answer.arm, answer.outputs[chosen])
        if self._table.online:
            self._add_online(cells, batch, answer.arm, rows)
        middle, ends = cells.joined()
        tail = self._provenance(answer.arm, schema_id) + _NULL + _NULL
        head, start = self._head, 0
        for row, end in zip(places, ends, strict=True):
            request_id = batch.request_ids[row]
            values[row] = b"".join((head, _prefix(len(request_id)), request_id, middle[start:end], tail))
            start = end

    def _add_outputs(self, cells: _Cells, arm: Arm, outputs: Matrix) -> None:
        places = {output.name: index for index, output in enumerate(arm.signature.outputs)}
        for name in self._table.outputs:
            cells.add_doubles(outputs[:, places[name]] if name in places else None)

    def _add_online(self, cells: _Cells, batch: Batch, arm: Arm, rows: Rows) -> None:
        """Add the values that the arm was given, the age of the oldest, and a bit for each that was missing."""
        used = batch.used(arm.signature)
        places = {each.name: index for index, each in enumerate(arm.signature.online)}
        bits = np.zeros(rows.size, dtype=np.int64)
        for bit, name in enumerate(self._table.online):
            if name not in places:
                cells.add_doubles(None)
                continue
            values = used.values[rows, places[name]]
            cells.add_doubles(values, ~np.isnan(values))
            bits |= used.missing[rows, places[name]].astype(np.int64) << bit
        ages = used.age_milliseconds[rows]
        cells.add_nullable_longs(ages, ages != NO_AGE)
        cells.add_nullable_longs(bits, np.full(rows.size, bool(places)))

    def _provenance(self, arm: Arm | None, schema_id: int) -> bytes:
        text, number = varints.encode_text, varints.encode
        return b"".join(
            (
                text(self._topic),
                number(self._partition),
                text(self._table.endpoint),
                text(arm.model if arm else ""),
                number(arm.version if arm else 0),
                text(arm.digest if arm else ""),
                number(self._table.epoch),
                text(arm.name if arm else ""),
                number(schema_id),
                self._scored_at,
            )
        )

    def _encode_rejected(self, batch: Batch, rejected: Rejected) -> bytes:
        row, offset = rejected.row, batch.records[rejected.row].offset
        request_id = batch.request_ids[row]
        return b"".join(
            (
                self._head,
                _prefix(len(request_id)),
                request_id,
                varints.encode(offset),
                varints.encode(int(batch.requested_at[row])),
                _NULL * self._nulls,
                self._provenance(rejected.arm, int(batch.schema_ids[row])),
                _VALUE + varints.encode_text(rejected.rejection.reason.value),
                _VALUE + varints.encode_text(request_name(self._topic, self._partition, offset)),
            )
        )


def _prefix(length: int) -> bytes:
    return _PREFIXES[length] if length < _SHORT_TEXT_BYTES else varints.encode(length)
