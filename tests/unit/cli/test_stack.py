from __future__ import annotations

from pathlib import Path

import pytest

from interlock.cli.stack import export_line


def test_the_line_to_copy_works_for_a_program_and_a_home_off_the_usual_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """After `make up` neither the program is on the path nor is the home the usual one: the line names both."""
    monkeypatch.setenv("PATH", "")
    line = export_line(".venv/bin/interlock", Path("/a checkout/.interlock"))
    assert line == "eval \"$(.venv/bin/interlock env --export --home '/a checkout/.interlock')\""


def test_the_line_to_copy_is_short_where_all_is_usual(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the program on the path and the home where it always is, neither is named."""
    program = tmp_path / "interlock"
    program.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert export_line(str(program), Path.home() / ".interlock") == 'eval "$(interlock env --export)"'
