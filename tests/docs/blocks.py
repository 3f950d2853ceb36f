"""Fenced blocks of a page, and one shell that runs them in order as a reader would type them."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

FENCE = re.compile(r"^```(?P<kind>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
OUTPUT_CHARACTERS_MAX = 4_000

# Reads names of files from one descriptor, sources each, and says on another when it is through.
# A command that fails ends the shell, and with it the second descriptor.
DRIVER = """
while IFS= read -r block <&{names}; do
  source "$block" >"$block.out" 2>&1 </dev/null {names}<&- {done}>&-
  printf 'done\\n' >&{done}
done
"""


@dataclass(frozen=True)
class Block:
    """One fenced block: where it begins, what stands behind its fence, and its text."""

    page: Path
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """Return a page's fenced blocks in order."""
    content = page.read_text()
    return [
        Block(page, content.count("\n", 0, match.start()) + 1, match["kind"].strip(), match["text"])
        for match in FENCE.finditer(content)
    ]


class BlockFailed(AssertionError):
    """A block ended with an error, or not in time; the text holds what it printed."""


class Shell:
    """One bash, `set -euo pipefail`, that keeps its folder and variables from block to block."""

    def __init__(self, scratch: Path, folder: Path, environment: Mapping[str, str]) -> None:
        self._scratch = scratch
        names_read, self._names = os.pipe()
        self._done, done_write = os.pipe()
        command = DRIVER.format(names=names_read, done=done_write)
        bash = shutil.which("bash")
        assert bash is not None
        self._process = subprocess.Popen(
            [bash, "--noprofile", "--norc", "-euo", "pipefail", "-c", command],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            pass_fds=(names_read, done_write),
            start_new_session=True,
        )
        os.close(names_read)
        os.close(done_write)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, block: Block, seconds: float) -> str:
        """Run a block and return what it printed. Raises BlockFailed."""
        path = self._scratch / f"{block.page.stem}-{block.line}.sh"
        path.write_text(block.text)
        output = path.with_name(f"{path.name}.out")
        deadline = time.monotonic() + seconds
        try:
            os.write(self._names, f"{path}\n".encode())
            ready, _, _ = select.select([self._done], [], [], deadline - time.monotonic())
            finished = bool(ready) and os.read(self._done, len(b"done\n")) == b"done\n"
        except BrokenPipeError:
            ready, finished = [self._done], False
        printed = output.read_text(errors="replace") if output.exists() else ""
        if not finished:
            self.close()
            why = "ended with an error" if ready else f"was not through after {seconds:.0f} s"
            raise BlockFailed(f"{block} {why}:\n{block.text}\n--- printed\n{printed[-OUTPUT_CHARACTERS_MAX:]}")
        return printed

    def close(self) -> None:
        """End the shell and whatever it still runs in the foreground."""
        for descriptor in (self._names, self._done):
            if descriptor >= 0:
                os.close(descriptor)
        self._names = self._done = -1
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
