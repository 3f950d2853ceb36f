"""A driver outlives its cluster: Ray killed and started again at the same address is found again, by one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from interlock import embedded
from interlock.blobs import Blobs
from tests.integration.serving import graphs

SECONDS_MAX = 90.0

DEPLOY = """
import asyncio, json, sys
from pathlib import Path
from interlock.serving import cluster, replica
given = json.loads(sys.argv[1])
application = replica.application("sound", 1, given["digest"], manifest_digest=given["manifest"],
                                  artifact_digest=given["artifact"], blob_folder=Path(given["folder"]))
async def main():
    control = cluster.ServeControl(given["address"])
    await control.deploy(application, "sound")
    while not (state := (await control.status()).get("sound")) or not state.running:
        await asyncio.sleep(0.2)
asyncio.run(main())
"""


class Driver:
    """The process of `driver.py`, asked line by line."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.serving.driver"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def end(self) -> None:
        """Make sure that it is gone."""
        self.process.kill()
        self.process.communicate()

    def ask(self, line: str) -> dict[str, Any]:
        """Return its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, f"the driver ended with {self.process.wait(10)}"
        found: dict[str, Any] = json.loads(answer)
        return found

    def ask_until(self, line: str, key: str) -> dict[str, Any]:
        """Ask again until the answer has the key."""
        until = time.monotonic() + SECONDS_MAX
        while time.monotonic() < until:
            answer = self.ask(line)
            if key in answer:
                return answer
            time.sleep(0.2)
        raise AssertionError(f"no {key} within {SECONDS_MAX} s: {answer}")


@pytest.fixture
def ray_environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Run an embedded Ray alone; give a driver's whole environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with embedded.running(tmp_path / "home", ("ray",)) as environment:
        yield kept | environment


def deploy(environment: dict[str, str], folder: Path) -> str:
    """Deploy a sound version by a process of its own and return its digest."""
    digest, manifest, artifact = graphs.stored(
        Blobs(folder), graphs.manifest_text("sound", 1, ["a", "b"]), graphs.linear([1.0, 1.0])
    )
    given = {"digest": digest, "manifest": manifest, "artifact": artifact, "folder": str(folder)}
    given["address"] = environment["INTERLOCK_RAY_ADDRESS"]
    subprocess.run([sys.executable, "-c", DEPLOY, json.dumps(given)], env=environment, check=True, timeout=SECONDS_MAX)
    return digest


def kill_cluster(home: Path) -> None:
    """Kill -9 every process of Ray; the stack's supervisor starts it again."""
    record = json.loads((home / "run" / "stack.json").read_text())
    head = psutil.Process(record["processes"]["ray"]["pid"])
    for process in [*head.children(recursive=True), head]:
        process.kill()


@pytest.mark.fault
@pytest.mark.timeout(300)
def test_a_cluster_killed_and_started_again_is_found_again(ray_environment: dict[str, str], tmp_path: Path) -> None:
    """While it is away calls are Transient; then the same driver process deploys, calls and ends cleanly on SIGTERM.

    It is the first driver of either cluster, so both give it the same job id.
    """
    driver = Driver(ray_environment)
    try:
        assert driver.ask("status") == {"status": {}}
        digest = deploy(ray_environment, tmp_path / "blobs")
        assert driver.ask("call sound") == {"digest": digest, "outputs": [[3.0]]}
        assert driver.ask("status") == {"status": {"sound": "RUNNING"}}
        kill_cluster(tmp_path / "home")
        assert driver.ask("call sound")["error"] in ("Transient", "ModelDied")
        assert driver.ask_until("status", "status") == {"status": {}}
        assert driver.ask("call sound")["error"] == "Transient"
        deploy(ray_environment, tmp_path / "blobs")
        assert driver.ask_until("call sound", "digest")["digest"] == digest
        driver.process.terminate()
        assert driver.process.wait(30) == 0
    finally:
        driver.end()
