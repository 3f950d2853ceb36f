"""A gate's data set: CSV or Parquet, columns by name, as the matrix a model takes and the labels beside it."""

from __future__ import annotations

import csv
import io
import math
from pathlib import PurePosixPath
from typing import Any, Final

import msgspec
import numpy as np

from interlock.errors import Refusal
from interlock.measures import Column
from interlock.signature import Input, Matrix, Signature, number_of
from interlock_builder.errors import DATA_INVALID

_LABEL_WORDS: Final = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0}
_FIELD_CHARACTERS_MAX: Final = 65536


class Table(msgspec.Struct, frozen=True):
    """Columns of plain values by name; empty text or None is missing. `first_line` is the line of row 0 in CSV."""

    path: str
    columns: dict[str, list[Any]]
    rows: int
    first_line: int

    def lacks(self, signature: Signature) -> list[str]:
        """Return the signature's inputs for which there is no column."""
        return [declared.name for declared in signature.inputs if declared.name not in self.columns]

    def matrix(self, signature: Signature) -> Matrix:
        """Return the inputs as float64 (rows, inputs). Raises Refusal(DATA_INVALID) with line and column."""
        missing = self.lacks(signature)
        if missing:
            raise Refusal(DATA_INVALID, f"{self.path} has no column {', '.join(missing[:8])}.")
        result = np.empty((self.rows, len(signature.inputs)), dtype=np.float64)
        for index, declared in enumerate(signature.inputs):
            result[:, index] = self._column(declared)
        return result

    def labels(self, name: str) -> Column:
        """Return the label column as float64 (rows,); true/false and yes/no count as 1/0."""
        if name not in self.columns:
            raise Refusal(DATA_INVALID, f"{self.path} has no label column {name!r}.")
        result = np.empty(self.rows, dtype=np.float64)
        for row, value in enumerate(self.columns[name]):
            result[row] = self._label(row, name, value)
        return result

    def _label(self, row: int, name: str, value: Any) -> float:
        try:
            number = float(_LABEL_WORDS.get(str(value).strip().lower(), value))
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise Refusal(DATA_INVALID, f"{self._place(row)}, label {name!r}: {value!r} is not a number.")
        return number

    def _column(self, declared: Input) -> Column:
        values = self.columns[declared.name]
        if declared.type in ("double", "float"):
            quick = _floats(values)
            if quick is not None and (declared.nullable or not np.isnan(quick).any()):
                return quick
        result = np.empty(self.rows, dtype=np.float64)
        known: dict[Any, float] = {}
        for row, value in enumerate(values):
            try:
                result[row] = known[value] if value in known else known.setdefault(value, number_of(declared, value))
            except ValueError as problem:
                raise Refusal(DATA_INVALID, f"{self._place(row)}, column {declared.name!r}: {problem}.") from None
        return result

    def _place(self, row: int) -> str:
        return f"{self.path} line {row + self.first_line}" if self.first_line else f"{self.path} row {row}"


def read(path: str, content: bytes, rows_max: int) -> Table:
    """Read a data set by its suffix (.csv or .parquet). Raises Refusal(DATA_INVALID)."""
    suffix = PurePosixPath(path).suffix.lower()
    if suffix == ".csv":
        return _csv(path, content, rows_max)
    if suffix == ".parquet":
        return _parquet(path, content, rows_max)
    raise Refusal(DATA_INVALID, f"{path} is neither .csv nor .parquet.")


def _floats(values: list[Any]) -> Column | None:
    """Return the values as floats at once, empty as NaN; None if one of them is no number."""
    try:
        return np.array([math.nan if value is None or value == "" else value for value in values], dtype=np.float64)
    except (ValueError, TypeError):
        return None


def _csv(path: str, content: bytes, rows_max: int) -> Table:
    csv.field_size_limit(_FIELD_CHARACTERS_MAX)
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        header = [name.strip() for name in next(reader, [])]
        if not header or len(set(header)) != len(header):
            raise Refusal(DATA_INVALID, f"{path} has no header line, or one that names a column twice.")
        rows: list[list[str]] = []
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise Refusal(
                    DATA_INVALID, f"{path} line {reader.line_num}: {len(row)} fields, the header has {len(header)}."
                )
            if len(rows) == rows_max:
                raise Refusal(DATA_INVALID, f"{path} has more than {rows_max} rows.")
            rows.append(row)
    except (UnicodeDecodeError, csv.Error) as error:
        raise Refusal(DATA_INVALID, f"{path} is not CSV in UTF-8: {error}.") from error
    columns = dict(zip(header, map(list, zip(*rows, strict=True)), strict=True)) if rows else {n: [] for n in header}
    return Table(path, columns, len(rows), 2)


def _parquet(path: str, content: bytes, rows_max: int) -> Table:
    try:
        from pyarrow import ArrowException, BufferReader, parquet
    except ImportError as error:
        raise Refusal(
            DATA_INVALID, f"{path}: this builder has no pyarrow, which Parquet needs; ship the data as CSV."
        ) from error
    try:
        file = parquet.ParquetFile(BufferReader(content))
        if file.metadata.num_rows > rows_max:
            raise Refusal(DATA_INVALID, f"{path} has more than {rows_max} rows.")
        table = file.read()
    except (ArrowException, OSError) as error:
        raise Refusal(DATA_INVALID, f"{path} is not Parquet: {error}.") from error
    return Table(path, {name: table[name].to_pylist() for name in table.column_names}, table.num_rows, 0)
