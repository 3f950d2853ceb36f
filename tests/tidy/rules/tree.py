"""What a rule can see of the tree: files, their text, their syntax."""

from __future__ import annotations

import ast
import subprocess
import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Any

SHIPPED = ("shared", "services")


def files(root: Path) -> list[Path]:
    """Return every file that belongs to the repository: what git tracks or would track."""
    if (root / ".git").exists():
        command = ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
        return [root / name for name in sorted(set(listed)) if name and (root / name).is_file()]
    return sorted(path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def texts(root: Path) -> list[tuple[str, str]]:
    """Return the path from the root and the text of every file that is text."""
    found = []
    for path in files(root):
        try:
            found.append((relative(root, path), path.read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            continue
    return found


def modules(root: Path, *folders: str) -> list[Path]:
    """Return the Python modules under the folders (shipped code where none are named)."""
    return sorted(
        path
        for folder in folders or SHIPPED
        for path in (root / folder).rglob("*.py")
        if "__pycache__" not in path.parts
    )


def relative(root: Path, path: Path) -> str:
    """Return the path from the root, with slashes."""
    return path.relative_to(root).as_posix()


def syntax(path: Path) -> ast.Module:
    """Return the module's syntax tree; parsed once for all rules."""
    return _parsed(path.read_text(), path.name)


@lru_cache(maxsize=2048)
def _parsed(text: str, name: str) -> ast.Module:
    return ast.parse(text, name)


def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Return every node of the module's syntax tree; walked once for all rules."""
    return _walked(path.read_text(), path.name)


@lru_cache(maxsize=2048)
def _walked(text: str, name: str) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(_parsed(text, name)))


def service_packages(root: Path) -> list[Path]:
    """Return the package folder of every service."""
    return sorted(path for path in (root / "services").glob("*/interlock_*") if path.is_dir())


def project(root: Path) -> dict[str, Any]:
    """Return pyproject.toml."""
    return tomllib.loads((root / "pyproject.toml").read_text())


def dotted(node: ast.AST) -> str:
    """Return `a.b.c` for a chain of names, or nothing."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        head = dotted(node.value)
        return f"{head}.{node.attr}" if head else ""
    return ""
