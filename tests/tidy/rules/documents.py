"""Generated files are fresh, what users meet is documented, and nothing stands in the tree that should not."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

from interlock.codegen.__main__ import render, stale
from interlock.codegen.declared import codes
from interlock.codegen.released import problems
from interlock.codegen.source import load
from tests.tidy.rules.tree import dotted, files, modules, relative, syntax, texts

FILE_BYTES_MAX = 256 * 1024
LARGE = {"requirements.lock"}  # every version with every hash
TEXT_SUFFIXES = {
    "", ".avsc", ".cfg", ".css", ".csv", ".html", ".ini", ".js", ".json", ".lock", ".md", ".py", ".pyi", ".sh", ".sql",
    ".svg", ".toml", ".txt", ".typed", ".yaml", ".yml",
}  # fmt: skip
# Put together from parts, so that this file does not hold what it looks for.
_REGISTRIES = (
    ("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("npmjs", "com"), ("yarnpkg", "com"), ("maven", "org"),
    ("maven.apache", "org"), ("docker", "io"), ("docker", "com"), ("quay", "io"), ("ghcr", "io"), ("gcr", "io"),
    ("golang", "org"), ("crates", "io"), ("conda", "org"), ("anaconda", "com"), ("huggingface", "co"),
)  # fmt: skip
_HOSTS = re.compile(
    r"(?<![\w.-])(?:[\w-]+\.)*(" + "|".join(re.escape(".".join(parts)) for parts in _REGISTRIES) + r")\b"
)
ADDRESS_HOMES = {"shared/interlock/embedded/ports.py"}  # asks whether somebody else listens on all addresses
# A Go module may be called after its host: that is its name, and says nothing about where it is fetched from.
_GO_MODULES = re.compile(r"[\w./-]*" + "golang" + r"\.org/[\w./-]+(?= v\d)")
_ADDRESS = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")
_KEY = "-----BEGIN " + r"[A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{16}"


def generated_files_are_fresh(root: Path) -> list[str]:
    """What stands in the tree is what the generator writes."""
    return [f"{path}: stale; run `make generate`" for path in stale(root, render(load(root)))]


def schemas_stay_readable(root: Path) -> list[str]:
    """No schema is dangerous, and each keeps its topic's promise towards every release."""
    return problems(load(root))


def settings_are_described(root: Path) -> list[str]:
    """Every field of a settings class says what it is."""
    found = []
    for path in modules(root):
        if path.name != "settings.py":
            continue
        for cls in (node for node in syntax(path).body if isinstance(node, ast.ClassDef)):
            for field in (node for node in cls.body if isinstance(node, ast.AnnAssign)):
                call = field.value
                keywords = {part.arg: part.value for part in call.keywords} if isinstance(call, ast.Call) else {}
                text = keywords.get("description")
                if not (isinstance(text, ast.Constant) and str(text.value).endswith(".")):
                    found.append(f"{relative(root, path)}:{field.lineno}: {dotted(field.target)} has no description")
    return found


def errors_are_documented(root: Path) -> list[str]:
    """Every code has an id of its own, a title and advice, and an entry in the reference."""
    page = (root / "docs" / "reference" / "errors.md").read_text()
    declared = codes(root)
    shared = {name for name, count in Counter(code.id for code in declared).items() if count > 1}
    found = [f"{code.file}:{code.line}: {code.id} is declared more than once" for code in declared if code.id in shared]
    found += [f"{code.file}:{code.line}: {code.id} gives no advice" for code in declared if not code.hint]
    return found + [
        f"docs/reference/errors.md: {code.id} is missing" for code in declared if f"## {code.id}\n" not in page
    ]


def events_are_documented(root: Path) -> list[str]:
    """Every event has its entry in the reference, and every topic."""
    events = (root / "docs" / "reference" / "events.md").read_text()
    topics = (root / "docs" / "reference" / "topics.md").read_text()
    source = load(root)
    found = [
        f"docs/reference/events.md: {event.name} is missing"
        for event in source.events
        if f"## {event.name}\n" not in events
    ]
    return found + [
        f"docs/reference/topics.md: {topic.name} is missing"
        for topic in source.topics
        if f"## `{topic.name}`" not in topics
    ]


def lint_ignores_have_reasons(root: Path) -> list[str]:
    """Every rule of ruff that is switched off says why, on its line."""
    found = []
    section = ""
    for number, line in enumerate((root / "pyproject.toml").read_text().splitlines(), start=1):
        if line.startswith("["):
            section = line
        if (
            section.startswith("[tool.ruff.lint")
            and (match := re.match(r'\s+"([A-Z]+\d+)",?\s*(# \S+)?', line))
            and not match[2]
        ):
            found.append(f"pyproject.toml:{number}: {match[1]} is ignored without a reason")
    return found


def no_large_or_binary_files(root: Path) -> list[str]:
    """The tree holds text of a size that a person can look at."""
    found = []
    for path in files(root):
        name = relative(root, path)
        if path.stat().st_size > FILE_BYTES_MAX and name not in LARGE:
            found.append(f"{name}: {path.stat().st_size} bytes, at most {FILE_BYTES_MAX}")
        if path.suffix not in TEXT_SUFFIXES and b"\0" in path.read_bytes()[:4096]:
            found.append(f"{name}: binary")
    return found


def no_registry_hosts(root: Path) -> list[str]:
    """No package registry is named by its host: whoever installs decides where from."""
    return [
        f"{name}: names {match[0]}"
        for name, text in texts(root)
        for match in [_HOSTS.search(_GO_MODULES.sub("", text) if name.endswith(("/go.mod", "/go.sum")) else text)]
        if match
    ]


def only_loopback_addresses(root: Path) -> list[str]:
    """No address of a real machine stands in the tree, and nothing that is shipped binds to all of them."""
    return [
        f"{name}: {address}"
        for name, text in texts(root)
        if name.startswith(("shared/", "services/", "examples/", "tests/"))
        and not name.endswith(".lock")
        and name not in ADDRESS_HOMES
        for address in sorted(set(_ADDRESS.findall(text)))
        if not address.startswith("127.")
    ]


def no_private_keys(root: Path) -> list[str]:
    """No key is kept in the tree."""
    return [f"{name}: a private key" for name, text in texts(root) if re.search(_KEY, text)]
