from __future__ import annotations

import io

import fastavro
import numpy as np
import pytest

from examples.fraud.features import LABEL_DELAY_DAYS, NAMES, WINDOWS_DAYS, features
from examples.fraud.marking import version_of
from examples.fraud.requests import Requests, varints
from examples.fraud.simulator import (
    AMOUNT_BOUND,
    CARD_DAYS,
    DAY_SECONDS,
    TERMINAL_DAYS,
    Transactions,
    World,
    simulate,
)
from examples.fraud.train import RECIPES, TEMPLATE, answers, holdout_rows, to_onnx, train
from interlock.codec.contract import request_schema
from interlock.manifest import Manifest

SMALL = World(customers=300, terminals=600, days=48, radius=15, seed=3)


@pytest.fixture(scope="module")
def transactions() -> Transactions:
    """A small world's transactions."""
    return simulate(SMALL)


def test_the_same_world_gives_the_same_transactions(transactions: Transactions) -> None:
    """The seed decides every one of them; another seed gives others."""
    again = simulate(SMALL)
    assert np.array_equal(again.amount, transactions.amount)
    assert np.array_equal(again.scenario, transactions.scenario)
    other = simulate(World(customers=300, terminals=600, days=48, radius=15, seed=4))
    assert len(other) != len(transactions) or not np.array_equal(other.amount, transactions.amount)


def test_transactions_come_in_order_of_time_within_the_world(transactions: Transactions) -> None:
    """Sorted, positive amounts, known customers and terminals."""
    assert (np.diff(transactions.seconds) >= 0).all()
    assert transactions.day.min() >= 0
    assert transactions.day.max() < SMALL.days
    assert (transactions.amount >= 0).all()
    assert transactions.terminal.max() < SMALL.terminals


def test_the_three_patterns_of_fraud_are_there(transactions: Transactions) -> None:
    """Over the bound without exception; terminals for 28 days at most in a row of their own; cards for 14."""
    honest = transactions.amount[transactions.scenario == 0]
    assert honest.max() <= AMOUNT_BOUND
    assert set(np.unique(transactions.scenario)) == {0, 2, 3} | ({1} if (transactions.scenario == 1).any() else set())
    for scenario, who, days in ((2, transactions.terminal, TERMINAL_DAYS), (3, transactions.customer, CARD_DAYS)):
        hit = transactions.scenario == scenario
        first = who[hit][0]
        assert np.ptp(transactions.day[hit & (who == first)]) < days * 3


def test_features_look_back_only(transactions: Transactions) -> None:
    """Cutting the future off changes no feature of the past: nothing looks ahead."""
    whole = features(transactions)
    cut = len(transactions) // 2
    past = transactions[: int(np.searchsorted(transactions.seconds, transactions.seconds[cut]))]
    assert np.allclose(features(past), whole[: len(past)])


def test_features_are_what_a_slow_loop_computes(transactions: Transactions) -> None:
    """Every window of some transactions, counted row by row from the definition."""
    whole = features(transactions)
    fraud = transactions.fraud
    for row in (50, 1_000, len(transactions) - 1):
        now = transactions.seconds[row]
        for index, days in enumerate(WINDOWS_DAYS):
            window = (transactions.seconds > now - days * DAY_SECONDS) & (transactions.seconds <= now)
            mine = window & (transactions.customer == transactions.customer[row])
            assert whole[row, 3 + 2 * index] == mine.sum()
            assert whole[row, 4 + 2 * index] == pytest.approx(transactions.amount[mine].mean())
            end = now - LABEL_DELAY_DAYS * DAY_SECONDS
            window = (transactions.seconds > end - days * DAY_SECONDS) & (transactions.seconds <= end)
            there = window & (transactions.terminal == transactions.terminal[row])
            assert whole[row, 9 + 2 * index] == there.sum()
            assert whole[row, 10 + 2 * index] == pytest.approx(fraud[there].mean() if there.any() else 0.0)


# skl2onnx hands NumPy integers to protobuf, which warns; as an error that becomes "Value out of range: 0".
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("recipe", RECIPES[:2], ids=("logistic", "boosting"))
def test_a_score_carries_its_version_in_its_low_digits(transactions: Transactions, recipe: object) -> None:
    """The graph itself adds it: rounded probability plus version billionths, exact after the trip through ONNX."""
    columns = features(transactions)
    model = train(columns[:9_000], transactions.fraud[:9_000], recipe)  # type: ignore[arg-type]  # pytest hands parameters over untyped
    for version in (1, 2, 499):
        scores = answers(to_onnx(model, version), columns[:2_000])
        assert scores.dtype == np.float64
        assert scores.shape == (2_000, 1)
        assert (version_of(scores) == version).all()
        assert scores.min() >= 0
        assert scores.max() <= 1
        wanted = model.predict_proba(columns[:2_000].astype(np.float32))[:, 1]
        assert np.quantile(np.abs(scores[:, 0] - wanted), 0.95) < 1e-5, "float32 thresholds may move a few rows"
    with pytest.raises(ValueError, match="500"):
        to_onnx(model, 500)


def test_a_wrong_label_would_show() -> None:
    """The digits tell neighbours apart at every height of the score, also after decimal text and back."""
    heights = np.linspace(0, 0.999999, 50_000).round(6)
    for version in (1, 2, 3, 499):
        marked = heights + version * 1e-9
        assert (version_of(marked) == version).all()
        assert (version_of(np.array([float(f"{score:.12f}") for score in marked[:100]])) == version).all()


def test_the_template_is_a_valid_manifest_of_these_features() -> None:
    """The platform's own reader accepts it, and its inputs are the features in their order."""
    manifest = Manifest.parse(TEMPLATE.read_text())
    assert tuple(each.name for each in manifest.inputs) == NAMES
    assert [gate.name for gate in manifest.gates] == ["ranks-fraud-first", "better-than-champion"]


def test_requests_encoded_in_bulk_are_the_endpoints_avro(transactions: Transactions) -> None:
    """A stock Avro reader gets every field back from the bytes that were filled column by column."""
    columns = features(transactions)[:3_000]
    schema = fastavro.parse_schema(request_schema("fraud", Manifest.parse(TEMPLATE.read_text()).signature))
    requests = Requests(columns, 70_001)
    due = np.arange(1_790_000_000_000, 1_790_000_000_000 + 900, dtype=np.int64)
    values = requests.bytes_of(2_000, 2_900, "s", due)
    assert len(values) == 900
    for index in (0, 17, 899):
        value = values[index]
        assert value[:5] == b"\x00" + (70_001).to_bytes(4, "big")
        body = io.BytesIO(value[5:])
        record = fastavro.schemaless_reader(body, schema, None)
        assert body.read() == b""
        assert isinstance(record, dict)
        assert record["request_id"] == f"s{2_000 + index:08d}"
        assert round(record["requested_at"].timestamp() * 1000) == due[index]
        assert [float(record[name]) for name in NAMES] == columns[2_000 + index].tolist()


def test_an_instant_outside_six_bytes_is_refused() -> None:
    """Silence would shift every later byte of the record."""
    with pytest.raises(ValueError, match="six bytes"):
        varints(np.array([1_000], dtype=np.int64))


def test_the_holdout_is_bounded_and_keeps_every_fraud() -> None:
    """At most five thousand rows, all from days that no version was trained on."""
    world = simulate(World(customers=1_500, terminals=3_000, days=48, radius=8, seed=5))
    rows = holdout_rows(world, rows_max=2_000)
    held = (world.day >= 45) & (world.day < 48)
    assert len(rows) == 2_000
    assert held[rows].all()
    assert world.fraud[rows].sum() == (held & world.fraud).sum()
