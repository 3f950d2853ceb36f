"""Many Avro records of one schema read at once into columns: one cursor per record, all moved together.

The format is Apache Avro 1.12's binary encoding. No record can raise or disturb another: each carries its own fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from interlock.codec import varints
from interlock.codec.plan import Kind, Plan, Step
from interlock.codec.ragged import Ragged, windows
from interlock.codec.rowwise import Faults, read_rows
from interlock.codec.varints import Bytes, Longs
from interlock.errors import Reason

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]


@dataclass
class Column:
    """One field over all records: numbers, or texts, or symbols; null where `null` says so."""

    numbers: npt.NDArray[Any] | None = None  # float64 or int64; 0 where null
    spans: Ragged | None = None  # UTF-8; empty where null or at fault
    symbols: tuple[bytes, ...] | None = None  # `numbers` index it
    null: npt.NDArray[np.bool_] | None = None  # None where no record is null

    @cached_property
    def texts(self) -> list[bytes | None] | None:
        """The texts one by one, None where null; None where this is no column of texts."""
        if self.spans is None:
            return None
        if self.null is None:
            return list(self.spans)
        return [None if null else text for text, null in zip(self.spans, self.null.tolist(), strict=True)]


@dataclass(frozen=True)
class Block:
    """A run of doubles as one block of memory: float64 (records, names); some may be null."""

    names: tuple[str, ...]
    numbers: Floats
    whole: bool  # nothing in it is null


@dataclass
class Columns:
    """What a batch of records holds: a column per field, and a fault per record that could not be read."""

    count: int
    columns: dict[str, Column]
    faults: Faults
    blocks: tuple[Block, ...] = ()

    def texts(self, name: str) -> list[bytes | None] | None:
        """Return a text field as UTF-8 bytes per record, or None where the schema has no such text field."""
        column = self.columns.get(name)
        return column.texts if column else None

    def spans(self, name: str) -> Ragged | None:
        """Return a text field of which no record's is null as one column, or None where there is no such field."""
        column = self.columns.get(name)
        return column.spans if column and column.null is None else None

    def matrix(self, names: tuple[str, ...]) -> Floats | None:
        """Return float64 (records, names) where the schema has these doubles one behind the other and none is null.

        The memory is shared: whoever writes to it copies it first.
        """
        for block in self.blocks:
            if block.whole and names and names[0] in block.names:
                first = block.names.index(names[0])
                if block.names[first : first + len(names)] == names:
                    return block.numbers[:, first : first + len(names)]
        return None

    def longs(self, name: str) -> Longs | None:
        """Return an integer field (0 where null), or None where the schema has no such field."""
        column = self.columns.get(name)
        if column is None or column.numbers is None or column.symbols is not None:
            return None
        return column.numbers if column.numbers.dtype == np.int64 else None

    def feature(self, name: str, categories: tuple[str, ...] | None) -> tuple[Floats, npt.NDArray[np.bool_]] | None:
        """Return a feature as float64 (NaN where null or of an unknown category) and where it is missing.

        Categories are given by their index. Returns None where the schema has no field that could be this feature.
        """
        column = self.columns.get(name)
        if column is None:
            return None
        if categories is not None:
            return _categorised(column, categories)
        if column.numbers is None or column.symbols is not None:
            return None
        numbers = column.numbers.astype(np.float64)  # a copy: columns are shared between arms
        if column.null is not None:
            numbers[column.null] = np.nan
        return numbers, np.isnan(numbers)


def decode(values: Sequence[bytes] | Ragged, plan: Plan, skip: int = 0) -> Columns:
    """Read records of one schema; `skip` bytes of frame stand before each.

    Never raises for what is in the bytes: a record that is truncated, has bytes left over or holds the impossible gets
    that as its fault and zeros in its columns.
    """
    if plan.refusal is not None:
        faults = Faults(len(values))
        faults.set(np.arange(len(values)), Reason.MALFORMED, plan.refusal)
        return Columns(len(values), {}, faults)
    if not plan.columnar:
        raw, faults = read_rows(list(values), plan, skip)
        return Columns(len(values), {name: _from_python(cells) for name, cells in raw.items()}, faults)
    reader = _Reader(values if isinstance(values, Ragged) else Ragged.of(values), plan, skip)
    columns: dict[str, Column] = {}
    for step in plan.steps:
        columns.update(reader.read(step))
    reader.finish()
    return Columns(len(values), columns, reader.faults, tuple(reader.blocks))


class _Reader:
    """The cursors of one batch. A record at fault is parked in the padding, where every read is harmless."""

    def __init__(self, values: Ragged, plan: Plan, skip: int) -> None:
        size = len(values.content)
        padding = max(varints.BYTES_MAX, 9 * (1 + max(len(step.names) for step in plan.steps)))
        self.buffer: Bytes = np.zeros(size + padding + 1, dtype=np.uint8)
        self.buffer[:size] = values.content
        self.lengths: Longs = values.lengths
        self.blocks: list[Block] = []
        self.limit: Longs = np.cumsum(self.lengths)
        self.position: Longs = self.limit - self.lengths + skip
        self.park = size
        self.faults = Faults(len(values))
        self.every: Rows = np.arange(len(values))
        self._fail(np.flatnonzero(self.position > self.limit), Reason.TRUNCATED, "the frame")

    def read(self, step: Step) -> dict[str, Column]:
        """Read one step of every record."""
        if step.kind is Kind.DOUBLE:
            return self._doubles(step)
        rows, null = self.every, None
        if step.nullable:
            rows, null = self._branch(self.every, step)
        column = self._value(step, rows)
        column.null = null
        return {step.names[0]: column}

    def finish(self) -> None:
        """Find the records that have bytes left over."""
        self._fail(np.flatnonzero(self.position < self.limit), Reason.TRAILING_BYTES, "the last field")

    def _fail(self, rows: Rows, reason: Reason, where: str) -> None:
        """Note the first fault of each row, and park it."""
        if rows.size:
            self.faults.set(rows, reason, where)
            self.position[rows] = self.park

    def _move(self, rows: Rows, after: Longs, where: str) -> npt.NDArray[np.bool_]:
        """Move cursors forward; say which rows still stand inside their record."""
        inside = after <= self.limit[rows]
        self.position[rows] = after
        if not inside.all():
            self._fail(rows[~inside], Reason.TRUNCATED, where)
        return inside

    def _varint(self, rows: Rows, where: str) -> Longs:
        value, after, broken = varints.read(self.buffer, self.position[rows])
        inside = self._move(rows, after, where)
        if broken.any():
            self._fail(rows[broken], Reason.MALFORMED, where)
        value[~inside | broken] = 0
        return value

    def _branch(self, rows: Rows, step: Step) -> tuple[Rows, npt.NDArray[np.bool_] | None]:
        """Read the union branches: the rows that hold a value, and the mask of nulls."""
        where = step.names[0]
        branch = self._varint(rows, where)
        impossible = (branch != 0) & (branch != 1)
        self._fail(rows[impossible], Reason.MALFORMED, where)
        is_null = (branch == step.null_branch) | impossible
        return (rows[~is_null], is_null) if is_null.any() else (rows, None)

    def _doubles(self, step: Step) -> dict[str, Column]:
        """Gather a run of doubles as one block of memory per record; nullable runs so where nothing is null."""
        run, stride = len(step.names), 9 if step.nullable else 8
        block, inside = self._windows(self.every, run * stride)
        if step.nullable:
            cells = block.reshape(-1, run, 9)
            inside &= (cells[:, :, 0] == 2 * (1 - (step.null_branch or 0))).all(axis=1)
            block = np.ascontiguousarray(cells[:, :, 1:])
        numbers: Floats = block.view("<f8").reshape(-1, run).astype(np.float64, copy=False)
        null = np.zeros((self.every.size, run), dtype=np.bool_) if step.nullable else None
        self.position[inside] += run * stride
        rest = np.flatnonzero(~inside)
        if rest.size and null is not None:
            self._doubles_one_by_one(rest, step, numbers, null)
        elif rest.size:
            self._fail(rest, Reason.TRUNCATED, step.names[0])
        self.blocks.append(Block(step.names, numbers, whole=not rest.size or null is None))
        return {
            name: Column(numbers[:, index], null=None if null is None or not null[:, index].any() else null[:, index])
            for index, name in enumerate(step.names)
        }

    def _doubles_one_by_one(self, rows: Rows, step: Step, numbers: Floats, null: npt.NDArray[np.bool_]) -> None:
        """Read a nullable run of the rows that hold nulls.

        Bounds are checked once, behind the run: the padding is as long as a run, so no cursor can leave the buffer.
        """
        null_byte, value_byte = (0, 2) if step.null_branch == 0 else (2, 0)
        position, limit = self.position[rows], self.limit[rows]
        at_every_byte = windows(self.buffer, 8)
        impossible = np.zeros(rows.size, dtype=np.bool_)
        for index in range(len(step.names)):
            branch = self.buffer[position]
            is_null = branch == null_byte
            impossible |= ~is_null & (branch != value_byte) & (position < limit)
            numbers[rows, index] = at_every_byte[position + 1].view("<f8")
            null[rows, index] = is_null
            position += np.where(is_null, 1, 9)
        self._fail(rows[impossible], Reason.MALFORMED, step.names[0])
        self._move(rows[~impossible], position[~impossible], step.names[-1])

    def _windows(self, rows: Rows, width: int) -> tuple[Bytes, npt.NDArray[np.bool_]]:
        """Copy `width` bytes from each cursor, and say where they lie inside the record."""
        start = self.position[rows]
        inside = start + width <= self.limit[rows]
        return windows(self.buffer, width)[start].view(np.uint8).reshape(-1, width), inside

    def _value(self, step: Step, rows: Rows) -> Column:
        where = step.names[0]
        match step.kind:
            case Kind.NULL:
                return Column(numbers=np.zeros(self.every.size), null=np.ones(self.every.size, dtype=np.bool_))
            case Kind.BOOLEAN:
                return Column(numbers=self._spread(rows, self._bounded(rows, where, 1)))
            case Kind.ENUM:
                return Column(numbers=self._spread(rows, self._symbols(step, rows)), symbols=step.symbols)
            case Kind.INT | Kind.LONG:
                return Column(numbers=self._spread(rows, self._integers(step, rows)))
            case Kind.FLOAT:
                block, _ = self._windows(rows, 4)
                self._move(rows, self.position[rows] + 4, where)
                with np.errstate(invalid="ignore"):  # a signalling NaN is a NaN, and no reason to warn anybody
                    wide = block.view("<f4").reshape(-1).astype(np.float64)
                return Column(numbers=self._spread(rows, wide))
            case Kind.FIXED:
                self._move(rows, self.position[rows] + step.width, where)
                return Column()
        return self._texts(step, rows)

    def _bounded(self, rows: Rows, where: str, highest: int) -> Longs:
        value = self.buffer[self.position[rows]].astype(np.int64)
        self._move(rows, self.position[rows] + 1, where)
        self._fail(rows[value > highest], Reason.MALFORMED, where)
        return np.minimum(value, highest)

    def _symbols(self, step: Step, rows: Rows) -> Longs:
        value = self._varint(rows, step.names[0])
        outside = (value < 0) | (value >= len(step.symbols))
        self._fail(rows[outside], Reason.MALFORMED, step.names[0])
        value[outside] = 0
        return value

    def _integers(self, step: Step, rows: Rows) -> Longs:
        value = self._varint(rows, step.names[0])
        if step.kind is Kind.INT:
            outside = (value < -(2**31)) | (value >= 2**31)
            self._fail(rows[outside], Reason.MALFORMED, step.names[0])
        return value

    def _texts(self, step: Step, rows: Rows) -> Column:
        """Read lengths, move over the contents, and cut the texts out."""
        where = step.names[0]
        length = self._varint(rows, where)
        start = self.position[rows]
        self._fail(rows[length < 0], Reason.MALFORMED, where)
        room = self.limit[rows] - start
        inside = (length >= 0) & (length <= room)
        self._fail(rows[(length >= 0) & ~inside], Reason.TRUNCATED, where)
        kept, start, length = rows[inside], start[inside], length[inside]
        self.position[kept] = np.where(start >= self.park, self.park, start + length)
        if step.kind is Kind.BYTES:
            return Column()
        spans = Ragged(self.buffer, start, length)
        broken = self._broken(kept, spans)
        self._fail(broken, Reason.MALFORMED, where)
        return Column(spans=Ragged(self.buffer, self._spread(kept, start), self._spread(kept, length)))

    def _broken(self, rows: Rows, spans: Ragged) -> Rows:
        """Return the rows whose text is no UTF-8."""
        if bytes(spans.content).isascii():
            return rows[:0]
        found = [row for row, text in zip(rows.tolist(), spans, strict=True) if not is_text(text)]
        return np.array(found, dtype=np.intp)

    def _spread(self, rows: Rows, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Place the values of some rows among zeros for the others."""
        if rows.size == self.every.size:
            return values
        spread = np.zeros(self.every.size, dtype=values.dtype)
        spread[rows] = values
        return spread


def is_text(cell: bytes) -> bool:
    """Say whether bytes are UTF-8."""
    try:
        cell.decode()
    except UnicodeDecodeError:
        return False
    return True


def _categorised(column: Column, categories: tuple[str, ...]) -> tuple[Floats, npt.NDArray[np.bool_]] | None:
    place = {name.encode(): float(index) for index, name in enumerate(categories)}
    if column.symbols is not None and column.numbers is not None:
        table = np.array([place.get(symbol, np.nan) for symbol in column.symbols])
        missing = np.zeros(column.numbers.size, dtype=np.bool_) if column.null is None else column.null
        return np.where(missing, np.nan, table[column.numbers]), missing
    if column.texts is None:
        return None
    texts = column.texts
    numbers = np.array([np.nan if cell is None else place.get(cell, np.nan) for cell in texts], dtype=np.float64)
    return numbers, np.array([cell is None for cell in texts], dtype=np.bool_)


def _from_python(cells: list[Any]) -> Column:
    """Make a column of what the row-wise reader found; what is neither number nor text is no feature."""
    present = [cell for cell in cells if cell is not None]
    null = np.array([cell is None for cell in cells], dtype=np.bool_)
    if present and all(isinstance(cell, str) for cell in present):
        return Column(spans=Ragged.of([(cell or "").encode() for cell in cells]), null=null)
    if present and all(isinstance(cell, (bool, int)) and -(2**63) <= cell < 2**63 for cell in present):
        return Column(numbers=np.array([cell or 0 for cell in cells], dtype=np.int64), null=null)
    if present and all(isinstance(cell, (bool, int, float)) for cell in present):
        return Column(numbers=np.array([0.0 if cell is None else cell for cell in cells], dtype=np.float64), null=null)
    return Column()
