"""Where each key of a TOML text stands, since `tomllib` gives values without their lines."""

from __future__ import annotations

import re
from collections.abc import Iterator

Path = tuple[str | int, ...]

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"\s*((?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*'))*)\s*=")
_PART = re.compile(r"[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*'")
_TOKEN = re.compile(r"\"\"\"|'''|\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*'|[\[\]{}#]")


class Lines:
    """The lines of a valid TOML text by path: ("inputs", 2, "type") is the key `type` of the third [[inputs]]."""

    def __init__(self, source: str) -> None:
        self._lines: dict[Path, int] = {}
        table: Path = ()
        counts: dict[Path, int] = {}
        for number, line in _statements(source):
            header = _HEADER.match(line)
            if header:
                table = tuple(_parts(header.group(2)))
                if header.group(1) == "[[":
                    counts[table] = counts.get(table, -1) + 1
                    self._lines.setdefault(table, number)
                    table = (*table, counts[table])
                self._lines.setdefault(table, number)
            elif key := _KEY.match(line):
                self._lines.setdefault((*table, *_parts(key.group(1))), number)

    def of(self, path: Path) -> int:
        """Return the line of the path, or of the nearest thing around it; 1 when nothing is known."""
        while path:
            if path in self._lines:
                return self._lines[path]
            path = path[:-1]
        return 1


def _parts(dotted: str) -> list[str]:
    return [part.strip("\"'") for part in _PART.findall(dotted)]


def _statements(source: str) -> Iterator[tuple[int, str]]:
    """Yield the lines on which a header or a key begins, skipping the inside of values that span lines."""
    depth = 0
    quote: str | None = None
    for number, line in enumerate(source.split("\n"), start=1):
        if depth == 0 and quote is None:
            yield number, line
            if _HEADER.match(line):
                continue
            key = _KEY.match(line)
            rest = line[key.end() :] if key else line
        else:
            rest = line
        depth, quote = _after(rest, depth, quote)


def _after(text: str, depth: int, quote: str | None) -> tuple[int, str | None]:
    """Return bracket depth and open multi-line quote after a piece of a value."""
    position = 0
    while position < len(text):
        if quote is not None:
            end = text.find(quote, position)
            if end < 0:
                return depth, quote
            position, quote = end + 3, None
            continue
        token = _TOKEN.search(text, position)
        if token is None or token.group() == "#":
            break
        position = token.end()
        if token.group() in ('"""', "'''"):
            quote = token.group()
        elif token.group() in "[{":
            depth += 1
        elif token.group() in "]}":
            depth = max(0, depth - 1)
    return depth, quote
