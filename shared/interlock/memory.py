"""Memory of a process that works in batches: what was freed is kept for the next one, what is there is left alone.

glibc gives a freed piece of a megabyte back to the system at once, and the next one costs a page fault for every four
kilobytes: a large part of what observations cost a lane (ADR 0010). See mallopt(3).
"""

from __future__ import annotations

import ctypes
import gc
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3

KEPT_BYTES_MAX: Final = 64 * 1024 * 1024
"""The most freed memory at the heap's end that is kept."""

HEAP_BYTES_MAX: Final = 32 * 1024 * 1024
"""A larger piece is taken from the system by itself, and given back when it is freed; glibc allows no more."""


def settle() -> None:
    """Do both, when the process has loaded what it needs and is about to begin."""
    keep_freed()
    spare_what_is_there()


def keep_freed() -> bool:
    """Have this process keep what it frees; return whether the C library can be told so (musl and macOS cannot)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, HEAP_BYTES_MAX) and mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES_MAX))


NEW_OBJECTS_MAX: Final = 50_000
"""How many objects may be new before they are searched for garbage: those of ten batches of requests."""


def spare_what_is_there() -> None:
    """Leave out of every later search for garbage what the process has loaded; search what is new less often.

    A batch makes thousands of objects and no cycles; and a search of everything that Ray and the rest have loaded
    holds up all lanes at once.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS_MAX, 10, 10)
