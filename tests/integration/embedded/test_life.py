"""The stack's life: up, down, deaths, and what is left of it afterwards."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from interlock import embedded
from interlock.embedded.home import Home
from interlock.embedded.launch import StartFailed, down, is_running, up
from interlock.embedded.ports import Ports
from tests.integration.embedded.rig import interlock, leader, processes, psql, until

DATABASES = ("postgres", "valkey")


def test_up_status_env_and_down_as_a_stranger_types_them(tmp_path: Path) -> None:
    """`up` returns when all works, a second `up` says that it runs, `down` leaves no process and keeps the data."""
    home = tmp_path / "home"
    first = interlock("up", "--only", "kafka,postgres,valkey", "--free-ports", home=home)
    try:
        assert first.returncode == 0, first.stderr
        assert "127.0.0.1" in first.stdout
        second = interlock("up", "--only", "valkey", home=home)
        assert (second.returncode, "already running" in second.stdout) == (0, True)
        state = json.loads(interlock("status", "--json", home=home).stdout)
        assert {part["name"]: part["health"] for part in state["parts"]} == {
            "kafka": "ok", "postgres": "ok", "valkey": "ok", "supervisor": "ok",
        }  # fmt: skip
        assert all(part["memory_bytes"] > 0 for part in state["parts"])
        environment = interlock("env", "--export", home=home).stdout
        assert "export INTERLOCK_KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:" in environment
    finally:
        ended = interlock("down", home=home)
    assert (ended.returncode, ended.stdout.strip()) == (0, "Stopped.")
    assert processes(home) == []
    assert (home / "data" / "postgres" / "PG_VERSION").exists()
    assert interlock("status", home=home).returncode == 1


def test_a_stack_starts_as_many_routers_as_it_is_told(tmp_path: Path) -> None:
    """Each is a part with a port of its own, and says that it is ready."""
    home = tmp_path / "home"
    more = {"INTERLOCK_ROUTER_PROCESSES": "2"}
    first = interlock("up", "--only", "router", "--free-ports", home=home, more=more)
    try:
        assert first.returncode == 0, first.stderr
        state = json.loads(interlock("status", "--json", home=home).stdout)
        routers = {part["name"]: part for part in state["parts"] if part["name"].startswith("router")}
        assert {name: part["health"] for name, part in routers.items()} == {"router": "ok", "router-2": "ok"}
        assert routers["router"]["port"] != routers["router-2"]["port"]
    finally:
        interlock("down", home=home)
    assert processes(home) == []


def test_killed_supervisor_leaves_no_orphan_and_the_next_up_recovers(tmp_path: Path) -> None:
    """After kill -9 of the supervisor every process ends by itself; what was committed is there after the next `up`."""
    home = Home(tmp_path / "home")
    environment = up(home, embedded.SERVERS, usual_ports=False)
    try:
        psql(environment, "CREATE TABLE kept (number integer); INSERT INTO kept VALUES (7)")
        record = home.record()
        assert record is not None
        os.kill(record["supervisor_pid"], signal.SIGKILL)
        assert until(lambda: processes(home.folder) == []), processes(home.folder)
        assert until(lambda: not is_running(home))
        again = up(home, embedded.SERVERS, usual_ports=False)
        assert psql(again, "SELECT number FROM kept") == "7"
        assert again["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"] == environment["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"]
    finally:
        down(home)


@pytest.mark.parametrize("name", embedded.SERVERS)
def test_killed_server_is_started_again(name: str, tmp_path: Path) -> None:
    """Kill -9 of each server: it is back, proved, at the same port, and counted as one restart."""
    home = tmp_path / "home"
    with embedded.running(home, (name,)):
        before = leader(home, name)
        os.kill(before, signal.SIGKILL)

        def back() -> bool:
            record = Home(home).record()
            assert record is not None
            part = record["processes"][name]
            return bool(part["pid"] != before and part["state"] == "ready" and part["restarts"] == 1)

        assert until(back, 60.0), Home(home).record()


def test_stack_ends_with_the_process_that_owns_it(tmp_path: Path) -> None:
    """A program that ran a stack in a `with` block and was killed leaves nothing behind."""
    home = tmp_path / "home"
    program = (
        "import sys, time\nfrom interlock import embedded\n"
        "with embedded.running(sys.argv[1], ('valkey',)):\n    print('up', flush=True)\n    time.sleep(600)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", program, str(home)], stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "up\n"
        assert processes(home)
    finally:
        owner.kill()
        owner.communicate()
    assert until(lambda: not processes(home) and not is_running(Home(home)))


def test_taken_port_is_left_to_its_holder(tmp_path: Path) -> None:
    """A remembered port that somebody else took meanwhile is not waited for: another one is chosen and remembered."""
    home = Home(tmp_path / "home")
    home.create()
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        (home.folder / "ports.json").write_text(json.dumps({"valkey": taken}))
        with embedded.running(home.folder, ("valkey",)) as environment:
            assert f":{taken}/" not in environment["INTERLOCK_REDIS_URL"]
            chosen = json.loads((home.folder / "ports.json").read_bytes())["valkey"]
            assert f":{chosen}/" in environment["INTERLOCK_REDIS_URL"]


def test_two_stacks_never_choose_the_same_port(tmp_path: Path) -> None:
    """A port that one stack has reserved and not yet opened is not given to a second one."""
    one, two = Home(tmp_path / "one"), Home(tmp_path / "two")
    one.create()
    two.create()
    first, second = Ports(one), Ports(two)
    try:
        port = first.reserve("kafka", usual=False)
        (two.folder / "ports.json").write_text(json.dumps({"kafka": port}))
        second = Ports(two)
        assert second.reserve("kafka", usual=False) != port
    finally:
        first.release()
        second.release()


@pytest.mark.skipif(os.getuid() != 0, reason="a plain user runs every other test of this file as one")
def test_plain_user_can_run_it(tmp_path: Path) -> None:
    """Seen from a plain user (a user namespace in which we are uid 1000 without rights), the same commands work."""
    prefix = ("unshare", "-U", "--map-user=1000", "--map-group=1000")
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no user namespaces here")
    home = tmp_path / "home"
    more = {"USER": "somebody", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    started = interlock("up", "--only", ",".join(DATABASES), "--free-ports", home=home, more=more, prefix=prefix)
    try:
        assert started.returncode == 0, started.stderr
        command = Path(f"/proc/{leader(home, 'postgres')}/cmdline").read_bytes()
        assert b"unshare" not in command
    finally:
        ended = interlock("down", home=home, more=more, prefix=prefix)
    assert ended.stdout.strip() == "Stopped."
    assert processes(home) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become nobody")
def test_root_without_namespaces_runs_postgres_as_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where root has no `unshare`, PostgreSQL runs as uid 65534 from a copy of its programs, data chowned to it."""
    with tempfile.TemporaryDirectory(prefix="interlock-", dir="/var/tmp") as folder:
        monkeypatch.setenv("PATH", folder)
        home = Path(folder)
        with pytest.raises(StartFailed, match="set INTERLOCK_HOME"), embedded.running(home / "home", ("postgres",)):
            pass
        home.chmod(0o755)
        with embedded.running(home / "home", ("postgres",)) as environment:
            assert Path(f"/proc/{leader(home / 'home', 'postgres')}").stat().st_uid == 65534
            assert psql(environment, "SELECT 6 * 7") == "42"
