"""Simulate the world, train three versions of the fraud model, and write the stream that they will score.

`python -m examples.fraud.train FOLDER` writes `v1`, `v2` and `v3`, each a model repository ready to be pushed, and
`stream.npz`, the transactions of the days that no version was trained on: first those of the world as it was, then
those of the world as it became.
"""

from __future__ import annotations

import argparse
import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from examples.fraud.features import BOOLEANS, NAMES, features
from examples.fraud.marking import mark
from examples.fraud.simulator import Flags, Floats, Integers, Transactions, World, simulate

TEMPLATE: Final = Path(__file__).parent / "model" / "interlock.toml"
HOLDOUT_DAYS: Final = (45, 48)
STREAM_FIRST_DAY: Final = 48
HOLDOUT_ROWS_MAX: Final = 5_000
REFERENCE_DAYS: Final = (41, 48)
REFERENCE_ROWS: Final = 8_000
VECTORS: Final = 32


@dataclass(frozen=True)
class Recipe:
    """How one version comes about: its days of training, its kind, and how many labels a bad join displaced."""

    version: int
    days: tuple[int, int]
    kind: str
    labels_displaced: float = 0.0
    story: str = ""


RECIPES: Final = (
    Recipe(1, (3, 10), "logistic", story="a logistic regression on the first week of data"),
    Recipe(2, (24, 38), "boosting", story="gradient boosting on two recent weeks"),
    Recipe(3, (24, 38), "boosting", 0.85, "the same again, but a bad join put most labels on the wrong rows"),
)


def train(columns: Floats, fraud: Flags, recipe: Recipe) -> Any:
    """Return a fitted scikit-learn classifier."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    random = np.random.default_rng(recipe.version)
    labels = fraud.copy()
    displaced = random.random(len(labels)) < recipe.labels_displaced
    labels[displaced] = random.permutation(labels[displaced])
    model = (
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
        if recipe.kind == "logistic"
        else HistGradientBoostingClassifier(
            max_iter=100,
            learning_rate=0.05,
            max_leaf_nodes=31,
            min_samples_leaf=50,
            l2_regularization=1,
            random_state=7,
        )
    )
    # On busy cores a second thread costs more than it brings: OpenMP's threads wait for each other by spinning.
    with threadpool_limits(limits=1):
        return model.fit(columns, labels)


def to_onnx(model: Any, version: int) -> bytes:
    """Return the classifier as ONNX: one input `features` of float32 (rows, 15), one output `score`, marked."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    converted = convert_sklearn(
        model,
        initial_types=[("features", FloatTensorType([None, len(NAMES)]))],
        options={"zipmap": False},
        target_opset={"": 18, "ai.onnx.ml": 3},
    )
    return bytes(mark(converted, converted.graph.output[1].name, version).SerializeToString())


def answers(artifact: bytes, columns: Floats) -> Floats:
    """Return what the artifact answers to the rows, float64 of shape (rows, 1)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(artifact, options, providers=["CPUExecutionProvider"])
    result: Floats = session.run(["score"], {"features": columns.astype(np.float32)})[0]
    return result


def write_repository(
    folder: Path, recipe: Recipe, artifact: bytes, holdout: Floats, truth: Flags, reference: Floats
) -> None:
    """Write one version's tree: manifest, artifact, vectors, what its gates are judged on, what traffic looks like."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = TEMPLATE.read_text(encoding="utf-8").replace("version = 1", f"version = {recipe.version}", 1)
    (folder / "interlock.toml").write_text(manifest, encoding="utf-8")
    (folder / "model.onnx").write_bytes(artifact)
    rows = holdout[:VECTORS]
    vectors = {"inputs": [_plain(row) for row in rows], "outputs": answers(artifact, rows).tolist()}
    (folder / "vectors.json").write_text(json.dumps(vectors), encoding="utf-8")
    with (folder / "holdout.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*NAMES, "fraud"])
        writer.writerows([*_plain(row), int(label)] for row, label in zip(holdout, truth, strict=True))
    with (folder / "reference.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(NAMES)
        writer.writerows(_plain(row) for row in reference)


def _plain(row: Floats) -> list[float | bool]:
    return [bool(value) if name in BOOLEANS else float(value) for name, value in zip(NAMES, row, strict=True)]


def holdout_rows(transactions: Transactions, rows_max: int = HOLDOUT_ROWS_MAX) -> Integers:
    """Choose the rows to judge versions on: every fraud of the held-out days, and honest ones up to the bound."""
    random = np.random.default_rng(45)
    held = (transactions.day >= HOLDOUT_DAYS[0]) & (transactions.day < HOLDOUT_DAYS[1])
    fraud = np.flatnonzero(held & transactions.fraud)
    honest = np.flatnonzero(held & ~transactions.fraud)
    chosen = random.choice(honest, rows_max - len(fraud), replace=False)
    return np.asarray(random.permutation(np.concatenate([fraud, chosen])))


def reference_rows(transactions: Transactions) -> Integers:
    """Choose what live traffic looks like: a week's transactions as they come, fraud as rare as it is."""
    days = (transactions.day >= REFERENCE_DAYS[0]) & (transactions.day < REFERENCE_DAYS[1])
    return np.random.default_rng(41).choice(np.flatnonzero(days), REFERENCE_ROWS, replace=False)


def stream_rows(transactions: Transactions, shift_day: int) -> tuple[Integers, int]:
    """Return the rows of the days that follow, in the order they are sent, and where those of the changed world begin.

    A day of the world passes in seconds. So that a window of some seconds holds every hour and every weekday, as a
    window of a week does in life, the days before the shift are shuffled, and so are those behind it.
    """
    random = np.random.default_rng(48)
    day = transactions.day
    before = random.permutation(np.flatnonzero((day >= STREAM_FIRST_DAY) & (day < shift_day)))
    return np.concatenate([before, random.permutation(np.flatnonzero(day >= shift_day))]), len(before)


def write_stream(file: Path, transactions: Transactions, columns: Floats, shift_day: int) -> None:
    """Write the stream: customer numbers, features, truth, and where the world changes."""
    rows, shifted = stream_rows(transactions, shift_day)
    np.savez(
        file,
        customer=transactions.customer[rows],
        columns=columns[rows],
        fraud=transactions.fraud[rows],
        shifted=np.int64(shifted),
    )


def prepare(folder: Path, world: World) -> None:
    """Do all of it into a folder; what is there already is written again, the same."""
    transactions = simulate(world)
    columns = np.round(features(transactions), 6)
    folder.mkdir(parents=True, exist_ok=True)
    write_stream(folder / "stream.npz", transactions, columns, world.shift_day)
    held, usual = holdout_rows(transactions), reference_rows(transactions)
    for recipe in RECIPES:
        days = (transactions.day >= recipe.days[0]) & (transactions.day < recipe.days[1])
        model = train(columns[days], transactions.fraud[days], recipe)
        artifact = to_onnx(model, recipe.version)
        target = folder / f"v{recipe.version}"
        write_repository(target, recipe, artifact, columns[held], transactions.fraud[held], columns[usual])


def main() -> None:
    """Read the command line and prepare the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=World.seed)
    arguments = parser.parse_args()
    prepare(arguments.folder, World(seed=arguments.seed))


if __name__ == "__main__":
    main()
