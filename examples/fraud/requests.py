"""The stream's requests as bytes, thousands at a time.

All of the example's features have a fixed width in Avro (doubles and booleans), and so has the request id; so the
framed requests are the rows of one matrix of bytes, filled column by column. Only `requested_at` is written late.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from examples.fraud.features import BOOLEANS, NAMES
from examples.fraud.simulator import Floats, Integers

Bytes = NDArray[np.uint8]

ID_DIGITS = 8
INSTANT_BYTES = 6  # zigzag varints of milliseconds have six bytes from 2004 until 2039
_FRAME_BYTES = 5
_ID_AT = _FRAME_BYTES + 1
_INSTANT_AT = _ID_AT + 1 + ID_DIGITS
_FEATURES_AT = _INSTANT_AT + INSTANT_BYTES


class Requests:
    """The whole stream, encoded; `bytes_of` gives a range of it, dated and ready to be sent."""

    def __init__(self, columns: Floats, schema_id: int = 0) -> None:
        widths = [1 if name in BOOLEANS else 8 for name in NAMES]
        self._rows = np.zeros((len(columns), _FEATURES_AT + sum(widths)), dtype=np.uint8)
        self.frame(schema_id)
        self._rows[:, _FRAME_BYTES] = 2 * (1 + ID_DIGITS)
        numbers = np.arange(len(columns))
        for digit in range(ID_DIGITS):
            self._rows[:, _ID_AT + 1 + digit] = ord("0") + numbers // 10 ** (ID_DIGITS - 1 - digit) % 10
        at = _FEATURES_AT
        for index, width in enumerate(widths):
            column = np.ascontiguousarray(columns[:, index])
            self._rows[:, at : at + width] = (
                column.astype("<f8").view(np.uint8).reshape(-1, 8) if width == 8 else column.astype(np.uint8)[:, None]
            )
            at += width

    def frame(self, schema_id: int) -> None:
        """Write the schema's id into the frame of every request."""
        self._rows[:, 1:_FRAME_BYTES] = np.frombuffer(schema_id.to_bytes(4, "big"), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self._rows)

    def bytes_of(self, start: int, stop: int, phase: str, due_milliseconds: Integers) -> list[bytes]:
        """Return the framed requests of a range; `phase` is the letter their ids begin with."""
        rows = self._rows[start:stop]
        rows[:, _ID_AT] = ord(phase)
        rows[:, _INSTANT_AT:_FEATURES_AT] = varints(due_milliseconds)
        width = rows.shape[1]
        whole = rows.tobytes()
        return [whole[at : at + width] for at in range(0, len(whole), width)]


def varints(milliseconds: Integers) -> Bytes:
    """Return each instant as the six bytes of its zigzag varint; raises ValueError outside 2004 to 2039."""
    zigzag = (milliseconds.astype(np.int64) << 1).astype(np.uint64)
    if len(zigzag) and not (
        int(zigzag.min()) >= 1 << 7 * (INSTANT_BYTES - 1) and int(zigzag.max()) < 1 << 7 * INSTANT_BYTES
    ):
        raise ValueError("an instant does not have six bytes as a varint")
    shifts = np.arange(INSTANT_BYTES, dtype=np.uint64) * np.uint64(7)
    groups = (zigzag[:, None] >> shifts) & np.uint64(0x7F)
    groups[:, :-1] |= np.uint64(0x80)
    return groups.astype(np.uint8)
