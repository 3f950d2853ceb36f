"""The command line: `interlock COMMAND`, every command importing only what it needs when it is called."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from interlock.cli.menu import BY_NAME, page


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0 done, 1 refused or failed, 2 wrongly called.

    The first page of help is printed without importing the command framework: it is what people wait for most.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    completing = "_INTERLOCK_COMPLETE" in os.environ
    if not completing and words in ([], ["--help"], ["-h"], ["help"]):
        sys.stdout.write(page())
        return 0
    if not completing and words == ["--version"]:
        from interlock import __version__

        sys.stdout.write(f"interlock {__version__}\n")
        return 0
    from interlock.cli.group import run

    return run(words, debug=debug)


__all__ = ["BY_NAME", "main"]
