"""Checksums of fetched record batches, by the instruction that the CPU has for it: a tenth of what the driver needs.

Where one is wrong the driver looks itself, and says so in its own way.
"""

from __future__ import annotations

from typing import Any, Final

import google_crc32c as crc32c
import numpy as np

FETCH: Final = 1
"""The number of the fetch API."""

_LENGTH_AT: Final = 8
_AFTER_LENGTH: Final = 12
_MAGIC_AT: Final = 16
_CHECKSUM_AT: Final = 17
_CHECKED_FROM: Final = 21
_MAGIC: Final = 2


def sound(records: bytes) -> bool:
    """Say whether every whole batch in what was fetched has its checksum; of older formats nothing is known: False.

    The format is Kafka's message format version 2; the last batch may be cut off.
    """
    whole = np.frombuffer(records, dtype=np.uint8)
    start = 0
    while start + _AFTER_LENGTH <= len(records):
        end = start + _AFTER_LENGTH + int.from_bytes(records[start + _LENGTH_AT : start + _AFTER_LENGTH])
        if end > len(records):
            break
        told = int.from_bytes(records[start + _CHECKSUM_AT : start + _CHECKED_FROM])
        if records[start + _MAGIC_AT] != _MAGIC or crc32c.value(whole[start + _CHECKED_FROM : end]) != told:
            return False
        start = end
    return True


def all_sound(answer: Any) -> bool:
    """Say the same of everything in the driver's answer to a fetch, whose last field of each partition are records."""
    return all(sound(bytes(partition[-1])) for _, partitions in answer.topics for partition in partitions)
