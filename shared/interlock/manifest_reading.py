"""The rules of a manifest: reads the TOML document into fields and collects every problem with its line."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from interlock.manifest_lines import Lines, Path
from interlock.signature import (
    COLUMN_TYPES,
    ONLINE_INPUTS_MAX,
    ONLINE_PREFIX,
    ONLINE_TYPES,
    OUTPUT_TYPES,
    RESERVED_INPUTS,
    RESERVED_OUTPUTS,
)

FORMATS: Final = ("onnx", "xgboost", "lightgbm")
#: Every metric, and whether more of it is better.
METRICS: Final[dict[str, bool]] = {
    "auc": True,
    "average_precision": True,
    "accuracy": True,
    "precision": True,
    "recall": True,
    "f1": True,
    "log_loss": False,
    "brier": False,
    "rmse": False,
    "mae": False,
}
INPUTS_MAX: Final = 4096
OUTPUTS_MAX: Final = 64
GATES_MAX: Final = 64
_MODEL_NAME = re.compile(r"[a-z](?:-?[a-z0-9_]){0,62}")
_COLUMN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_GATE_NAME = re.compile(r"[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]{0,98}[^\s\x00-\x1f\x7f])?")

Check = Callable[[Any], str | None]


class Problem(msgspec.Struct, frozen=True):
    """One thing wrong with a manifest, and the line it stands on (1 is the first)."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        """Return it as compilers do: file:line: message."""
        return f"{self.file}:{self.line}: {self.message}"


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) and value.strip() else "must be text that is not empty"


def _any_text(value: Any) -> str | None:
    return None if isinstance(value, str) else "must be text"


def _boolean(value: Any) -> str | None:
    return None if isinstance(value, bool) else "must be true or false"


def _number(value: Any) -> str | None:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return None if good else "must be a finite number"


def _whole(minimum: int, maximum: int) -> Check:
    def check(value: Any) -> str | None:
        good = isinstance(value, int) and not isinstance(value, bool) and minimum <= value <= maximum
        return None if good else f"must be a whole number from {minimum} to {maximum}"

    return check


def _between(minimum: float, maximum: float) -> Check:
    def check(value: Any) -> str | None:
        good = _number(value) is None and minimum <= value <= maximum
        return None if good else f"must be a number from {minimum:g} to {maximum:g}"

    return check


def _matching(pattern: re.Pattern[str], sentence: str) -> Check:
    def check(value: Any) -> str | None:
        return None if isinstance(value, str) and pattern.fullmatch(value) else sentence

    return check


def _one_of(choices: tuple[str, ...]) -> Check:
    def check(value: Any) -> str | None:
        if isinstance(value, str) and value in choices:
            return None
        close = difflib.get_close_matches(str(value), choices, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return f"must be one of {', '.join(choices)}, not {value!r}{hint}"

    return check


def _tree_path(value: Any) -> str | None:
    if not isinstance(value, str) or not value:
        return "must be the path of a file in the tree"
    parts = value.split("/")
    if value.startswith("/") or "\\" in value or any(part in ("", ".", "..") for part in parts) or "\0" in value:
        return f"must be a plain path inside the tree, such as model/{parts[-1] or 'model.onnx'}, not {value!r}"
    return None


def _categories(value: Any) -> str | None:
    if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
        return "must be a list of texts that is not empty"
    return None if len(set(value)) == len(value) else "names a category twice"


def _online(value: Any) -> str | None:
    """Check the table by itself; what it must be beside the input's other keys is a rule of its own."""
    if not isinstance(value, dict):
        return "must be a table, such as { default = 0.0, age_seconds_max = 3600.0 }"
    if unknown := next((key for key in value if key not in ONLINE_KEYS), None):
        return f"has the unknown key {unknown!r}{_suggestion(unknown, dict.fromkeys(ONLINE_KEYS))}"
    age, default = value.get("age_seconds_max"), value.get("default", 0.0)
    if age is None:
        return "needs age_seconds_max: how old, in seconds, a value may be and still be used"
    if _number(age) is not None or age <= 0:
        return "has an age_seconds_max that is not a number of seconds above 0"
    number = isinstance(default, bool) or _number(default) is None
    return None if number else "has a default that is not a finite number"


_NAME = _matching(
    _MODEL_NAME,
    "must begin with a small letter and hold only small letters, digits, _ and single -, at most 63 of them",
)
_COLUMN = _matching(_COLUMN_NAME, "must begin with a letter or _ and hold only letters, digits and _")
_GATE = _matching(_GATE_NAME, "must be one line of text, at most 100 characters")

#: table -> key -> (check, required). The one list of what a manifest may say.
TABLES: Final[dict[str, dict[str, tuple[Check, bool]]]] = {
    "model": {
        "name": (_NAME, True),
        "version": (_whole(1, 2**31 - 1), True),
        "owner": (_text, True),
        "description": (_any_text, False),
    },
    "artifact": {"path": (_tree_path, True), "format": (_one_of(FORMATS), True)},
    "inputs": {
        "name": (_COLUMN, True),
        "type": (_one_of(COLUMN_TYPES), True),
        "nullable": (_boolean, False),
        "categories": (_categories, False),
        "description": (_any_text, False),
        "online": (_online, False),
    },
    "outputs": {
        "name": (_COLUMN, True),
        "type": (_one_of(OUTPUT_TYPES), True),
        "minimum": (_number, False),
        "maximum": (_number, False),
    },
    "vectors": {"path": (_tree_path, True), "tolerance": (_between(0.0, 1.0), False)},
    "gates": {
        "name": (_GATE, True),
        "metric": (_one_of(tuple(METRICS)), True),
        "data": (_tree_path, True),
        "label": (_text, True),
        "minimum": (_number, False),
        "maximum": (_number, False),
        "margin": (_number, False),
        "rows_minimum": (_whole(1, 10**9), False),
        "output": (_text, False),
        "threshold": (_number, False),
    },
    "profile": {"data": (_tree_path, True)},
    "resources": {
        "cpus": (_between(0.01, 256), False),
        "gpus": (_between(0.0, 64), False),
        "memory_mib": (_whole(64, 1 << 22), False),
    },
}
ONLINE_KEYS: Final = ("age_seconds_max", "default")
_LISTS: Final = {"inputs": (True, INPUTS_MAX), "outputs": (True, OUTPUTS_MAX), "gates": (False, GATES_MAX)}
_OPTIONAL: Final = frozenset({"profile", "resources"})


def read(source: str, document: dict[str, Any], file: str, problems: list[Problem]) -> dict[str, Any]:
    """Return the fields of a `Manifest` as plain values; append to `problems` whatever is wrong."""
    return _Reader(Lines(source), document, file, problems).fields()


class _Reader:
    def __init__(self, lines: Lines, document: dict[str, Any], file: str, problems: list[Problem]) -> None:
        self._lines = lines
        self._document = document
        self._file = file
        self._problems = problems

    def fields(self) -> dict[str, Any]:
        for name in self._document:
            if name not in TABLES:
                self._say((name,), f"unknown table [{name}]{_suggestion(name, TABLES)}")
        tables = {name: self._table(name) for name in TABLES if name not in _LISTS}
        lists = {name: self._list(name, *bounds) for name, bounds in _LISTS.items()}
        self._columns("inputs", lists["inputs"], RESERVED_INPUTS)
        self._columns("outputs", lists["outputs"], RESERVED_OUTPUTS)
        self._categories_where_text(lists["inputs"])
        self._online_rules(lists["inputs"], lists["outputs"])
        self._ranges(lists["outputs"])
        self._gate_rules(lists["gates"], {row.get("name") for row in lists["outputs"]})
        model = {"description": "", **tables["model"]}
        rest = {name: tables[name] for name in ("artifact", "vectors", "resources")}
        return {**model, **rest, **lists, "profile": tables["profile"] or None}

    def _say(self, path: Path, message: str) -> None:
        self._problems.append(Problem(self._file, self._lines.of(path), message))

    def _table(self, name: str) -> dict[str, Any]:
        if name not in self._document:
            if name not in _OPTIONAL:
                self._say((), f"the table [{name}] is missing: it needs {_needed(name)}")
            return {}
        value = self._document[name]
        if not isinstance(value, dict):
            self._say((name,), f"{name} must be a table, written [{name}]")
            return {}
        return self._keys(name, (name,), value)

    def _list(self, name: str, required: bool, count_max: int) -> list[dict[str, Any]]:
        rows = self._document.get(name, [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            self._say((name,), f"{name} must be a list of tables, each written [[{name}]]")
            return []
        if required and not rows:
            self._say((), f"there is no [[{name}]]: a model needs at least one, with {_needed(name)}")
        if len(rows) > count_max:
            self._say((name,), f"{len(rows)} of [[{name}]]; at most {count_max} are allowed")
            return []
        return [self._keys(name, (name, index), row) for index, row in enumerate(rows)]

    def _keys(self, table: str, path: Path, given: dict[str, Any]) -> dict[str, Any]:
        rules = TABLES[table]
        good: dict[str, Any] = {}
        for key, value in given.items():
            if key not in rules:
                self._say((*path, key), f"unknown key {key!r} in [{table}]{_suggestion(key, rules)}")
            elif (wrong := rules[key][0](value)) is not None:
                self._say((*path, key), f"{table}.{key} {wrong}")
            else:
                good[key] = value
        for key, (_, required) in rules.items():
            if required and key not in given:
                self._say(path, f"{key!r} is missing in [{table}]")
        return good

    def _columns(self, table: str, rows: list[dict[str, Any]], reserved: frozenset[str]) -> None:
        seen: set[str] = set()
        for index, row in enumerate(rows):
            name = row.get("name")
            if name in reserved:
                self._say((table, index, "name"), f"{name!r} is a name the platform gives to a field of its own")
            elif name in seen:
                self._say((table, index, "name"), f"{name!r} stands twice in [[{table}]]")
            elif name is not None:
                seen.add(name)

    def _categories_where_text(self, rows: list[dict[str, Any]]) -> None:
        for index, row in enumerate(rows):
            kind = row.get("type")
            if kind == "string" and not self._given("inputs", index, "categories"):
                self._say(("inputs", index), "an input of type string needs its categories = [...]")
            if kind not in (None, "string") and "categories" in row:
                self._say(("inputs", index, "categories"), f"categories go with type string only, not {kind}")

    def _online_rules(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Check the inputs that are looked up, and make numbers of their defaults."""
        looked_up = [(index, row) for index, row in enumerate(inputs) if "online" in row]
        for index, row in looked_up:
            place, kind, online = ("inputs", index, "online"), row.get("type"), row["online"]
            default = online.get("default")
            if kind == "string":
                self._say(
                    place, f"an online input is a number ({', '.join(ONLINE_TYPES)}); categories cannot be online"
                )
            elif default is None and not row.get("nullable"):
                self._say(place, "an online input needs a default or nullable = true, for its value may be missing")
            elif default is not None and (wrong := _misfit(kind, default)):
                self._say(place, f"the default of an online input of type {kind} must be {wrong}, not {default!r}")
            row["online"] = {key: float(number) for key, number in online.items()}
        if len(looked_up) > ONLINE_INPUTS_MAX:
            self._say(("inputs", looked_up[-1][0]), f"{len(looked_up)} online inputs; at most {ONLINE_INPUTS_MAX}")
        for index, row in enumerate(outputs):
            if looked_up and str(row.get("name", "")).startswith(ONLINE_PREFIX):
                message = f"names that begin with {ONLINE_PREFIX} are given to the online inputs in results"
                self._say(("outputs", index, "name"), message)

    def _ranges(self, rows: list[dict[str, Any]]) -> None:
        for index, row in enumerate(rows):
            if "minimum" in row and "maximum" in row and row["minimum"] > row["maximum"]:
                self._say(("outputs", index, "minimum"), "minimum is above maximum")

    def _gate_rules(self, rows: list[dict[str, Any]], outputs: set[Any]) -> None:
        seen: set[str] = set()
        for index, row in enumerate(rows):
            if not any(self._given("gates", index, key) for key in ("minimum", "maximum", "margin")):
                self._say(("gates", index), "a gate needs a minimum, a maximum or a margin against the champion")
            if "output" in row and row["output"] not in outputs:
                self._say(("gates", index, "output"), f"there is no output {row['output']!r}")
            name = row.get("name")
            if name in seen:
                self._say(("gates", index, "name"), f"{name!r} stands twice in [[gates]]")
            elif name is not None:
                seen.add(name)

    def _given(self, table: str, index: int, key: str) -> bool:
        return key in self._document[table][index]


def _misfit(kind: Any, default: float | bool) -> str | None:
    """Return what a default would have to be, or None where it fits."""
    if kind == "boolean":
        return None if default in (0, 1) else "true or false"
    if isinstance(default, bool):
        return "a number"
    whole = kind not in ("int", "long") or float(default).is_integer()
    return None if whole else "a whole number"


def _needed(table: str) -> str:
    return ", ".join(key for key, (_, required) in TABLES[table].items() if required)


def _suggestion(name: str, known: dict[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, 1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
