"""The command: generates, checks, releases; and holds new schemas against what was released."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from interlock.codegen import declared, picture
from interlock.codegen.__main__ import main
from interlock.codegen.source import load
from interlock.errors import REASON_MEANINGS, Reason

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a copy of the schemas with everything generated from them, without released versions."""
    shutil.copytree(ROOT / "schemas", tmp_path / "schemas", ignore=shutil.ignore_patterns("released"))
    (tmp_path / "shared").mkdir()
    (tmp_path / "services").mkdir()
    assert main(["--root", str(tmp_path)]) == 0
    return tmp_path


def edit(tree: Path, event: str, **changes: Any) -> None:
    """Change keys of an event's schema."""
    path = tree / "schemas/events" / f"{event}.avsc"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def fields(tree: Path, event: str) -> list[dict[str, Any]]:
    """Return the fields of an event's schema."""
    found: list[dict[str, Any]] = json.loads((tree / "schemas/events" / f"{event}.avsc").read_text())["fields"]
    return found


def test_a_second_run_writes_nothing(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Regeneration changes no byte."""
    before = {path: path.read_bytes() for path in tree.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert main(["--root", str(tree)]) == 0
    assert capsys.readouterr().out == ""
    assert {path: path.read_bytes() for path in tree.rglob("*") if path.is_file()} == before


def test_the_check_names_what_is_stale_and_writes_nothing(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, the paths of the files, and the spoiled file stays as it was."""
    assert main(["--root", str(tree), "--check"]) == 0
    (tree / "docs/reference/topics.md").write_text("spoiled")
    (tree / "deploy/kafka/acl.json").unlink()
    capsys.readouterr()
    assert main(["--root", str(tree), "--check"]) == 1
    assert capsys.readouterr().out == "stale: deploy/kafka/acl.json\nstale: docs/reference/topics.md\n"
    assert (tree / "docs/reference/topics.md").read_text() == "spoiled"


def test_nonsense_is_said_in_a_sentence(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1 and no traceback."""
    (tree / "schemas/ids.toml").write_text("")
    assert main(["--root", str(tree)]) == 1
    assert "gives BatchAnswered no id" in capsys.readouterr().err


def test_a_release_is_frozen_once(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The copies are the bytes of the originals; a second freeze is refused."""
    assert main(["--root", str(tree), "--release", "0.1.0"]) == 0
    frozen = tree / "schemas/released/0.1.0/events/Route.avsc"
    assert frozen.read_bytes() == (tree / "schemas/events/Route.avsc").read_bytes()
    assert main(["--root", str(tree), "--release", "0.1.0"]) == 1
    assert "released already" in capsys.readouterr().err


def test_a_new_field_without_a_default_breaks_the_promise(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The verdict names the field, the direction and the release's schema."""
    main(["--root", str(tree), "--release", "0.1.0"])
    more = [*fields(tree, "BuildStarted"), {"name": "host", "type": "string", "doc": "Where."}]
    edit(tree, "BuildStarted", fields=more)
    assert main(["--root", str(tree), "--check"]) == 1
    said = capsys.readouterr().err
    assert "FULL_TRANSITIVE is broken: reading data of schema 1 with the new one" in said
    assert "io.interlock.BuildStarted.host" in said


def test_a_compatible_change_needs_a_new_id(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An id means one sequence of bytes for ever; words in docs may change."""
    main(["--root", str(tree), "--release", "0.1.0"])
    more = [
        *fields(tree, "BuildStarted"),
        {"name": "host", "type": ["null", "string"], "default": None, "doc": "Where."},
    ]
    edit(tree, "BuildStarted", fields=more)
    assert main(["--root", str(tree)]) == 1
    assert "give it a new id" in capsys.readouterr().err
    ids = tree / "schemas/ids.toml"
    ids.write_text(ids.read_text().replace("BuildStarted = 7", "BuildStarted = 999"))
    assert main(["--root", str(tree)]) == 0
    edit(tree, "BuildFailed", doc="Other words for the same.")
    assert main(["--root", str(tree)]) == 0


def test_an_id_is_not_given_to_another_event(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A number that was released belongs to its event for ever."""
    main(["--root", str(tree), "--release", "0.1.0"])
    ids = tree / "schemas/ids.toml"
    swapped = (
        ids.read_text()
        .replace("BuildStarted = 7", "BuildStarted = 99")
        .replace("BuildFailed = 9\n", "BuildFailed = 7\n")
    )
    ids.write_text(swapped)
    assert main(["--root", str(tree)]) == 1
    assert "7 belonged to BuildStarted" in capsys.readouterr().err


def test_a_released_event_cannot_go(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody may still have it in a topic."""
    main(["--root", str(tree), "--release", "0.1.0"])
    (tree / "schemas/events/DeployFailed.avsc").unlink()
    ids = tree / "schemas/ids.toml"
    ids.write_text(ids.read_text().replace("DeployFailed = 16\n", ""))
    topic = tree / "schemas/topics/deploy.events.toml"
    topic.write_text(topic.read_text().replace('    "DeployFailed",\n', ""))
    assert main(["--root", str(tree)]) == 1
    assert "DeployFailed.avsc: it was released and is gone" in capsys.readouterr().err


def test_a_dangerous_schema_is_refused(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The platform holds itself to what it asks of others."""
    more = [
        *fields(tree, "BuildStarted"),
        {"name": "nothing", "type": {"type": "array", "items": "null"}, "doc": "No."},
    ]
    edit(tree, "BuildStarted", fields=more)
    assert main(["--root", str(tree)]) == 1
    assert "items take no bytes" in capsys.readouterr().err


def test_the_picture_is_put_between_its_markers_and_nowhere_else(tree: Path) -> None:
    """What stands around the markers stays; without markers the README is left alone."""
    readme = tree / "README.md"
    readme.write_text("# Mine\n")
    assert picture.render(load(tree)) == {}
    readme.write_text(f"# Mine\n{picture.BEGIN}\nold\n{picture.END}\nthe rest\n")
    text = picture.render(load(tree))["README.md"]
    assert text.startswith(f"# Mine\n{picture.BEGIN}\n```mermaid\n")
    assert text.endswith(f"```\n{picture.END}\nthe rest\n")
    assert "old" not in text
    assert "registry --> model_events" in text
    assert "model_events --> builder" in text


def test_every_code_that_modules_declare_is_in_the_reference() -> None:
    """What importing the `errors` modules registers was found in their text as well (in a fresh process)."""
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts[2 if path.parts[len(ROOT.parts)] == "services" else 1 :])
        for path in declared.python_files(ROOT)
        if path.name == "errors.py"
    ]
    program = f"import importlib, json; [importlib.import_module(m) for m in {modules}]; import interlock.errors as e; "
    program += "print(json.dumps([code.id for code in e.ALL_CODES]))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout)) <= {code.id for code in declared.codes(ROOT)}


def test_every_reason_has_a_meaning() -> None:
    """The closed list of dead-letter reasons is explained to the last."""
    assert set(REASON_MEANINGS) == set(Reason)
    page = (ROOT / "docs/reference/dead-letters.md").read_text()
    assert all(f"`{reason}`" in page for reason in Reason)


def test_settings_are_told_with_bounds_and_without_secrets_of_their_own() -> None:
    """The platform's table has the variable's name, its kind with bounds, its default and a sentence."""
    table = {setting.variable: setting for setting in declared.settings(ROOT)["platform"]}
    port = table["INTERLOCK_HTTP_PORT"]
    assert (port.kind, port.default) == ("int, >= 0, <= 65535", "`0`")
    assert table["INTERLOCK_TOKEN"].kind == "secret | None"
    assert table["INTERLOCK_TOKEN"].default == "unset"
    assert all(setting.description.endswith(".") for setting in table.values())
