from __future__ import annotations

import json
from pathlib import Path

import pytest

from interlock.client.addresses import find
from interlock.errors import Refusal

STACK = {
    "INTERLOCK_URL": "http://127.0.0.1:1/",
    "INTERLOCK_TOKEN": "from-stack",
    "INTERLOCK_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:2",
    "INTERLOCK_SCHEMA_REGISTRY_URL": "http://u:t@127.0.0.1:1/schema-registry",
}


def stack(home: Path) -> dict[str, str]:
    """Write the record of a running stack, and return the variable that leads to it."""
    (home / "run").mkdir(parents=True)
    (home / "run" / "stack.json").write_text(json.dumps({"state": "running", "env": STACK}))
    return {"INTERLOCK_HOME": str(home)}


def test_a_running_stack_is_found_without_being_told(tmp_path: Path) -> None:
    """On the machine where the stack runs, `connect()` needs no argument."""
    found = find(environment=stack(tmp_path))
    assert found.url == "http://127.0.0.1:1"
    assert found.token == "from-stack"
    assert found.kafka_bootstrap_servers == "127.0.0.1:2"


def test_arguments_come_before_variables_and_variables_before_the_stack(tmp_path: Path) -> None:
    """The nearer word counts."""
    environment = stack(tmp_path) | {"INTERLOCK_URL": "http://variable", "INTERLOCK_TOKEN": "variable"}
    found = find(token="argument", environment=environment)
    assert (found.url, found.token) == ("http://variable", "argument")


@pytest.mark.parametrize("content", [None, "", "{", "{}"])
def test_without_any_the_refusal_names_what_and_where(tmp_path: Path, content: str | None) -> None:
    """No stack, or a record that says nothing: a sentence, never a traceback."""
    if content is not None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "stack.json").write_text(content)
    with pytest.raises(Refusal, match="INTERLOCK_URL and INTERLOCK_TOKEN") as caught:
        find(environment={"INTERLOCK_HOME": str(tmp_path)})
    assert caught.value.fields["home"] == str(tmp_path)


def test_the_token_is_not_shown(tmp_path: Path) -> None:
    """Neither the token nor the address that carries it appears in a log of the object."""
    shown = repr(find(environment=stack(tmp_path)))
    assert "from-stack" not in shown
    assert "u:t" not in shown
