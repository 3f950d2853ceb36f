"""A gate's data set: read by column name, missing and text understood, mistakes named with their line."""

from __future__ import annotations

import numpy as np
import pytest

from interlock.errors import Refusal
from interlock.signature import Input, Output, Signature
from interlock_builder import dataset
from interlock_builder.profile import profile

SIGNATURE = Signature(
    (
        Input("amount", "double"),
        Input("age", "int", nullable=True),
        Input("kind", "string", nullable=True, categories=("chip", "web")),
    ),
    (Output("score"),),
)
CSV = b'\xef\xbb\xbfid,kind,amount,age,fraud\n1,web,"1.5",3,true\n2,,2.5,,0\n3,fax,-1e3,7,1\n'


def test_csv_by_name_in_any_order() -> None:
    """Extra columns are ignored; empty is missing; an unknown category is missing; labels are 0 and 1."""
    table = dataset.read("h.csv", CSV, 100)
    expected = [[1.5, 3, 1], [2.5, np.nan, np.nan], [-1000, 7, np.nan]]
    np.testing.assert_array_equal(table.matrix(SIGNATURE), np.array(expected))
    assert table.labels("fraud").tolist() == [1.0, 0.0, 1.0]
    assert table.lacks(Signature((Input("zip", "double"),), SIGNATURE.outputs)) == ["zip"]


@pytest.mark.parametrize(
    ("path", "content", "words"),
    [
        ("h.csv", b"", "no header"),
        ("h.csv", b"a,a\n1,2\n", "twice"),
        ("h.csv", CSV + b"1,2\n", "line 5: 2 fields"),
        ("h.csv", CSV.replace(b"-1e3", b"lots"), "h.csv line 4, column 'amount': 'lots'"),
        ("h.csv", CSV.replace(b"-1e3", b""), "line 4, column 'amount': is missing"),
        ("h.csv", CSV.replace(b",7,", b",7.5,"), "line 4, column 'age'"),
        ("h.csv", CSV.replace(b"7,1\n", b"7,\n"), "line 4, label 'fraud'"),
        ("h.csv", CSV.replace(b"amount", b"amuont"), "no column amount"),
        ("h.csv", b"\xff\xfe", "UTF-8"),
        ("h.xlsx", b"", "neither .csv nor .parquet"),
    ],
)
def test_mistakes_are_placed(path: str, content: bytes, words: str) -> None:
    """File, line and column in the sentence."""
    with pytest.raises(Refusal, match=words):
        _read_whole(path, content)


def _read_whole(path: str, content: bytes) -> None:
    table = dataset.read(path, content, 100)
    table.matrix(SIGNATURE)
    table.labels("fraud")


def test_more_rows_than_allowed_are_refused() -> None:
    """The bound is on rows, before they fill the memory."""
    with pytest.raises(Refusal, match="more than 2 rows"):
        dataset.read("h.csv", CSV, 2)


def test_parquet_gives_the_same_as_csv() -> None:
    """With pyarrow the same rows come from Parquet; without it the sentence says so."""
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    sink = arrow.BufferOutputStream()
    columns = {"amount": [1.5, 2.5], "age": [3, None], "kind": ["web", None], "fraud": [True, False]}
    parquet.write_table(arrow.table(columns), sink)
    table = dataset.read("h.parquet", sink.getvalue().to_pybytes(), 100)
    np.testing.assert_array_equal(table.matrix(SIGNATURE), np.array([[1.5, 3, 1], [2.5, np.nan, np.nan]]))
    assert table.labels("fraud").tolist() == [1.0, 0.0]


def test_the_profile_counts_every_row_once() -> None:
    """Histogram and missing make up all rows; constants, empty columns and infinities do not break it."""
    matrix = np.column_stack([np.full(50, 4.0), np.full(50, np.nan), np.arange(50) % 2.0])
    outputs = np.linspace(0, 1, 50).reshape(-1, 1)
    found = profile(SIGNATURE, matrix, outputs, "h.csv")
    constant, empty, kind = found["features"]
    assert sum(constant["histogram"]["counts"]) == 50
    assert (empty["missing"], empty["count"]) == (1.0, 0)
    assert kind["categories"] == {"chip": 25, "web": 25}
    assert found["outputs"][0]["deciles"] == pytest.approx(np.linspace(0, 1, 11).tolist())
