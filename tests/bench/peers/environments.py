"""The peers' environments: a virtual environment for each, made from its exact pins and kept for the next run.

They live under $XDG_CACHE_HOME/interlock/bench/<name> (or ~/.cache/…), so that nothing a peer needs comes near the
platform's own packages.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
INSTALL_SECONDS_MAX = 600
_STAMP = "interlock-peer.json"
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)")
_VERSIONS = (
    "import importlib.metadata, json; "
    "print(json.dumps({d.metadata['Name']: d.version for d in importlib.metadata.distributions()}))"
)

Say = Callable[[str], None]


class CannotInstall(Exception):
    """A peer's environment could not be made; the message says why."""


def folder(name: str) -> Path:
    """Return where the peer's environment stands."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "interlock" / "bench" / name


def python(name: str) -> Path:
    """Return the peer's interpreter."""
    return folder(name) / "bin" / "python"


def pins(name: str) -> dict[str, str]:
    """Return the versions that the peer's requirements pin, by normalised name."""
    lines = (HERE / name / "requirements.txt").read_text().splitlines()
    return {_normal(match[1]): match[2] for line in lines if (match := _PIN.match(line))}


def installed(name: str) -> dict[str, str]:
    """Return the versions that stand in the peer's environment, by normalised name."""
    command = [str(python(name)), "-c", _VERSIONS]
    listed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return {_normal(package): version for package, version in json.loads(listed.stdout).items()}


def prepare(name: str, say: Say) -> Path:
    """Make the peer's environment where it is missing or other than its pins, and return its interpreter.

    Raises CannotInstall. Two runs at once wait for each other.
    """
    with _alone(name):
        if _stamp(name) == _wanted(name) and python(name).exists():
            return python(name)
        say(f"{name}: setting up {folder(name)} ({len(pins(name))} packages)")
        shutil.rmtree(folder(name), ignore_errors=True)
        _uv("venv", "--quiet", "--python", sys.executable, str(folder(name)))
        requirements = str(HERE / name / "requirements.txt")
        _uv("pip", "install", "--quiet", "--python", str(python(name)), "-r", requirements)
        differing = {package: found for package, found in installed(name).items() if pins(name).get(package) != found}
        missing = pins(name).keys() - installed(name).keys()
        if differing or missing:
            raise CannotInstall(f"{name}: other than its pins: {differing}, missing {sorted(missing)}")
        (folder(name) / _STAMP).write_text(json.dumps(_wanted(name)))
        return python(name)


def _wanted(name: str) -> dict[str, str]:
    requirements = (HERE / name / "requirements.txt").read_bytes()
    return {"requirements": hashlib.sha256(requirements).hexdigest(), "python": sys.version}


def _stamp(name: str) -> dict[str, str] | None:
    try:
        stamp: dict[str, str] = json.loads((folder(name) / _STAMP).read_text())
    except FileNotFoundError:
        return None
    return stamp


def _uv(*arguments: str) -> None:
    beside = Path(sys.executable).parent / "uv"
    command = [str(beside) if beside.exists() else "uv", *arguments]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=INSTALL_SECONDS_MAX)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise CannotInstall(str(error)) from error
    if done.returncode:
        raise CannotInstall(done.stderr.strip())


@contextmanager
def _alone(name: str) -> Iterator[None]:
    folder(name).parent.mkdir(parents=True, exist_ok=True)
    with (folder(name).parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _normal(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()
