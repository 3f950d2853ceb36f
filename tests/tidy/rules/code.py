"""Constructs that have one home, or none."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.tidy.rules.tree import dotted, modules, nodes, relative, service_packages, syntax, texts

CLOCKS = {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time", "time.time_ns"}
CLOCK_HOMES = (
    "shared/interlock/clock.py",  # the clock itself
    "shared/interlock/ids.py",  # time-ordered ids
    "shared/interlock/embedded/",  # compares with what the operating system says about processes
)
BROAD_HOMES = (
    "shared/interlock/service.py",  # the runner: logs whatever ended the process, and ends it
    "shared/interlock/serving/",  # a model may raise whatever it likes; it is named and passed on
)
TASK_HOMES = (
    "services/registry/interlock_registry/git_push.py",  # a push is taken in to its end though the pusher hangs up
    "services/builder/interlock_builder/worker.py",  # a lease is renewed while the child builds
    "services/router/interlock_router/lane.py",  # a batch is scored while the one before is committed
    "services/router/interlock_router/lanes.py",  # a lane for each partition that Kafka assigns
    "services/router/interlock_router/score.py",  # the versions of one batch answer side by side
)
ENVIRONMENT_HOMES = (
    "shared/interlock/settings.py",  # where settings are read
    "shared/interlock/telemetry/",  # OpenTelemetry's own variables
    "shared/interlock/client/addresses.py",  # a client's addresses, as `interlock env` prints them
    "shared/interlock/embedded/",  # hands the environment to the servers it starts
    "shared/interlock/cli/",  # the terminal's and the shell's variables
)
LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical"}
_SQL = re.compile(r"^\s*(SELECT\s|INSERT\s+INTO\s|UPDATE\s+\w+\s+SET\s|DELETE\s+FROM\s|WITH\s+\w+\s+AS\s*\(|CREATE\s)")
_UNDONE = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"]) + r")\b")
_NOQA = re.compile(r"#\s*noqa(?!: [A-Z]+\d+(, ?[A-Z]+\d+)* - \S)")
_TYPE_IGNORE = re.compile(r"#\s*type:\s*ignore(?!\[[a-z-]+(, ?[a-z-]+)*\]\s+#\s*\S)")

Finding = tuple[ast.AST, str]
Nodes = tuple[ast.AST, ...]


def clocks(root: Path) -> list[str]:
    """Time comes in as an argument; only the clock reads the clock."""
    return _calls(root, CLOCKS, CLOCK_HOMES, "take a Clock")


def prints(root: Path) -> list[str]:
    """Nothing is printed but by the command line's console."""
    return _calls(root, {"print"}, (), "log it, or use the console")


def tasks(root: Path) -> list[str]:
    """A service's loops belong to its runner, which sees them fail."""
    found = _calls(root, {"asyncio.create_task", "asyncio.ensure_future"}, TASK_HOMES, "name it under loops in app.py")
    return [text for text in found if text.startswith("services/")]


def environment(root: Path) -> list[str]:
    """The environment is read where settings are read."""

    def find(tree: Nodes) -> Iterator[Finding]:
        for node in tree:
            if dotted(node) in {"os.environ", "os.getenv", "os.environb"}:
                yield node, "the environment is read in settings.py"

    return _scan(root, find, ENVIRONMENT_HOMES)


def broad_excepts(root: Path) -> list[str]:
    """Only the runner catches everything; cleaning up and raising again is allowed anywhere."""

    def find(tree: Nodes) -> Iterator[Finding]:
        for node in tree:
            if isinstance(node, ast.ExceptHandler) and _broad(node.type) and not _raises_again(node):
                yield node, "catches everything; name what is expected"

    return _scan(root, find, BROAD_HOMES)


def log_fields(root: Path) -> list[str]:
    """A log call says one fixed sentence and passes fields; it builds no text."""

    def find(tree: Nodes) -> Iterator[Finding]:
        for node in tree:
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LOG_METHODS:
                owner = dotted(node.func.value).rpartition(".")[2].strip("_").lower()
                if owner in {"log", "logger"} and node.args and isinstance(node.args[0], ast.JoinedStr):
                    yield node, "an f-string in a log call; pass fields"

    return _scan(root, find, ())


def mutable_defaults(root: Path) -> list[str]:
    """No default is shared between calls."""

    def find(tree: Nodes) -> Iterator[Finding]:
        for node in tree:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                for default in (*node.args.defaults, *node.args.kw_defaults):
                    if isinstance(default, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp):
                        yield default, "a mutable default is shared between calls"

    return _scan(root, find, ())


def models_are_pure(root: Path) -> list[str]:
    """`model.py` neither awaits nor imports what does I/O or reads a clock."""
    found = []
    for package in service_packages(root):
        path = package / "model.py"
        if not path.is_file():
            continue
        for node in nodes(path):
            if isinstance(node, ast.Await | ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith):
                found.append(f"{relative(root, path)}:{node.lineno}: a model does not await")
            elif isinstance(node, ast.Import | ast.ImportFrom):
                found += [
                    f"{relative(root, path)}:{node.lineno}: a model does not import {name}"
                    for name in _imported(node)
                    if name.split(".")[0]
                    in {"asyncio", "os", "time", "socket", "random", "subprocess", "asyncpg", "httpx"}
                    or name.startswith(("interlock.kafka", "interlock.postgres", "interlock.http", "interlock.cache"))
                ]
    return found


def sql_in_stores(root: Path) -> list[str]:
    """In a service, SQL stands in `store.py` (or a module whose name begins so) and in `sql/`."""

    def find(tree: Nodes) -> Iterator[Finding]:
        for node in tree:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and _SQL.match(node.value):
                yield node, "SQL stands in store.py"

    found = _scan(root, find, ())
    return [text for text in found if text.startswith("services/") and not re.search(r"/store\w*(\.py|/)", text)]


def nothing_undone(root: Path) -> list[str]:
    """What is to be done stands in an issue, not in the source."""
    return [
        f"{name}:{number}: {match[1]}"
        for name, text in texts(root)
        for number, line in enumerate(text.splitlines(), start=1)
        if (match := _UNDONE.search(line))
    ]


def exceptions_have_reasons(root: Path) -> list[str]:
    """Whoever silences a check names it and says why, on the same line; a test need only name a silenced type."""
    found = []
    for path in modules(root, "shared", "services", "tests", "examples"):
        name = relative(root, path)
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if _NOQA.search(line):
                found.append(f"{name}:{number}: noqa without code and reason")
            if _TYPE_IGNORE.search(line) and not name.startswith("tests/"):
                found.append(f"{name}:{number}: type: ignore without code and reason")
    return found


def modules_say_what_they_are(root: Path) -> list[str]:
    """The first line of a module is one sentence."""
    found = []
    for path in modules(root):
        first = (ast.get_docstring(syntax(path)) or "").partition("\n")[0]
        if not first.endswith((".", "?", ":")):
            found.append(f"{relative(root, path)}:1: the first line is no sentence")
    return found


def tests_say_what_they_prove(root: Path) -> list[str]:
    """Every test has a docstring, and a name that states a behaviour."""
    found = []
    for path in modules(root, "tests"):
        for node in nodes(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                if not ast.get_docstring(node):
                    found.append(f"{relative(root, path)}:{node.lineno}: {node.name} does not say what it proves")
                if node.name.count("_") < 2:
                    found.append(f"{relative(root, path)}:{node.lineno}: {node.name} states no behaviour")
    return found


def _scan(root: Path, find: Callable[[Nodes], Iterator[Finding]], homes: tuple[str, ...]) -> list[str]:
    found = []
    for path in modules(root):
        name = relative(root, path)
        if not name.startswith(homes or ("\0",)):
            found += [f"{name}:{getattr(node, 'lineno', 1)}: {text}" for node, text in find(nodes(path))]
    return found


def _calls(root: Path, banned: set[str], homes: tuple[str, ...], advice: str) -> list[str]:
    def find(tree: Nodes) -> Iterator[Finding]:
        for node in tree:
            if isinstance(node, ast.Call):
                name = dotted(node.func)
                if name in banned or ".".join(name.split(".")[-2:]) in banned:
                    yield node, f"{name}: {advice}"

    return _scan(root, find, homes)


def _broad(kind: ast.expr | None) -> bool:
    if kind is None:
        return True
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(dotted(item) in {"Exception", "BaseException"} for item in kinds)


def _raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [] if node.level or node.module == "__future__" else [f"{node.module}.{alias.name}" for alias in node.names]
