"""What the audience sees: the story line by line, and live figures beneath it on a terminal."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from examples.fraud.closing import Row

PLAIN_SECONDS: Final = 3.0
PLAIN_COLUMNS: Final = 150
BAR_WIDTH: Final = 30


class Display:
    """Story lines above, live figures below; plain lines now and then where there is no terminal."""

    def __init__(self) -> None:
        self.terminal = sys.stdout.isatty()
        self._console = Console(highlight=False, width=None if self.terminal else PLAIN_COLUMNS)
        self._began = time.monotonic()
        self._live: Live | None = None
        self._printed = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.still()

    def chapter(self, title: str) -> None:
        """Begin a chapter."""
        self._console.print()
        self._console.print(Text(f"{self._clock()}  {title}", style="bold"))

    def say(self, sentence: str, style: str = "") -> None:
        """Tell one thing that happened."""
        self._console.print(Text(f"{self._clock()}  {sentence}", style=style))

    def command(self, line: str, who: str) -> None:
        """Show a command as its author would type it."""
        self._console.print(Text.assemble((f"{self._clock()}  ", ""), (f"{who}$ ", "green"), (line, "bold")))

    def remote(self, line: str) -> None:
        """Show a line that came back from the other side."""
        self._console.print(Text(f"         {line}", style="dim"))

    def figures(self, seen: Mapping[str, Any]) -> None:
        """Show what the independent consumer sees at this moment."""
        if not seen:
            return
        if not self.terminal:
            if time.monotonic() - self._printed >= PLAIN_SECONDS:
                self._printed = time.monotonic()
                self._console.print(f"{self._clock()}    {_line(seen)}")
            return
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(_panel(seen), refresh=True)

    def still(self) -> None:
        """Take the live figures away."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def table(self, rows: Sequence[Row]) -> None:
        """Show the closing table."""
        self.still()
        table = Table(
            title="Counted by an independent read_committed consumer", title_justify="left", header_style="bold"
        )
        for name, side in (("", "left"), ("measured", "right"), ("promised", "left"), ("", "left")):
            table.add_column(name, justify="right" if side == "right" else "left")
        for row in rows:
            table.add_row(row.what, row.value, row.promise, _mark(row))
        self._console.print()
        self._console.print(table)
        if any(row.figure and row.holds is False for row in rows):
            busy = os.getloadavg()[0]
            self.say(f"A figure of speed was missed; the load average of this machine is {busy:.1f}.", "yellow")

    def _clock(self) -> str:
        return f"{time.monotonic() - self._began:6.1f} s"


def _mark(row: Row) -> Text:
    if row.holds is None:
        return Text("")
    if row.holds:
        return Text("holds", "green")
    return Text("missed", "yellow") if row.figure else Text("BROKEN", "bold red")


def _line(seen: Mapping[str, Any]) -> str:
    spread = seen["latency_ms"]
    delay = f"p50 {spread['p50']:.0f} ms, p99 {spread['p99']:.0f} ms" if spread["count"] else "no results just now"
    counts = f"{seen['requests']:,} requests, {seen['read']:,} results, {seen['events_per_second']:,.0f}/s"
    return f"{counts}, {delay}, {_shares(seen)}"


def _shares(seen: Mapping[str, Any]) -> str:
    total = sum(seen["versions"].values()) or 1
    return (
        ", ".join(f"v{version} {count / total:.0%}" for version, count in seen["versions"].items()) or "no version yet"
    )


def _panel(seen: Mapping[str, Any]) -> Table:
    spread = seen["latency_ms"]
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column()
    table.add_row("requests", f"{seen['requests']:,}")
    table.add_row("results", f"{seen['read']:,}   {seen['events_per_second']:,.0f}/s")
    if spread["count"]:
        table.add_row("request to result", f"p50 {spread['p50']:.0f} ms   p99 {spread['p99']:.0f} ms")
    total = sum(seen["versions"].values()) or 1
    for version, count in seen["versions"].items():
        table.add_row(f"version {version}", f"{'█' * round(BAR_WIDTH * count / total)} {count / total:.0%}")
    return table
