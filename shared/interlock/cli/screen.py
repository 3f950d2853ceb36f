"""What a person or a program sees of a command: tables, JSON, and errors that say what to do."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from interlock.errors import InterlockError, Refusal, Transient
from interlock.ids import short_digest

T = TypeVar("T")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")]

PIPE_COLUMNS = 400

STATE_STYLES = {
    "registered": "dim",
    "building": "yellow",
    "built": "yellow",
    "proven": "green",
    "refused": "red",
    "failed": "red",
    "PASS": "green",
    "FAIL": "red",
    "NOT_ENOUGH_EVIDENCE": "yellow",
}


def console() -> Console:
    """Return the console for answers (standard output); Rich drops colour by itself where it is not wanted."""
    if sys.stdout.isatty():
        return Console(highlight=False)
    # In a pipe nothing is folded or cut: a digest that breaks over two lines cannot be searched for.
    return Console(highlight=False, soft_wrap=True, width=None if "COLUMNS" in os.environ else PIPE_COLUMNS)


def notes() -> Console:
    """Return the console for remarks (standard error), so that answers can be piped."""
    return Console(stderr=True, highlight=False)


def print_json(value: Any) -> None:
    """Print one JSON document, indented, keys as the server gave them."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_json_line(value: Any) -> None:
    """Print one JSON document on one line and flush: the form for streams."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], empty: str) -> None:
    """Print a table, or the sentence `empty` if it has no rows."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(paint(cell) for cell in row))
    console().print(table if table.row_count else empty)


def print_facts(facts: Mapping[str, Any]) -> None:
    """Print names and values, one a line."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, paint(value))
    console().print(table)


def paint(cell: Any) -> str:
    """Return a cell as text: `-` for nothing, states in their colour (the word itself says it too)."""
    if cell is None or cell == "":
        return "-"
    text = str(cell)
    style = STATE_STYLES.get(text)
    if style:
        return f"[{style}]{text}[/{style}]"
    return text.replace("[", "\\[")


def short(digest: str | None) -> str:
    """Return the first twelve digits of a digest, as people compare them."""
    return short_digest(digest or "") or "-"


def number(value: float | None) -> str:
    """Return a figure with four digits after the point, or `-`."""
    return "-" if value is None else f"{value:.4f}"


def moment(value: Any) -> str:
    """Return a time (ISO text or milliseconds) as the reader's own clock shows it, with the zone."""
    if value is None:
        return "-"
    if isinstance(value, (int, float)):
        instant = datetime.fromtimestamp(value / 1000, UTC)
    else:
        instant = datetime.fromisoformat(str(value))
    return instant.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def finish(work: Callable[[], Awaitable[T]]) -> T:
    """Run an asynchronous command to its end."""

    async def whole() -> T:
        return await work()

    return asyncio.run(whole())


def explain(error: InterlockError) -> None:
    """Say on standard error what happened, why, and what to do."""
    why, do = "", ""
    if isinstance(error, Refusal):
        why, do = f"{error.code.title} ({error.code.id})", error.code.hint
    elif isinstance(error, Transient):
        why, do = "a server is away or busy", "try again in a moment; `interlock status` shows what runs."
    why = getattr(error, "why", why) or why
    do = getattr(error, "do", do) or do
    lines = [f"error: {error.detail}"]
    lines += [f"  why: {why}"] if why else []
    lines += [f"  do:  {do}"] if do else []
    sys.stderr.write("\n".join(lines) + "\n")
