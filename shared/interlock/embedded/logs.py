"""The parts' log files: their last lines, and what is added to them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path

LOOK_SECONDS = 0.2


def tail(files: Mapping[str, Path], lines: int) -> Iterator[tuple[str, str]]:
    """Yield (name, line) for the last lines of each file."""
    for name, path in files.items():
        with path.open(errors="replace") as stream:
            for line in deque(stream, maxlen=lines):
                yield name, line.rstrip("\n")


def follow(files: Mapping[str, Path], lines: int) -> Iterator[tuple[str, str]]:
    """Yield the last lines of each file, then what is added, until the reader stops; survives rotation."""
    positions = {name: path.stat().st_size for name, path in files.items()}
    yield from tail(files, lines)
    while True:
        for name, path in files.items():
            size = path.stat().st_size
            if size < positions[name]:
                positions[name] = 0
            if size > positions[name]:
                with path.open("rb") as stream:
                    stream.seek(positions[name])
                    added = stream.read(size - positions[name])
                whole, _, rest = added.rpartition(b"\n")
                positions[name] = size - len(rest)
                for line in whole.decode(errors="replace").splitlines():
                    yield name, line
        time.sleep(LOOK_SECONDS)
