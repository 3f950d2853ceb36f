"""A scikit-learn estimator made into what a model repository holds: ONNX, self-test vectors, a manifest.

This runs on the author's own machine, where unpickling his own file is his own affair; no server ever imports it.
"""

from __future__ import annotations

import csv
import json
import pickle
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import tomlkit

from interlock.errors import Code, Refusal
from interlock.manifest import MANIFEST_FILE, Manifest
from interlock.serving import runtime
from interlock.signature import RESERVED_INPUTS, Input, Matrix, Output, Signature

EXPORT_FAILED = Code(
    "EXPORT_FAILED", 422, "The estimator cannot be exported", "Give --data: a CSV of sample rows as it was trained on."
)
TARGET_OPSET: Final = {"": 17, "ai.onnx.ml": 3}
ARTIFACT: Final = "model.onnx"
VECTORS: Final = "vectors.json"
VECTORS_MAX: Final = 64
GENERATED_ROWS: Final = 32
SEED: Final = 20260101
TOLERANCE_MIN: Final = 1e-5
#: What a file that is no pickle, or one of other libraries, makes the unpickler raise.
_UNPICKLING: Final = (pickle.UnpicklingError, ImportError, AttributeError, EOFError, ValueError, TypeError, LookupError)
#: Libraries whose own format is served as it is, and how to save it.
_NATIVE: Final = {
    "xgboost": "estimator.save_model('model.ubj') with format = \"xgboost\"",
    "lightgbm": "estimator.booster_.save_model('model.txt') with format = \"lightgbm\"",
}


class Exported(msgspec.Struct, frozen=True):
    """What was written, and how near the ONNX model comes to the estimator on the sample rows."""

    folder: Path
    files: tuple[str, ...]
    signature: Signature
    rows: int
    largest_difference: float
    notes: tuple[str, ...]


class Sample(msgspec.Struct, frozen=True):
    """Sample rows by column: numbers as float (NaN missing) or text; `generated` when they are not the author's."""

    names: tuple[str, ...]
    columns: tuple[list[Any], ...]
    generated: bool


def export(
    source: Path,
    folder: Path,
    *,
    name: str,
    version: int,
    owner: str,
    data: Path | None = None,
    tolerance: float = 1e-3,
) -> Exported:
    """Convert a pickled or joblib-saved estimator and write model.onnx, vectors.json and interlock.toml to a folder.

    Gates, profile and resources of a manifest that is already there are kept. The converted model is scored by the
    platform's own core on the sample and must agree with the estimator within `tolerance`. Raises
    Refusal(EXPORT_FAILED).
    """
    estimator = load(source)
    sample = _read(data) if data else _generate(estimator)
    signature = Signature(_inputs(estimator, sample), _outputs(estimator))
    matrix = signature.matrix([list(row) for row in zip(*sample.columns, strict=True)])
    expected = _expected(estimator, sample, matrix)
    artifact = _converted(estimator, signature)
    answer = runtime.load("onnx", artifact, signature).score(matrix)
    problem = runtime.problem_of(answer, len(matrix), signature)
    if problem is not None:
        raise Refusal(EXPORT_FAILED, f"the converted model is not sound: {problem[1]}.")
    scale = np.maximum(1.0, np.abs(expected))
    difference = float((np.abs(answer - expected) / scale).max())
    if difference > tolerance:
        raise Refusal(
            EXPORT_FAILED,
            f"the converted model differs from the estimator by {difference:.3g} on the sample;"
            f" {tolerance:g} is allowed.",
        )
    notes = ["no --data: the vectors are of random numbers"] if sample.generated else []
    text, kept = _manifest(folder, name, version, owner, signature, max(TOLERANCE_MIN, difference * 10))
    notes += [f"kept from the manifest that was there: {', '.join(kept)}"] if kept else []
    Manifest.parse(text)
    _write(folder, {ARTIFACT: artifact, VECTORS: _vectors(sample, answer), MANIFEST_FILE: text.encode()})
    return Exported(folder, (ARTIFACT, VECTORS, MANIFEST_FILE), signature, len(matrix), difference, tuple(notes))


def load(source: Path) -> Any:
    """Unpickle the author's own file. Raises Refusal(EXPORT_FAILED) with what is missing or wrong."""
    if source.suffix == ".skops":
        raise Refusal(EXPORT_FAILED, f"{source} is a skops file: load it and save it by joblib.dump first.")
    try:
        import joblib  # type: ignore[import-untyped]  # ships no annotations
    except ImportError as error:
        raise Refusal(EXPORT_FAILED, "scikit-learn is not installed here: pip install 'interlock[export]'.") from error
    try:
        estimator = joblib.load(source)
    except FileNotFoundError as error:
        raise Refusal(EXPORT_FAILED, f"there is no file {source}.") from error
    except (*_UNPICKLING, OSError) as error:
        raise Refusal(EXPORT_FAILED, f"{source} does not unpickle here: {error}.") from error
    native = _NATIVE.get(type(estimator).__module__.split(".")[0])
    if native is not None:
        raise Refusal(EXPORT_FAILED, f"{source} needs no conversion: push what {native} writes.")
    if not hasattr(estimator, "predict"):
        raise Refusal(EXPORT_FAILED, f"{source} holds a {type(estimator).__name__}, which has no predict.")
    return estimator


def _read(data: Path) -> Sample:
    """Read sample rows; a column of which every value is a number or empty is numeric."""
    try:
        with data.open(newline="", encoding="utf-8-sig") as stream:
            header, *rows = csv.reader(stream)
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise Refusal(EXPORT_FAILED, f"{data} cannot be read as CSV with a header line: {error}.") from error
    if not rows or any(len(row) != len(header) for row in rows):
        raise Refusal(EXPORT_FAILED, f"{data} needs a header, at least one row, and as many fields in each.")
    return Sample(tuple(header), tuple(_typed(list(column)) for column in zip(*rows, strict=True)), generated=False)


def _typed(column: list[str]) -> list[Any]:
    try:
        return [float(value) if value.strip() else float("nan") for value in column]
    except ValueError:
        return column


def _generate(estimator: Any) -> Sample:
    names = getattr(estimator, "feature_names_in_", None)
    count = len(names) if names is not None else getattr(estimator, "n_features_in_", None)
    if count is None:
        raise Refusal(EXPORT_FAILED, f"a {type(estimator).__name__} does not say how many features it takes.")
    titles = tuple(str(each) for each in names) if names is not None else tuple(f"f{index}" for index in range(count))
    matrix = np.random.default_rng(SEED).normal(size=(GENERATED_ROWS, count)).round(6)
    return Sample(titles, tuple(matrix.T.tolist()), generated=True)


def _inputs(estimator: Any, sample: Sample) -> tuple[Input, ...]:
    trained = getattr(estimator, "feature_names_in_", None)
    count = len(trained) if trained is not None else getattr(estimator, "n_features_in_", len(sample.names))
    if len(sample.names) != count or (trained is not None and list(trained) != list(sample.names)):
        wanted = f"{', '.join(map(str, trained))}" if trained is not None else f"{count} columns"
        raise Refusal(
            EXPORT_FAILED,
            f"the sample has {', '.join(sample.names)}; the estimator was trained on {wanted}, in this order.",
        )
    allows_missing = _allows_missing(estimator)
    inputs = []
    for title, column in zip(sample.names, sample.columns, strict=True):
        name = _column_name(title)
        if isinstance(column[0], str):
            categories = tuple(sorted({value for value in column if value}))
            inputs.append(Input(name, "string", nullable="" in column, categories=categories))
        else:
            missing = any(np.isnan(value) for value in column)
            inputs.append(Input(name, "double", nullable=missing or allows_missing))
    return tuple(inputs)


def _allows_missing(estimator: Any) -> bool:
    from sklearn.utils import get_tags

    return bool(get_tags(estimator).input_tags.allow_nan)


def _column_name(title: str) -> str:
    name = re.sub(r"\W+", "_", title.strip(), flags=re.ASCII).strip("_") or "column"
    name = name if not name[0].isdigit() else f"_{name}"
    return f"{name}_" if name in RESERVED_INPUTS else name


def _outputs(estimator: Any) -> tuple[Output, ...]:
    from sklearn.base import is_classifier, is_regressor

    if is_classifier(estimator):
        if not hasattr(estimator, "predict_proba"):
            raise Refusal(
                EXPORT_FAILED,
                f"{type(estimator).__name__} gives classes without probabilities: wrap it in CalibratedClassifierCV.",
            )
        classes = list(estimator.classes_)
        if len(classes) == 2:
            return (Output("score", "double", 0.0, 1.0),)
        return tuple(Output(_column_name(f"score_{each}"), "double", 0.0, 1.0) for each in classes)
    if is_regressor(estimator):
        return (Output("score", "double"),)
    raise Refusal(EXPORT_FAILED, f"{type(estimator).__name__} is neither a classifier nor a regressor.")


def _expected(estimator: Any, sample: Sample, matrix: Matrix) -> Matrix:
    """Return the estimator's own answers, on numbers as ONNX sees them (float32)."""
    rows: Any = matrix.astype(np.float32).astype(np.float64)
    if any(isinstance(column[0], str) for column in sample.columns) or _wants_frame(estimator):
        rows = _frame(sample, rows)
    with warnings.catch_warnings():
        # It was trained with column names and is asked without: the order was checked above.
        warnings.filterwarnings("ignore", message="X does not have valid feature names", category=UserWarning)
        try:
            if hasattr(estimator, "predict_proba"):
                answer = np.asarray(estimator.predict_proba(rows), dtype=np.float64)
                return answer[:, 1:] if answer.shape[1] == 2 else answer
            return np.asarray(estimator.predict(rows), dtype=np.float64).reshape(len(matrix), -1)
        except (ValueError, TypeError, KeyError) as error:
            raise Refusal(EXPORT_FAILED, f"the estimator does not score the sample: {error}.") from error


def _wants_frame(estimator: Any) -> bool:
    """Say whether a step picks columns by name, which only a data frame has."""
    steps = [step for _, step in getattr(estimator, "steps", [])]
    return any(type(step).__name__ == "ColumnTransformer" for step in [estimator, *steps])


def _frame(sample: Sample, rows: Matrix) -> Any:
    try:
        import pandas as pd
    except ImportError as error:
        raise Refusal(EXPORT_FAILED, "text columns need pandas here: pip install pandas.") from error
    columns = {
        title: [value or None for value in column] if isinstance(column[0], str) else rows[:, index]
        for index, (title, column) in enumerate(zip(sample.names, sample.columns, strict=True))
    }
    return pd.DataFrame(columns)


def _converted(estimator: Any, signature: Signature) -> bytes:
    """Convert with one matrix as input where the estimator takes one, else with an input for each column."""
    try:
        from skl2onnx import to_onnx
        from skl2onnx.common.data_types import FloatTensorType, StringTensorType
        from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator
    except ImportError as error:
        raise Refusal(EXPORT_FAILED, "skl2onnx is not installed here: pip install 'interlock[export]'.") from error
    if any(declared.categories for declared in signature.inputs) or _wants_frame(estimator):
        kinds = {True: StringTensorType, False: FloatTensorType}
        types = [
            (str(title), kinds[declared.categories is not None]([None, 1]))
            for title, declared in zip(_titles(estimator, signature), signature.inputs, strict=True)
        ]
    else:
        types = [("X", FloatTensorType([None, len(signature.inputs)]))]
    options = {"zipmap": False} if hasattr(estimator, "predict_proba") else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = to_onnx(estimator, initial_types=types, options=options, target_opset=TARGET_OPSET)
    except (MissingConverter, MissingShapeCalculator) as error:
        sentence = str(error).strip().splitlines()[0]
        raise Refusal(EXPORT_FAILED, f"skl2onnx has no converter for a part of it: {sentence}.") from error
    except (RuntimeError, ValueError, TypeError, NameError, NotImplementedError, AttributeError) as error:
        raise Refusal(EXPORT_FAILED, f"skl2onnx does not convert it: {error}.") from error
    _rename_inputs(model, {title: declared.name for (title, _), declared in zip(types, signature.inputs, strict=False)})
    return bytes(model.SerializeToString())


def _titles(estimator: Any, signature: Signature) -> Sequence[str]:
    trained = getattr(estimator, "feature_names_in_", None)
    return [str(each) for each in trained] if trained is not None else [each.name for each in signature.inputs]


def _rename_inputs(model: Any, names: dict[str, str]) -> None:
    """Give the graph's inputs the names of the signature, which allow fewer characters than training data."""
    for node in model.graph.input:
        node.name = names.get(node.name, node.name) if len(model.graph.input) > 1 else node.name
    if len(model.graph.input) > 1:
        for node in model.graph.node:
            node.input[:] = [names.get(each, each) for each in node.input]


def _vectors(sample: Sample, answer: Matrix) -> bytes:
    rows = list(zip(*sample.columns, strict=True))[:VECTORS_MAX]
    plain = [[None if value == "" or value != value else value for value in row] for row in rows]  # noqa: PLR0124 - NaN
    document = {"inputs": plain, "outputs": answer[:VECTORS_MAX].tolist()}
    return (json.dumps(document, indent=1, allow_nan=False) + "\n").encode()


def _manifest(
    folder: Path, name: str, version: int, owner: str, signature: Signature, tolerance: float
) -> tuple[str, list[str]]:
    """Return the manifest's text, and the tables kept from the one that was there."""
    document = tomlkit.document()
    document["model"] = {"name": name, "version": version, "owner": owner}
    document["artifact"] = {"path": ARTIFACT, "format": "onnx"}
    document["inputs"] = _tables([_without_defaults(declared) for declared in signature.inputs])
    document["outputs"] = _tables([_without_defaults(declared) for declared in signature.outputs])
    document["vectors"] = {"path": VECTORS, "tolerance": float(f"{tolerance:.2g}")}
    kept = []
    for table, value in _before(folder).items():
        document[table] = value
        kept.append(table)
    return tomlkit.dumps(document), kept


def _before(folder: Path) -> dict[str, Any]:
    try:
        earlier = tomlkit.parse((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, tomlkit.exceptions.TOMLKitError):
        return {}
    return {table: earlier[table] for table in ("gates", "profile", "resources") if table in earlier}


def _tables(rows: list[dict[str, Any]]) -> Any:
    tables = tomlkit.aot()
    for row in rows:
        tables.append(tomlkit.item(row))
    return tables


def _without_defaults(declared: Input | Output) -> dict[str, Any]:
    fields = msgspec.to_builtins(declared)
    return {key: value for key, value in fields.items() if value is not None and value is not False and value != ""}


def _write(folder: Path, files: dict[str, bytes]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in files.items():
            (folder / path).write_bytes(content)
    except OSError as error:
        raise Refusal(EXPORT_FAILED, f"{folder} cannot be written: {error.strerror}.") from error
