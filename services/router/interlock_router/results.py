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
from interlock.codec.ragged import Part, Ragged, weave
from interlock.ids import request_name
from interlock.signature import Matrix
from interlock_router.batch import Batch, Rejection
from interlock_router.features import NO_AGE
from interlock_router.model import Arm, RouteTable, Rows

Floats = npt.NDArray[np.float64]

_NULL = b"\x00"
_VALUE = b"\x02"  # the second branch of a union whose first is null


@dataclass(frozen=True)
class Answer:
    """One arm's answers, row by row for `rows` of the batch, which rise.

    Outputs are float64 (rows, the arm's outputs), features (rows, the arm's inputs) as the version was given them.
    """

    arm: Arm
    rows: Rows
    outputs: Matrix
    features: Matrix

    def part(self, begin: int, end: int) -> Answer:
        """Return the answers to the batch's rows from `begin` to before `end`, whose first is row 0 then."""
        first, behind = np.searchsorted(self.rows, (begin, end)).tolist()
        mine = slice(first, behind)
        return Answer(self.arm, self.rows[mine] - begin, self.outputs[mine], self.features[mine])


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

    def encode(self, batch: Batch, answers: list[Answer], rejected: list[Rejected]) -> Ragged:
        """Return one framed result per request, in the order of their offsets."""
        pieces: list[tuple[Rows, Ragged]] = []
        for answer in answers:
            for schema_id in np.unique(batch.schema_ids[answer.rows]).tolist():
                chosen = np.flatnonzero(batch.schema_ids[answer.rows] == schema_id)
                pieces.append((answer.rows[chosen], self._encode_answers(batch, answer, chosen, schema_id)))
        if rejected:
            places = np.array([each.row for each in rejected], dtype=np.intp)
            pieces.append((places, Ragged.of([self._encode_rejected(batch, each) for each in rejected])))
        return pieces[0][1] if len(pieces) == 1 else _in_order(pieces, len(batch.records))

    def _encode_answers(self, batch: Batch, answer: Answer, chosen: Rows, schema_id: int) -> Ragged:
        rows = answer.rows[chosen]
        ids = batch.ids.some(rows)
        parts: list[Part] = [
            self._head,
            Ragged.integers(ids.lengths),
            ids,
            Ragged.integers(batch.offsets[rows]),
            Ragged.integers(batch.requested_at[rows]),
            *self._outputs(answer.arm, answer.outputs[chosen]),
        ]
        if self._table.online:
            parts += self._online(batch, answer.arm, rows)
        parts.append(self._provenance(answer.arm, schema_id) + _NULL + _NULL)
        return weave(parts, rows.size)

    def _outputs(self, arm: Arm, outputs: Matrix) -> list[Part]:
        places = {output.name: index for index, output in enumerate(arm.signature.outputs)}
        return [_doubles(outputs[:, places[name]]) if name in places else _NULL for name in self._table.outputs]

    def _online(self, batch: Batch, arm: Arm, rows: Rows) -> list[Part]:
        """Return the values that the arm was given, the age of the oldest, and a bit for each that was missing."""
        used = batch.used(arm.signature)
        places = {each.name: index for index, each in enumerate(arm.signature.online)}
        bits = np.zeros(rows.size, dtype=np.int64)
        parts: list[Part] = []
        for bit, name in enumerate(self._table.online):
            if name not in places:
                parts.append(_NULL)
                continue
            values = used.values[rows, places[name]]
            parts.append(_doubles(values, ~np.isnan(values)))
            bits |= used.missing[rows, places[name]].astype(np.int64) << bit
        ages = used.age_milliseconds[rows]
        parts += _nullable_integers(ages, ages != NO_AGE)
        return parts + ([_VALUE, Ragged.integers(bits)] if places else [_NULL])

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
                varints.encode(len(request_id)),
                request_id,
                varints.encode(offset),
                varints.encode(int(batch.requested_at[row])),
                _NULL * self._nulls,
                self._provenance(rejected.arm, int(batch.schema_ids[row])),
                _VALUE + varints.encode_text(rejected.rejection.reason.value),
                _VALUE + varints.encode_text(request_name(self._topic, self._partition, offset)),
            )
        )


def _doubles(numbers: Floats, there: npt.NDArray[np.bool_] | None = None) -> Ragged:
    """Write nullable doubles, null where they are not there."""
    table = np.empty((numbers.size, 9), dtype=np.uint8)
    table[:, 0] = _VALUE[0]
    table[:, 1:] = np.ascontiguousarray(numbers, dtype="<f8").view(np.uint8).reshape(-1, 8)
    if there is None:
        return Ragged.table(table)
    table[~there, 0] = _NULL[0]
    return Ragged.table(table, np.where(there, 9, 1))


def _nullable_integers(numbers: varints.Longs, there: npt.NDArray[np.bool_]) -> list[Part]:
    branch = np.where(there, _VALUE[0], _NULL[0]).astype(np.uint8)[:, None]
    table, lengths = varints.write(numbers)
    return [Ragged.table(branch), Ragged.table(table, np.where(there, lengths, 0))]


def _in_order(pieces: list[tuple[Rows, Ragged]], count: int) -> Ragged:
    """Put the results of several groups where their requests stand; of one without a group nothing is written."""
    starts, lengths = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    behind = 0
    for rows, values in pieces:
        starts[rows] = values.starts + behind
        lengths[rows] = values.lengths
        behind += values.buffer.size
    padding = np.zeros(lengths.max(), dtype=np.uint8)
    buffer = np.concatenate([*(values.buffer for _, values in pieces), padding])
    return weave([Ragged(buffer, starts, lengths)], count)
