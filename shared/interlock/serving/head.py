"""The head of an embedded Ray cluster: its own process starts GCS and raylet, and nothing that is not needed.

`python -m interlock.serving.head run …` stays; `… prove HOST:PORT` connects as a driver, starts Serve without HTTP
proxies, runs one task and leaves. The command line of Ray starts three more processes (dashboard, client server,
monitors: 200 MB) that handles do not need; Ray is pinned to one version, because this uses its node object.
"""

from __future__ import annotations

import argparse
import logging
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any, cast

DEATH_LOOK_SECONDS = 0.5
CONNECT_SECONDS_MAX = 20.0
TASK_SECONDS_MAX = 60.0
NAMESPACE = "serve"


def run(port: int, folder: Path, processors: int, object_store_bytes: int) -> int:
    """Start the cluster on 127.0.0.1:port and stay until SIGTERM (0) or until one of its processes dies (1)."""
    from ray._private.node import Node
    from ray._private.parameter import RayParams

    class Head(Node):
        """A node without the dashboard's process."""

        def start_api_server(self, **options: Any) -> None:
            """Start nothing: there is no dashboard here."""

    stopped = threading.Event()
    _on_signals(stopped)
    parameters = RayParams(
        node_ip_address="127.0.0.1",
        gcs_server_port=port,
        num_cpus=processors,
        object_store_memory=object_store_bytes,
        temp_dir=str(folder),
        include_dashboard=False,
        dashboard_host="127.0.0.1",
        include_log_monitor=cast("Any", False),  # noqa: FBT003 - declared as text, tested as a truth value
        no_monitor=True,
        worker_path=str(Path(__file__).with_name("worker.py")),
    )
    logging.getLogger("ray").setLevel(logging.ERROR)
    node = Head(parameters, head=True, shutdown_at_exit=False, spawn_reaper=False)
    _on_signals(stopped)  # Ray installs its own on the way
    dead: list[Any] = []
    while not stopped.wait(DEATH_LOOK_SECONDS) and not dead:
        dead = cast("Any", node).dead_processes()
    for kind, process in dead:
        sys.stderr.write(f"Ray's {kind} ended with {process.returncode}; see {folder}/session_latest/logs.\n")
    node.kill_all_processes(check_alive=False, allow_graceful=not dead)
    return 1 if dead else 0


def _on_signals(stopped: threading.Event) -> None:
    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


def prove(address: str) -> int:
    """Start Serve (handles only) if it does not run yet, run one task, look at Serve's status."""
    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions

    _wait_for_port(address)
    ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
    serve.start(http_options=HTTPOptions(location="NoServer"))

    @ray.remote(num_cpus=0)
    def answer() -> int:
        return 42

    if ray.get(answer.remote(), timeout=TASK_SECONDS_MAX) != 42:
        return 1
    serve.status()
    return 0


def _wait_for_port(address: str) -> None:
    host, port = address.rsplit(":", 1)
    deadline = time.monotonic() + CONNECT_SECONDS_MAX
    while True:
        try:
            socket.create_connection((host, int(port)), 1.0).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def main() -> int:
    """Parse the command line and do what it says."""
    parser = argparse.ArgumentParser(prog="python -m interlock.serving.head")
    commands = parser.add_subparsers(dest="command", required=True)
    runner = commands.add_parser("run")
    runner.add_argument("--port", type=int, required=True)
    runner.add_argument("--folder", type=Path, required=True)
    runner.add_argument("--processors", type=int, required=True)
    runner.add_argument("--object-store-bytes", type=int, required=True)
    prover = commands.add_parser("prove")
    prover.add_argument("address")
    given = parser.parse_args()
    if given.command == "prove":
        return prove(given.address)
    return run(given.port, given.folder, given.processors, given.object_store_bytes)


if __name__ == "__main__":
    sys.exit(main())
