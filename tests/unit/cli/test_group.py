from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from interlock.cli import main
from interlock.cli.menu import ENTRIES
from interlock.client.errors import FEATURE_UNKNOWN, Away, Refused, UnknownFeature


def interlock(*words: str, home: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in an environment that knows no stack but `home`'s."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
    return subprocess.run(
        [sys.executable, "-m", "interlock.cli", *words],
        capture_output=True,
        text=True,
        env=environment | {"INTERLOCK_HOME": str(home), "COLUMNS": "100"} | more,
        check=False,
    )


def test_a_mistyped_command_is_met_with_a_suggestion(tmp_path: Path) -> None:
    """Wrong use ends with status 2 and names the command that was probably meant."""
    done = interlock("modle", home=tmp_path)
    assert done.returncode == 2
    assert "model" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_stack_a_command_says_what_to_do(tmp_path: Path) -> None:
    """No address: what is missing, where it was looked for, and the way on; status 1 and no traceback."""
    done = interlock("model", "list", home=tmp_path)
    assert done.returncode == 1
    assert "INTERLOCK_URL and INTERLOCK_TOKEN" in done.stderr
    assert str(tmp_path) in done.stderr
    assert "  do:  " in done.stderr
    assert "interlock up" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_is_away_is_said_so(tmp_path: Path) -> None:
    """Nobody listens there: status 1, the address, and where to look."""
    done = interlock("endpoint", "list", home=tmp_path, INTERLOCK_URL="http://127.0.0.1:9", INTERLOCK_TOKEN="t")
    assert done.returncode == 1
    assert "http://127.0.0.1:9 does not answer" in done.stderr
    assert "interlock status" in done.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    """--debug is for those who look for the place."""
    done = interlock("model", "list", "--debug", home=tmp_path)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_command_of_the_menu_exists_and_explains_itself(
    entry: object, capsys: pytest.CaptureFixture[str]
) -> None:
    """The menu promises nothing that is not there: each name loads, and its own help has words."""
    name = entry.name  # type: ignore[attr-defined]  # pytest hands parameters over untyped
    assert main([name, "--help"]) == 0
    assert len(capsys.readouterr().out) > 100


def test_a_bug_is_one_sentence_without_debug(tmp_path: Path) -> None:
    """What we did not expect is called our mistake, with the way to report it."""
    code = (
        "import sys, interlock.cli.group as g, interlock.cli.model as m\n"
        "def broken(app):\n    raise RuntimeError('planted')\n"
        "m.register = broken\n"
        "g.run(['model', 'list'], debug=False)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: RuntimeError: planted")
    assert "--debug" in done.stderr
    assert "Traceback" not in done.stderr


def test_refusals_say_what_why_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    """Problem documents, refusals of our own and absences share one form."""
    from interlock.cli.screen import explain

    problem = {"title": "Own approval", "detail": "alice wrote it.", "code": "APPROVER_IS_AUTHOR", "hint": "Ask bob."}
    explain(Refused(403, problem))
    assert (
        capsys.readouterr().err == "error: alice wrote it.\n  why: Own approval (APPROVER_IS_AUTHOR)\n  do:  Ask bob.\n"
    )
    explain(UnknownFeature(FEATURE_UNKNOWN, ["no feature is called 'x'"]))
    assert "why: A request has a feature" in capsys.readouterr().err
    explain(Away("http://h", "refused"))
    assert "do:  look at `interlock status`" in capsys.readouterr().err
