"""What the audit log keeps of a batch: a BLAKE3 digest of its results and one of its requests' values.

A digest covers one message: the number of values, where each of them ends, and the values, one behind the other.
Numbers are four bytes big-endian; an end counts from where the values begin, with the highest bit set where there is no
value. BLAKE3 is a tree over the message, so a few kilobytes prove one value out of millions (`slices`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from interlock.codec import slices
from interlock.codec.ragged import Ragged

NUMBER_BYTES = 4

NO_VALUE = 0x8000_0000
"""The bit that is set in the end of a request without a value."""

ALGORITHM = "blake3:"

Values = Sequence[bytes | None] | Ragged


def digest(values: Values) -> str:
    """Return `blake3:` and the digest of a batch's values in 64 hexadecimal digits, in the order of their offsets.

    Raises ValueError for values of 2 GiB together: they would not fit in ends of 31 bits.
    """
    head, _, content = _message(values)
    return ALGORITHM + blake3(head).update(content).hexdigest()


def proof_of(values: Sequence[bytes | None], row: int) -> tuple[int, list[slices.Chunk]]:
    """Return how long a batch's message is, and the chunks of it that prove value `row`.

    They hold the number of values, the value's own end and the one before, the last end, and the value. Raises
    IndexError for a row that is not there.
    """
    if not 0 <= row < len(values):
        raise IndexError(f"there is no row {row} among {len(values)}")
    head, ends, content = _message(values)
    begin = int(ends[row - 1]) if row else 0
    shown = [
        (0, NUMBER_BYTES),
        (NUMBER_BYTES * max(row, 1), NUMBER_BYTES * (row + 2)),
        (len(head) - NUMBER_BYTES, len(head)),
        (len(head) + begin, len(head) + int(ends[row])),
    ]
    return len(head) + len(content), slices.chunks(head + bytes(content), shown)


def _message(values: Values) -> tuple[bytes, npt.NDArray[np.int64], bytes | memoryview]:
    """Return what a digest covers: the numbers, then the values; and between the two where each value ends."""
    content: bytes | memoryview
    missing: list[int] = []
    if isinstance(values, Ragged):
        lengths, content = values.lengths, values.content
    else:
        lengths = np.fromiter((len(value or b"") for value in values), dtype=np.int64, count=len(values))
        content = b"".join(value or b"" for value in values)
        missing = [row for row, value in enumerate(values) if value is None]
    ends = np.cumsum(lengths)
    if ends.size and ends[-1] >= NO_VALUE:
        raise ValueError(f"{ends[-1]} bytes are more than the digest of a batch can cover")
    written = ends.astype(">u4")
    if missing:
        written[missing] |= NO_VALUE
    return len(values).to_bytes(NUMBER_BYTES, "big") + written.tobytes(), ends, content
