"""The child process: what it cannot reach, and how each way of dying is told."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path

import psutil
import pytest

from interlock.errors import Refusal
from interlock.serving import sandbox
from interlock.serving.confinement import Limits

EVAL = "builtins:eval"
LIMITS = Limits(seconds_max=20, cpu_seconds_max=10, memory_mib_max=512)
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="confinement is the Linux kernel's")


async def test_it_returns_what_the_function_returns() -> None:
    """The value comes back, with how the child was confined."""
    result = await sandbox.run(EVAL, "[1, 'two', None]", limits=LIMITS)
    assert result.value == [1, "two", None]
    assert set(result.confinement) == {"network", "privileges", "files"}


@LINUX
async def test_it_reaches_neither_secrets_nor_files_nor_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Environment, the parent's memory and environment, other files, any write outside, any connection: nothing."""
    monkeypatch.setenv("INTERLOCK_TOKEN", "secret")
    secret = tmp_path / "secret"
    secret.write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        probes = {
            f"open({str(secret)!r}).read()": "PermissionError",
            f"open('/proc/{os.getpid()}/environ', 'rb').read()": "PermissionError",
            f"open({str(tmp_path / 'new')!r}, 'w')": "PermissionError",
            f"__import__('os').unlink({str(secret)!r})": "PermissionError",
            f"__import__('socket').create_connection(('127.0.0.1', {port}), 2)": "unreachable",
        }
        result = await sandbox.run(EVAL, "None", limits=LIMITS)
        if any(words.startswith("open:") for words in result.confinement.values()):
            pytest.skip(f"this kernel confines less: {result.confinement}")
        for probe, words in probes.items():
            with pytest.raises(Refusal, match=words):
                await sandbox.run(EVAL, probe, limits=LIMITS)
    environment = (await sandbox.run(EVAL, "dict(__import__('os').environ)", limits=LIMITS)).value
    assert not [name for name in environment if name.startswith("INTERLOCK")]
    assert secret.read_text() == "secret"


async def test_it_reads_what_it_is_given(tmp_path: Path) -> None:
    """A file named in `reads` can be read."""
    (tmp_path / "given").write_text("hello")
    result = await sandbox.run(
        EVAL, f"open({str(tmp_path / 'given')!r}).read()", limits=LIMITS, reads=[tmp_path / "given"]
    )
    assert result.value == "hello"


@pytest.mark.parametrize(
    ("expression", "code", "words"),
    [
        ("__import__('os').kill(__import__('os').getpid(), 11)", "CHILD_DIED", "SIGSEGV"),
        ("__import__('os')._exit(3)", "CHILD_DIED", "status 3"),
        ("1 / 0", "CHILD_RAISED", "ZeroDivisionError"),
        ("bytearray(1 << 30)", "CHILD_OUT_OF_MEMORY", "512 MiB"),
        ("__import__('time').sleep(60)", "CHILD_TIMED_OUT", "2 s"),
        ("sum(1 for _ in iter(int, 1))", "CHILD_TIMED_OUT", "CPU"),
    ],
)
async def test_each_way_of_dying_is_told(expression: str, code: str, words: str) -> None:
    """A refusal with its own code and sentence, within the bound; no child is left."""
    cpu_seconds_max = 1 if words == "CPU" else 10
    seconds_max = 2 if words == "2 s" else 20
    limits = Limits(seconds_max=seconds_max, cpu_seconds_max=cpu_seconds_max, memory_mib_max=512)
    started = time.monotonic()
    with pytest.raises(Refusal, match=words) as refused:
        await sandbox.run(EVAL, expression, limits=limits)
    assert refused.value.code.id == code
    assert time.monotonic() - started < 20
    living = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    assert not [child for child in living if "interlock.serving.child" in child.cmdline()]


async def test_it_leaves_no_scratch_folder(tmp_path: Path) -> None:
    """The scratch folder is gone, whether the child lived or died."""
    await sandbox.run(EVAL, "open('junk', 'w').write('x' * 1000)", limits=LIMITS, folder=tmp_path)
    with pytest.raises(Refusal):
        await sandbox.run(EVAL, "__import__('os').abort()", limits=LIMITS, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
