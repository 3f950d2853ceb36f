"""What the code declares about itself: settings, refusal codes and metrics of the platform and of every service."""

from __future__ import annotations

import ast
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from interlock.codegen.source import SERVICES, SourceError

_METRIC_KINDS = {"Counter", "Gauge", "Histogram", "Summary"}


@dataclass(frozen=True)
class Setting:
    """One setting as a person meets it: the variable, what it takes, what it is without, and a sentence."""

    variable: str
    kind: str
    default: str
    description: str


@dataclass(frozen=True)
class DeclaredCode:
    """One refusal code as it stands in the source."""

    id: str
    status: int
    title: str
    hint: str
    file: str
    line: int


@dataclass(frozen=True)
class DeclaredMetric:
    """One metric as Prometheus sees it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    description: str


def settings(root: Path) -> dict[str, list[Setting]]:
    """Return the settings of the platform and, without those, of each service that has a settings module."""
    platform = _settings_of("interlock.settings", "PlatformSettings")
    tables = {"platform": platform}
    known = {setting.variable for setting in platform}
    for service in SERVICES:
        if (root / "services" / service / f"interlock_{service}" / "settings.py").is_file():
            own = _settings_of(f"interlock_{service}.settings", "Settings")
            tables[service] = [setting for setting in own if setting.variable not in known]
    return tables


def codes(root: Path) -> list[DeclaredCode]:
    """Return every `NAME = Code(...)` of the source, by id; reading the text keeps heavy modules unimported."""
    found = []
    for path in python_files(root):
        for node in ast.parse(path.read_text(), str(path)).body:
            call = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Code":
                found.append(_code(call, str(path.relative_to(root))))
    return sorted(found, key=lambda code: (code.id, code.file))


def metrics(root: Path) -> list[DeclaredMetric]:
    """Return every metric of `interlock.metrics`, in its order."""
    path = root / "shared" / "interlock" / "metrics.py"
    found = []
    for node in ast.parse(path.read_text()).body if path.is_file() else []:
        call = node.value if isinstance(node, ast.Assign) else None
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in _METRIC_KINDS:
            labels = list(call.args[2:3]) + [part.value for part in call.keywords if part.arg == "labelnames"]
            found.append(
                DeclaredMetric(
                    name=ast.literal_eval(call.args[0]) + ("_total" if call.func.id == "Counter" else ""),
                    kind=call.func.id.lower(),
                    labels=tuple(ast.literal_eval(labels[0])) if labels else (),
                    description=ast.literal_eval(call.args[1]),
                )
            )
    return found


def python_files(root: Path) -> list[Path]:
    """Return the modules of the platform and of the services, in a fixed order."""
    return sorted(
        path
        for folder in ("shared", "services")
        for path in (root / folder).rglob("*.py")
        if "__pycache__" not in path.parts
    )


def _code(call: ast.Call, file: str) -> DeclaredCode:
    names = ("id", "status", "title", "hint")
    try:
        values = dict(zip(names, (ast.literal_eval(part) for part in call.args), strict=False))
        values |= {str(part.arg): ast.literal_eval(part.value) for part in call.keywords}
    except ValueError as error:
        raise SourceError(
            f"{file}:{call.lineno}: a Code is made of plain texts, so that it can be documented."
        ) from error
    return DeclaredCode(**{"hint": "", **values}, file=file, line=call.lineno)


def _settings_of(module: str, name: str) -> list[Setting]:
    cls: type[BaseSettings] = getattr(importlib.import_module(module), name)
    prefix = str(cls.model_config.get("env_prefix", ""))
    return [_setting(prefix, field, info) for field, info in cls.model_fields.items()]


def _setting(prefix: str, name: str, info: FieldInfo) -> Setting:
    return Setting(
        variable=f"{prefix}{name}".upper(),
        kind=_kind(info),
        default=_default(info),
        description=info.description or "",
    )


def _kind(info: FieldInfo) -> str:
    annotation = info.annotation
    if get_origin(annotation) is Literal:
        name = " or ".join(map(str, get_args(annotation)))
    else:
        name = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    for long, short in (("pathlib.", ""), ("pydantic.types.", ""), ("SecretStr", "secret"), ("Path", "path")):
        name = name.replace(long, short)
    bounds = []
    for constraint in info.metadata:
        for attribute, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<=")):
            value = getattr(constraint, attribute, None)
            if value is not None:
                bounds.append(f"{sign} {value}")
    return ", ".join([name, *bounds])


def _default(info: FieldInfo) -> str:
    value: Any = info.default
    if info.default_factory is not None:
        return "computed"
    if value is PydanticUndefined:
        return "none: it must be given"
    if value is None:
        return "unset"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return f"`{value}`" if str(value) else "empty"
