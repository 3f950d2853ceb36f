"""Ray as the stack starts it: on loopback only, closed to whoever has no token."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from interlock import embedded
from tests.integration.embedded.rig import processes

DEPLOY = """
import ray
from ray import serve
ray.init(address=ADDRESS, namespace="serve", log_to_driver=False)

@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class Echo:
    def __call__(self, number): return number

print("answered", serve.run(Echo.bind(), name="echo", route_prefix=None).remote(7).result(timeout_s=30))
"""
CONNECT = "import ray; ray.init(address=ADDRESS)"


def _run(program: str, environment: dict[str, str], seconds: float) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    source = program.replace("ADDRESS", repr(environment["INTERLOCK_RAY_ADDRESS"]))
    return subprocess.run(
        [sys.executable, "-c", source],
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def _listening(home: Path) -> set[str]:
    found = set()
    for process in processes(home):
        for connection in psutil.Process(process.pid).net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                found.add(connection.laddr.ip.removeprefix("::ffff:"))
    return found


def test_replica_answers_over_loopback_with_a_token_and_not_without(tmp_path: Path) -> None:
    """A driver with the printed environment is served; no process listens beyond 127.0.0.1; no token, no entry."""
    home = tmp_path / "home"
    with embedded.running(home, ("ray",)) as environment:
        served = _run(DEPLOY, environment, 90)
        assert "answered 7" in served.stdout, served.stderr
        assert _listening(home) == {"127.0.0.1"}
        marks = [Path(f"/proc/{process.pid}/environ").read_bytes() for process in processes(home)]
        assert not any(b"INTERLOCK_TOKEN=" in mark or b"POSTGRES" in mark for mark in marks)
        stranger = {name: value for name, value in environment.items() if not name.startswith("RAY_AUTH")}
        # Ray's client tries for half a minute; what it says meanwhile is the answer.
        with pytest.raises(subprocess.TimeoutExpired) as waiting:
            _run(CONNECT, stranger | {"RAY_AUTH_MODE": "disabled"}, 15)
        assert b"InvalidAuthToken" in (waiting.value.stderr or b"")
