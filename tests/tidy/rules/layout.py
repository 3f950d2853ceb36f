"""The layout: services, packages, extras, entry points and contracts agree; files have the names of the anatomy."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

from tests.tidy.rules.tree import modules, nodes, project, relative, service_packages

MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
LONG_MODULES = {"services/auditor/interlock_auditor/verifier.py": 850}
"""One file by purpose: a stranger carries it away and needs nothing else."""
FORBIDDEN_NAMES = {"base", "common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"}
REQUIRED = ("app.py", "settings.py")
NOUNS = {
    "registry": {
        "approvals", "console", "git", "live", "mlflow", "promotions", "schema_registry", "signature", "timeline",
        "views",
    },
    "builder": {
        "bench", "convert", "dataset", "environment", "gates", "profile", "provenance", "sbom", "vectors",
        "worker",
    },
    "deployer": {"plan", "rollout", "serve", "subjects", "table", "verdict", "warming"},
    "router": {
        "batch", "dead_letters", "features", "gateway", "lane", "lanes", "live", "observe", "pace", "turns", "replay",
        "results", "routes", "score", "shadow", "trace", "writer_schemas",
    },
    "monitor": {"agents", "closing", "drift", "intake", "quality", "references", "stream", "upkeep", "windows"},
    "auditor": {"case", "checkpoint", "entry", "log", "tiles", "verifier", "verify", "witness"},
}  # fmt: skip
ANATOMY = {"__init__", "__main__", "app", "errors", "handlers", "http", "model", "settings", "store"}


def services_agree(root: Path) -> list[str]:
    """Folders, packages, extras, entry points, import contracts and topics name the same services."""
    config = project(root)
    services = {path.name.removeprefix("interlock_"): path for path in service_packages(root)}
    packages = config["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    expected = {f"services/{name}/interlock_{name}" for name in services}
    found = [f"pyproject.toml: packages lack {path}" for path in sorted(expected - set(packages))]
    found += [
        f"pyproject.toml: packages name {path}, which is not there" for path in packages if not (root / path).is_dir()
    ]
    extras = set(config["project"]["optional-dependencies"])
    found += [f"pyproject.toml: no extra for {name}" for name in sorted(set(services) - extras)]
    entries = config["project"]["entry-points"]["interlock.services"]
    ready = {name for name, path in services.items() if (path / "app.py").is_file()}
    found += [f"pyproject.toml: no entry point for {name}" for name in sorted(ready - set(entries))]
    found += [
        f"pyproject.toml: the entry point {name} leads nowhere"
        for name, target in sorted(entries.items())
        if name not in ready and not _leads_somewhere(target, services)
    ]
    contracts = config["tool"]["importlinter"]
    linted = set(contracts["root_packages"])
    found += [
        f"pyproject.toml: import contracts lack interlock_{name}"
        for name in services
        if f"interlock_{name}" not in linted
    ]
    owners = {tomllib.loads(path.read_text())["owner"] for path in (root / "schemas" / "topics").glob("*.toml")}
    return found + [f"schemas/topics: the owner {name} is no service" for name in sorted(owners - set(services))]


def anatomy(root: Path) -> list[str]:
    """A service has the files of the anatomy and its own nouns, and no drawer for everything else."""
    found = []
    for package in service_packages(root):
        service = package.name.removeprefix("interlock_")
        names = {path.name for path in package.iterdir()}
        if names - {"__init__.py", "__pycache__"}:
            found += [f"{relative(root, package)}: {name} is missing" for name in REQUIRED if name not in names]
        allowed = ANATOMY | NOUNS.get(service, set())
        found += [
            f"{relative(root, path)}: neither anatomy nor one of the {service}'s nouns"
            for path in sorted(package.glob("*.py"))
            if not any(path.stem == noun or path.stem.startswith(f"{noun}_") for noun in allowed)
        ]
    return found


def names(root: Path) -> list[str]:
    """No module or folder bears a name that means nothing."""
    return [
        f"{relative(root, path)}: `{part}` says nothing about what is in it"
        for path in modules(root)
        for part in (*path.relative_to(root).parts[:-1], path.stem)
        if part in FORBIDDEN_NAMES
    ]


def every_module_has_a_layer(root: Path) -> list[str]:
    """Each module of the platform stands in the layers contract, so that no import escapes it."""
    contracts = project(root)["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    placed = {name.strip(" ()") for layer in layers for part in layer.split("|") for name in part.split(":")}
    children = sorted({path.stem for path in (root / "shared" / "interlock").iterdir() if _importable(path)})
    return [
        f"pyproject.toml: the layers lack interlock.{name}" for name in children if f"interlock.{name}" not in placed
    ]


def module_lengths(root: Path) -> list[str]:
    """No module is longer than a person reads at one sitting."""
    counts = (
        (path, len(path.read_text().splitlines())) for path in modules(root, "shared", "services", "tests", "examples")
    )
    return [
        f"{relative(root, path)}: {lines} lines, at most {most}"
        for path, lines in counts
        if lines > (most := LONG_MODULES.get(relative(root, path), MODULE_LINES_MAX))
    ]


def function_lengths(root: Path) -> list[str]:
    """No function is longer than a screen."""
    return [
        f"{relative(root, path)}:{node.lineno}: {node.name} has {lines} lines, at most {FUNCTION_LINES_MAX}"
        for path in modules(root, "shared", "services", "tests", "examples")
        for node in nodes(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]


def _leads_somewhere(target: str, services: dict[str, Path]) -> bool:
    """Say whether an entry point names a module of a service: a service may have more than one process."""
    package, _, module = target.partition(":")[0].partition(".")
    folder = services.get(package.removeprefix("interlock_"))
    return folder is not None and (folder / f"{module}.py").is_file()


def _importable(path: Path) -> bool:
    if path.is_dir():
        return path.name != "__pycache__" and any(path.rglob("*.py"))
    return path.suffix == ".py" and path.stem != "__init__"
