from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from examples.fraud.processes import REPOSITORY

COMMAND = [sys.executable, "-m", "examples.fraud.demo", "--home"]


@pytest.mark.slow
@pytest.mark.stack
@pytest.mark.timeout(400)
def test_the_demo_keeps_every_promise(tmp_path: Path) -> None:
    """The whole story on a stack of its own: exit status 0, and nothing of it runs afterwards."""
    done = subprocess.run(
        [*COMMAND, str(tmp_path / "demo")], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "BROKEN" not in done.stdout
    assert not _of(tmp_path)


@pytest.fixture
def heeded() -> Iterator[None]:
    """Undo what a shell does to a job in the background: it makes it, and all that it starts, deaf to Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.stack
@pytest.mark.timeout(180)
@pytest.mark.usefixtures("heeded")
def test_ctrl_c_leaves_nothing_running(tmp_path: Path) -> None:
    """Interrupted while the stack starts: status 130, no traceback, and no process of it left."""
    with subprocess.Popen(
        [*COMMAND, str(tmp_path / "demo")],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as demo:
        _wait((tmp_path / "demo" / "run" / "stack.json").exists)
        os.killpg(demo.pid, signal.SIGINT)
        output, _ = demo.communicate(timeout=120)
    assert demo.returncode == 130, output
    assert "Traceback" not in output
    _wait(lambda: not _of(tmp_path))


def _wait(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _of(folder: Path) -> list[str]:
    """The processes whose command line or environment names the folder."""
    found = []
    for process in psutil.process_iter():
        try:
            words = " ".join(process.cmdline())
            if str(folder) in words or str(folder) in process.environ().get("INTERLOCK_HOME", ""):
                found.append(words)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found
