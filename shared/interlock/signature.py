"""What a model takes and gives: named, typed columns, and how a row of them becomes a row of float64."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
ColumnType = Literal["double", "float", "long", "int", "boolean", "string"]

COLUMN_TYPES: Final = ("double", "float", "long", "int", "boolean", "string")
OUTPUT_TYPES: Final = ("double", "float", "long", "int")
RESERVED_INPUTS: Final = frozenset({"request_id", "requested_at"})
RESERVED_OUTPUTS: Final = frozenset(
    {
        *(
            "request_id",
            "offset",
            "requested_at",
            "topic",
            "partition",
            "endpoint",
            "model",
            "version",
            "digest",
            "epoch",
        ),
        *("arm", "request_schema_id", "scored_at", "rejection", "dead_letter"),
        *("features_age_milliseconds", "features_missing"),
    }
)
ONLINE_TYPES: Final = ("double", "float", "long", "int", "boolean")
ONLINE_INPUTS_MAX: Final = 63
"""The bits of `features_missing` that a long has room for."""
ONLINE_PREFIX: Final = "online_"
"""A result field of this name, and the input's behind it, holds the value that was looked up."""
_TRUE: Final = frozenset({"true", "1", "yes"})
_FALSE: Final = frozenset({"false", "0", "no"})


class Online(msgspec.Struct, frozen=True):
    """How a feature is looked up: how old a value may be, and what stands for one that is missing or older.

    Without a default that is NaN.
    """

    age_seconds_max: float
    default: float | None = None

    @property
    def stand_in(self) -> float:
        """What is given to the model where there is no value to use."""
        return math.nan if self.default is None else self.default


class Input(msgspec.Struct, frozen=True):
    """One feature: its name, its type, whether it may be missing, and the closed list of its categories.

    With `online` it is in no request: it is looked up by the request's key.
    """

    name: str
    type: ColumnType
    nullable: bool = False
    categories: tuple[str, ...] | None = None
    description: str = ""
    online: Online | msgspec.UnsetType = msgspec.UNSET  # unset, not None: signatures without it keep their bytes


class Output(msgspec.Struct, frozen=True):
    """One number that the model answers, and the range it promises to stay in (bounds included)."""

    name: str
    type: ColumnType = "double"
    minimum: float | None = None
    maximum: float | None = None


class Signature(msgspec.Struct, frozen=True):
    """A model's inputs and outputs, in order.

    Between all parts of the platform rows travel as a *matrix*: float64 of shape (rows, inputs), NaN for
    missing, a category as its index in `categories` (an unknown one as NaN), a boolean as 0 or 1. Answers are
    float64 of shape (rows, outputs).
    """

    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]

    @property
    def online(self) -> tuple[Input, ...]:
        """The inputs that are looked up, in order."""
        return tuple(declared for declared in self.inputs if declared.online)

    def to_json(self) -> str:
        """Return the signature as JSON, byte for byte the same for equal signatures."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Signature:
        """Read what `to_json` wrote; raises `msgspec.ValidationError` on anything else."""
        return msgspec.json.decode(text, type=cls)

    def matrix(self, rows: Sequence[Sequence[Any] | Mapping[str, Any]]) -> Matrix:
        """Return rows of plain values (lists in order, or mappings by name) as float64 of shape (rows, inputs).

        Raises ValueError naming row and column for a value that its type does not allow.
        """
        result = np.empty((len(rows), len(self.inputs)), dtype=np.float64)
        for index, row in enumerate(rows):
            if isinstance(row, Mapping):
                values: Sequence[Any] = self._by_name(index, row)
            elif isinstance(row, Sequence) and not isinstance(row, str):
                values = row
            else:
                raise ValueError(f"row {index}: neither a list nor an object")  # noqa: TRY004 - bad data, not a bad call
            if len(values) != len(self.inputs):
                raise ValueError(f"row {index}: {len(values)} values for {len(self.inputs)} inputs")
            for column, (declared, value) in enumerate(zip(self.inputs, values, strict=True)):
                try:
                    result[index, column] = number_of(declared, value)
                except ValueError as problem:
                    raise ValueError(f"row {index}, input {declared.name!r}: {problem}") from None
        return result

    def _by_name(self, index: int, row: Mapping[str, Any]) -> list[Any]:
        unknown = set(row) - {declared.name for declared in self.inputs}
        if unknown:
            raise ValueError(f"row {index}: no such input: {', '.join(sorted(unknown))}")
        return [row.get(declared.name) for declared in self.inputs]


def number_of(declared: Input, value: Any) -> float:
    """Return one plain value (number, text, boolean, None) as the float that stands for it in a matrix.

    Text is understood for every type, as data sets hold it; empty text is missing. A missing value of an online input
    is its default, as it is in a lane. Raises ValueError saying why.
    """
    if value is None or (isinstance(value, str) and value == "") or (isinstance(value, float) and math.isnan(value)):
        if declared.online:
            return declared.online.stand_in
        if not declared.nullable:
            raise ValueError("is missing, and the input is not nullable")
        return math.nan
    if declared.type == "string":
        categories = declared.categories or ()
        text = str(value)
        return float(categories.index(text)) if text in categories else math.nan
    if declared.type == "boolean":
        return _boolean(value)
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{value!r} is not a number") from None
    if declared.type in ("int", "long") and not number.is_integer():
        raise ValueError(f"{value!r} is not a whole number")
    return number


def _boolean(value: Any) -> float:
    text = str(value).strip().lower()
    if text in _TRUE or text == "1.0":
        return 1.0
    if text in _FALSE or text == "0.0":
        return 0.0
    raise ValueError(f"{value!r} is neither true nor false")
