"""Results as bytes: what a batch has in common is encoded once, and per request only what differs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from interlock.clock import milliseconds
from interlock.codec import varints
from interlock.codec.framing import frame
from interlock.ids import request_name
from interlock.signature import Matrix
from interlock_router.batch import Batch, Rejection
from interlock_router.model import Arm, RouteTable, Rows

_NULL = b"\x00"
_VALUE = b"\x02"  # the second branch of a union whose first is null
_SHORT_TEXT_BYTES = 64
_PREFIXES = tuple(varints.encode(length) for length in range(_SHORT_TEXT_BYTES))


@dataclass(frozen=True)
class Answer:
    """One arm's answers: outputs is float64 (rows, the arm's outputs), row by row for `rows` of the batch."""

    arm: Arm
    rows: Rows
    outputs: Matrix


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
        offsets = np.fromiter((batch.records[row].offset for row in places), dtype=np.int64, count=len(places))
        middle, ends = self._middle(offsets, batch.requested_at[rows], answer.arm, answer.outputs[chosen])
        tail = self._provenance(answer.arm, schema_id) + _NULL + _NULL
        head, start = self._head, 0
        for row, end in zip(places, ends, strict=True):
            request_id = batch.request_ids[row]
            values[row] = b"".join((head, _prefix(len(request_id)), request_id, middle[start:end], tail))
            start = end

    def _middle(
        self, offsets: varints.Longs, times: varints.Longs, arm: Arm, outputs: Matrix
    ) -> tuple[bytes, list[int]]:
        """Encode offset, time and outputs of many rows into one stretch of bytes; return it and where each row ends."""
        width = 2 * varints.BYTES_MAX + 9 * len(self._table.outputs)
        table: npt.NDArray[np.uint8] = np.zeros((offsets.size, width), dtype=np.uint8)
        kept = np.zeros((offsets.size, width), dtype=np.bool_)
        column = 0
        for numbers in (offsets, times):
            part, length = varints.write(numbers)
            table[:, column : column + varints.BYTES_MAX] = part
            kept[:, column : column + varints.BYTES_MAX] = np.arange(varints.BYTES_MAX) < length[:, None]
            column += varints.BYTES_MAX
        places = {output.name: index for index, output in enumerate(arm.signature.outputs)}
        for name in self._table.outputs:
            kept[:, column] = True  # a null is the zero byte alone
            if name in places:
                numbers8 = np.ascontiguousarray(outputs[:, places[name]], dtype="<f8").view(np.uint8).reshape(-1, 8)
                table[:, column] = 2
                table[:, column + 1 : column + 9] = numbers8
                kept[:, column + 1 : column + 9] = True
            column += 9
        return table[kept].tobytes(), np.cumsum(kept.sum(axis=1)).tolist()

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
                _NULL * len(self._table.outputs),
                self._provenance(rejected.arm, int(batch.schema_ids[row])),
                _VALUE + varints.encode_text(rejected.rejection.reason.value),
                _VALUE + varints.encode_text(request_name(self._topic, self._partition, offset)),
            )
        )


def _prefix(length: int) -> bytes:
    return _PREFIXES[length] if length < _SHORT_TEXT_BYTES else varints.encode(length)
