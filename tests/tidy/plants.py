"""One violation for each rule: a plant spoils a copy of the tree and returns what the rule must say about it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

AUDITOR = "services/auditor/interlock_auditor"
UNDONE = "TO" + "DO"


def _append(path: str, text: str, expected: str) -> Callable[[Path], str]:
    """Plant a text at the end of a file, which is made if it is not there."""

    def plant(root: Path) -> str:
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        before = target.read_text() if target.is_file() else ""
        target.write_text(before + text)
        return expected

    return plant


def _replace(path: str, old: str, new: str, expected: str) -> Callable[[Path], str]:
    """Plant one text in the place of another."""

    def plant(root: Path) -> str:
        target = root / path
        text = target.read_text()
        assert old in text, f"{path} no longer holds {old!r}"
        target.write_text(text.replace(old, new, 1))
        return expected

    return plant


def _bytes(path: str, content: bytes, expected: str) -> Callable[[Path], str]:
    def plant(root: Path) -> str:
        (root / path).write_bytes(content)
        return expected

    return plant


def _module(body: str, name: str = "model.py") -> tuple[str, str]:
    return f"{AUDITOR}/{name}", f'"""Planted."""\n{body}\n'


_LONG_FUNCTION = "def long():\n" + "    pass\n" * 70
_INPUT = '    {"name": "attempt", "type": "long"'

PLANTS: dict[str, Callable[[Path], str]] = {
    "services_agree": _append("services/extra/interlock_extra/__init__.py", "", "no extra for extra"),
    "anatomy": _append(*_module("", "drawer.py"), "drawer.py: neither anatomy"),
    "names": _append("shared/interlock/utils.py", '"""Planted."""\n', "`utils` says nothing"),
    "every_module_has_a_layer": _append("shared/interlock/loose.py", '"""Planted."""\n', "interlock.loose"),
    "module_lengths": _append(*_module("x = 1\n" * 400), "model.py: 402 lines"),
    "function_lengths": _append(*_module(_LONG_FUNCTION), "long has 71 lines"),
    "clocks": _append(
        *_module("import datetime\nnow = datetime.datetime.now()"), "datetime.datetime.now: take a Clock"
    ),
    "prints": _append(*_module("print('x')"), "print: log it"),
    "tasks": _append(*_module("import asyncio\nasyncio.create_task(f())"), "asyncio.create_task: name it"),
    "environment": _append(*_module("import os\nx = os.environ['X']"), "model.py:3: the environment is read"),
    "broad_excepts": _append(*_module("try:\n    f()\nexcept Exception:\n    pass"), "model.py:4: catches everything"),
    "log_fields": _append(*_module("log.info(f'{x} happened')"), "model.py:2: an f-string in a log call"),
    "mutable_defaults": _append(*_module("def f(x=[]):\n    pass"), "model.py:2: a mutable default"),
    "models_are_pure": _append(*_module("async def f():\n    await g()"), "model.py:3: a model does not await"),
    "sql_in_stores": _append(*_module('QUERY = "SELECT 1"'), "model.py:2: SQL stands in store.py"),
    "nothing_undone": _append(*_module(f"# {UNDONE}: later"), f"model.py:2: {UNDONE}"),
    "exceptions_have_reasons": _append(*_module("import os  # no" + "qa"), "model.py:2: noqa without code"),
    "modules_say_what_they_are": _append(f"{AUDITOR}/model.py", "x = 1\n", "model.py:1: the first line"),
    "tests_say_what_they_prove": _append(
        "tests/unit/test_planted.py", "def test_this_and_that():\n    assert True\n", "test_this_and_that does not say"
    ),
    "generated_files_are_fresh": _append("docs/reference/topics.md", "\n", "docs/reference/topics.md: stale"),
    "schemas_stay_readable": _replace(
        "schemas/events/BuildStarted.avsc",
        _INPUT,
        _INPUT.replace("attempt", "try"),
        "BuildStarted.avsc: FULL_TRANSITIVE",
    ),
    "settings_are_described": _append(
        f"{AUDITOR}/settings.py",
        '"""Planted."""\nclass Settings:\n    port: int = 1\n',
        ": port has no desc",
    ),
    "errors_are_documented": _append(
        f"{AUDITOR}/errors.py",
        '"""Planted."""\nX = Code("X_PLANTED", 409, "No", "Do.")\n',
        "errors.md: X_PLANTED is missing",
    ),
    "events_are_documented": _replace("docs/reference/events.md", "## BuildStarted\n", "", "BuildStarted is missing"),
    "lint_ignores_have_reasons": _replace(
        "pyproject.toml", '    "A002",    #', '    "A001",\n    "A002",    #', "A001 is ignored without a reason"
    ),
    "no_large_or_binary_files": _bytes("docs/picture.bin", b"\0" * 300_000, "docs/picture.bin: 300000 bytes"),
    "no_registry_hosts": _append("docs/install.md", "from https://" + "pypi" + ".org/simple", "docs/install.md: names"),
    "only_loopback_addresses": _append(*_module("HOST = '10.1" + ".2.3'"), "10.1" + ".2.3"),
    "no_private_keys": _append(
        "docs/key.pem", "-----BEGIN " + "PRIVATE KEY-----\n" + "A" * 64 + "\n", "docs/key.pem: a private key"
    ),
    "broken_contracts": _append(f"{AUDITOR}/__init__.py", "import interlock_builder\n", "No arrow between services"),
}
