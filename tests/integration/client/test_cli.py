from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from interlock.embedded.home import Home
from interlock.embedded.services import token
from tests.integration.client.journey import TOKEN_SECONDS, push, small_model

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]


class Shell:
    """A terminal in which `interlock` is typed, by people with roles of their own."""

    def __init__(self, stack: dict[str, str]) -> None:
        self._stack = stack

    def run(self, *words: str, who: str = "olga", role: str = "operator") -> subprocess.CompletedProcess[str]:
        secret = token(Home(Path(self._stack["INTERLOCK_HOME"])), who, (role,), TOKEN_SECONDS)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
        return subprocess.run(
            [sys.executable, "-m", "interlock.cli", *words],
            env=environment
            | {"INTERLOCK_HOME": self._stack["INTERLOCK_HOME"], "INTERLOCK_TOKEN": secret, "COLUMNS": "160"},
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )

    def say(self, *words: str, who: str = "olga", role: str = "operator") -> str:
        """Run a command that must succeed and return what it printed."""
        done = self.run(*words, who=who, role=role)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def json(self, *words: str) -> Any:
        """Run a command with --json and return the document."""
        return json.loads(self.say(*words, "--json"))


@pytest.fixture
def shell(stack: dict[str, str], small: dict[str, Any]) -> Shell:
    return Shell(stack)


def test_lists_and_shows_as_tables_and_as_json(shell: Shell) -> None:
    """What a person reads and what a program reads say the same."""
    assert "small" in shell.say("model", "list")
    assert [each["model"] for each in shell.json("model", "list") if each["model"] == "small"] == ["small"]
    assert "proven" in shell.say("version", "list", "small")
    version = shell.json("version", "show", "small", "1")
    assert (version["state"], version["author"]) == ("proven", "alice")
    assert version["digest"][7:19] in shell.say("version", "list", "small")
    assert "bob" in shell.say("version", "show", "small", "1")
    assert "version 1" in shell.say("endpoint", "show", "small")
    assert "amount" in shell.say("endpoint", "show", "small")
    assert shell.json("endpoint", "show", "small")["champion"]["version"] == 1
    assert "small" in shell.say("endpoint", "list")


def test_live_commands_can_be_asked_once(shell: Shell) -> None:
    """`follow --once` and `top --once` end by themselves, for people and for scripts."""
    assert "small version 1 is promoted on small by olga" in shell.say("follow", "--model", "small", "--once")
    lines = shell.say("follow", "--model", "small", "--once", "--json").splitlines()
    assert "VersionPromoted" in {json.loads(line)["type"] for line in lines}
    assert "EVENTS/S" in shell.say("top", "small", "--once")
    assert json.loads(shell.say("top", "small", "--once", "--json"))["endpoint"] == "small"


def test_refusals_say_what_why_and_what_to_do(shell: Shell) -> None:
    """Unknown names, missing roles and one's own version: three lines and status 1, never a traceback."""
    for words, who, role in (
        (("model", "show", "nobody"), "vera", "viewer"),
        (("promote", "small", "99"), "olga", "operator"),
        (("promote", "small", "1"), "vera", "viewer"),
        (("approve", "small", "1", "--endpoint", "small"), "alice", "approver"),
        (("rollback", "nowhere", "--reason", "none"), "olga", "operator"),
    ):
        done = shell.run(*words, who=who, role=role)
        assert done.returncode == 1, done.stdout
        assert done.stderr.startswith("error: ")
        assert "  why: " in done.stderr
        assert "  do:  " in done.stderr
        assert "Traceback" not in done.stderr


def test_completion_knows_names_and_numbers(shell: Shell, stack: dict[str, str]) -> None:
    """The shell completes commands, endpoints of the registry and the versions behind them."""

    def complete(words: str) -> str:
        environment = {"_INTERLOCK_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        return subprocess.run(
            [sys.executable, "-m", "interlock.cli"],
            env=os.environ | stack | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout

    assert "promote" in complete("interlock prom")
    assert "small" in complete("interlock promote sm")
    assert complete("interlock promote small ").split() == ["1"]
    assert "complete" in shell.say("completion", "bash")


async def test_a_second_version_and_back_by_the_command_line(
    shell: Shell, stack: dict[str, str], tmp_path: Path
) -> None:
    """Endpoint, approval, promotion with --wait, a second version, and the way back: as a README tells it."""
    # A name of its own for each run, so that a stack left running can be tested against again.
    shop = f"shop{os.getpid()}"
    assert (await push(stack, small_model(tmp_path / "tree", shop, 1), shop, "one"))[0]
    assert f"{shop}.requests" in shell.say("endpoint", "create", shop, "--model", shop, "--partitions", "1")
    for version in ("1", "2"):
        if version == "2":
            assert (await push(stack, small_model(tmp_path / "tree", shop, 2), shop, "two"))[0]
        shell.say("approve", shop, version, "--endpoint", shop, who="bob", role="approver")
        assert f"answered by version {version}" in shell.say("promote", shop, version, "--wait")
    back = shell.say("rollback", shop, "--reason", "a customer called", "--wait")
    assert "answered by version 1 again" in back
    assert shell.json("endpoint", "show", shop)["champion"]["version"] == 1
