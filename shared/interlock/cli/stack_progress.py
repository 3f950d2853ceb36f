"""Shows on a terminal how the parts of a stack come up; without a terminal, one line when a part is ready."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self

from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from interlock.cli import screen

WAITED_FOR = ("waiting", "preparing", "starting", "restarting")


class Display:
    """A live list of parts with their state and time; give it the running record as often as you like."""

    def __init__(self) -> None:
        self._console = screen.notes()
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description:<10}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[said]}"),
        )
        self._progress = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._tasks: dict[str, TaskID] = {}
        self._ready: set[str] = set()
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last state on the screen."""
        self._progress.stop()

    def show(self, record: dict[str, Any]) -> None:
        """Draw the record."""
        for name, part in record["processes"].items():
            if name not in self._tasks:
                self._tasks[name] = self._progress.add_task(name, total=1, said="")
            if part["state"] in WAITED_FOR:
                self._progress.update(self._tasks[name], said=part["detail"] or part["state"])
            elif part["state"] == "ready" and name not in self._ready:
                self._ready.add(name)
                self._progress.update(self._tasks[name], completed=1, said=f"ready on 127.0.0.1:{part['port']}")
                if not self._console.is_terminal:
                    lasted = time.monotonic() - self._started
                    self._console.print(f"{name:<10} ready after {lasted:5.1f} s on 127.0.0.1:{part['port']}")
