"""The inside of a sandbox: confine this process, call one function, leave its result; run by `sandbox.run` only."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from interlock.errors import Refusal
from interlock.serving.confinement import confine
from interlock.serving.sandbox import JOB_FILE, RESULT_FILE, Job, Result


def main() -> None:
    """Carry out the job in the working folder. A traceback on standard error tells the parent what was raised."""
    job = msgspec.json.decode(Path(JOB_FILE).read_bytes(), type=Job)
    held = confine(job.limits, Path.cwd(), [Path(path) for path in job.reads])
    if os.getppid() != job.parent:
        sys.exit("the parent is gone")
    module, _, name = job.target.partition(":")
    function: Callable[[Any], Any] = getattr(importlib.import_module(module), name)
    try:
        result = Result(held, value=function(job.argument))
    except Refusal as refusal:
        result = Result(held, refusal=(refusal.code.id, refusal.detail))
    Path(RESULT_FILE).write_bytes(msgspec.json.encode(result))


if __name__ == "__main__":
    main()
