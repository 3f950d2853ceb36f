"""Running a function in a child process that holds no secret, has no network, and may die without harm.

The child is a fresh interpreter (`python -I -m interlock.serving.child`): it reads `job.json` in its scratch folder,
confines itself, calls the target and leaves `result.json`. Its last named phase is kept in `phase`, so that a child
that dies is told by what it was doing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from interlock.errors import Code, Refusal
from interlock.serving.confinement import Limits

CHILD_DIED = Code(
    "CHILD_DIED",
    422,
    "The artifact killed the process that worked on it",
    "Check that the file is whole and that its own library loads and scores it.",
)
CHILD_TIMED_OUT = Code(
    "CHILD_TIMED_OUT", 422, "The work took longer than allowed", "Use a smaller model or data set, or raise the bound."
)
CHILD_RAISED = Code(
    "CHILD_RAISED",
    422,
    "The artifact raised an error",
    "Score the self-test vectors by the artifact on your own machine.",
)
CHILD_OUT_OF_MEMORY = Code(
    "CHILD_OUT_OF_MEMORY", 422, "The work needed more memory than allowed", "Use a smaller model, or raise the bound."
)

_CHILD: Final = "interlock.serving.child"
JOB_FILE: Final = "job.json"
RESULT_FILE: Final = "result.json"
_PHASE: Final = "phase"
_COMPLAINT: Final = "stderr"
_COMPLAINT_BYTES: Final = 2000
_OUT_OF_MEMORY: Final = (
    "MemoryError",
    "bad_alloc",
    "Cannot allocate memory",
    "Failed to allocate memory",
    "out of memory",
)
_MIB: Final = 1024 * 1024


class Job(msgspec.Struct, frozen=True):
    """What the child is told: the function (`module:name`), its argument, its bounds, what it may read."""

    target: str
    argument: Any
    limits: Limits
    reads: tuple[str, ...]
    parent: int


class Result(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the child leaves: the value, or the refusal's code and detail; and how it was confined."""

    confinement: dict[str, str]
    value: Any = None
    refusal: tuple[str, str] | None = None


async def run(
    target: str, argument: Any, *, limits: Limits, reads: Iterable[Path] = (), folder: Path | None = None
) -> Result:
    """Call `module:function` with a JSON-able argument in a confined child and return what it left.

    The scratch folder lies in `folder` (default: the system's) and is gone afterwards; a cancelled call kills the
    child first. Raises Refusal: CHILD_TIMED_OUT, CHILD_OUT_OF_MEMORY, CHILD_RAISED or CHILD_DIED, saying in which
    phase; CHILD_RAISED has the end of the traceback in its field `complaint`, for the log.
    """
    with tempfile.TemporaryDirectory(prefix="interlock-child-", dir=folder, ignore_cleanup_errors=True) as name:
        scratch = Path(name)
        job = Job(target, argument, limits, tuple(str(path) for path in reads), os.getpid())
        (scratch / JOB_FILE).write_bytes(msgspec.json.encode(job))
        status = await _wait(scratch, limits)
        return _left(scratch, status, limits)


async def _wait(scratch: Path, limits: Limits) -> int:
    """Start the child and wait for its end; negative is the signal that ended it. Nothing of it outlives this."""
    with (scratch / _COMPLAINT).open("wb") as complaint:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-B", "-m", _CHILD),
            cwd=scratch,
            env=_environment(scratch),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=complaint,
            start_new_session=True,
        )
    try:
        return await asyncio.wait_for(child.wait(), limits.seconds_max)
    except TimeoutError:
        raise Refusal(CHILD_TIMED_OUT, f"{_phase(scratch)} took longer than {limits.seconds_max:g} s.") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        await child.wait()


def _environment(scratch: Path) -> dict[str, str]:
    """Return the child's whole environment: nothing of the parent's, which may hold secrets."""
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def _left(scratch: Path, status: int, limits: Limits) -> Result:
    during = _phase(scratch)
    if status == 0 and (scratch / RESULT_FILE).is_file():
        if (scratch / RESULT_FILE).stat().st_size > limits.result_mib_max * _MIB:
            raise Refusal(CHILD_DIED, f"{during} gave a result above {limits.result_mib_max} MiB.")
        return msgspec.json.decode((scratch / RESULT_FILE).read_bytes(), type=Result)
    complaint = _end_of(scratch / _COMPLAINT)
    if any(words in complaint for words in _OUT_OF_MEMORY):
        raise Refusal(CHILD_OUT_OF_MEMORY, f"{during} needed more than {limits.memory_mib_max} MiB of memory.")
    if status == -signal.SIGXCPU:
        raise Refusal(CHILD_TIMED_OUT, f"{during} took more than {limits.cpu_seconds_max} s of CPU time.")
    if status < 0:
        raise Refusal(CHILD_DIED, f"{during} ended its process by {signal.Signals(-status).name}.")
    if status == 1 and "Traceback" in complaint:
        raise Refusal(CHILD_RAISED, f"{during} raised {complaint.strip().splitlines()[-1]}", complaint=complaint)
    raise Refusal(CHILD_DIED, f"{during} ended its process with status {status}.")


def _phase(scratch: Path) -> str:
    try:
        return (scratch / _PHASE).read_text()[:200]
    except (OSError, UnicodeDecodeError):
        return "starting"


def _end_of(path: Path) -> str:
    with path.open("rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - _COMPLAINT_BYTES))
        return stream.read().decode(errors="replace")


def enter_phase(sentence: str) -> None:
    """Say, from within a child, what comes next ("loading the artifact"): the subject of a sentence if it dies."""
    Path(_PHASE).write_text(sentence)
