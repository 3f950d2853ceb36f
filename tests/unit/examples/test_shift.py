from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from examples.fraud.features import NAMES, features
from examples.fraud.labels import CORRECTED_EVERY, LABELLED_EVERY, TWICE_EVERY, UNKNOWN, Labels, Sent
from examples.fraud.simulator import PRICE_FACTOR, Transactions, World, simulate
from examples.fraud.train import STREAM_FIRST_DAY, reference_rows, stream_rows
from interlock.codec import rows
from interlock.schemas.events import LabelRecorded

SMALL = World(customers=900, terminals=1_500, days=66, shift_day=58, radius=10, cards_probed_per_day=8, seed=5)


@pytest.fixture(scope="module")
def transactions() -> Transactions:
    """A small world that changes."""
    return simulate(SMALL)


def test_nothing_changes_before_the_day_it_changes(transactions: Transactions) -> None:
    """Until the shift the world is the one in which nothing would ever change."""
    still = simulate(World(**{**vars(SMALL), "shift_day": SMALL.days}))
    before = transactions.day < SMALL.shift_day
    assert np.array_equal(transactions.amount[before], still.amount[before])
    assert np.array_equal(transactions.scenario[before], still.scenario[before])
    assert 4 not in still.scenario


def test_afterwards_everything_costs_more_and_cards_are_probed(transactions: Transactions) -> None:
    """Prices rise by their factor; the fourth pattern has small amounts, and is not rare."""
    later, honest = transactions.day >= SMALL.shift_day, transactions.scenario == 0
    ratio = transactions.amount[later & honest].mean() / transactions.amount[~later & honest].mean()
    assert ratio == pytest.approx(PRICE_FACTOR, rel=0.05)
    probed = transactions.scenario == 4
    assert 0.01 < probed[later].mean() < 0.05
    assert np.median(transactions.amount[probed]) < 0.5 * np.median(transactions.amount[later & honest])


def test_the_stream_holds_every_later_row_once_and_the_changed_world_last(transactions: Transactions) -> None:
    """First the days before the shift, shuffled; then those after it; none twice, none forgotten."""
    order, shifted = stream_rows(transactions, SMALL.shift_day)
    assert np.array_equal(np.sort(order), np.flatnonzero(transactions.day >= STREAM_FIRST_DAY))
    assert transactions.day[order[:shifted]].max() < SMALL.shift_day <= transactions.day[order[shifted:]].min()


def test_a_window_of_the_unchanged_stream_looks_like_the_reference(transactions: Transactions) -> None:
    """Every feature of the stream is spread as in the reference; afterwards exactly those made of amounts are not."""
    columns = features(transactions)
    usual = np.flatnonzero((transactions.day >= 41) & (transactions.day < 48))
    assert set(reference_rows(transactions).tolist()) <= set(usual.tolist())
    order, shifted = stream_rows(transactions, SMALL.shift_day)
    for part, expected in ((order[:shifted], set()), (order[shifted:], {n for n in NAMES if "amount" in n})):
        far = {
            name
            for index, name in enumerate(NAMES)
            if name != "weekend" and _distance(columns[usual, index], columns[part, index]) > 0.1
        }
        assert far == expected


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return the Kolmogorov-Smirnov distance of two samples."""
    points = np.concatenate([one, other])
    ranks = [np.searchsorted(np.sort(each), points, side="right") / len(each) for each in (one, other)]
    return float(np.abs(ranks[0] - ranks[1]).max())


def test_labels_tell_the_truth_in_the_end() -> None:
    """A third of the requests has labels, the newest one true; some come twice, are corrected, or are about nothing."""
    count = 1_000
    fraud = np.arange(count) % 7 == 0
    columns = np.tile(np.arange(count, dtype=np.float64)[:, None], (1, len(NAMES)))
    sent = [Sent(0, "s", np.arange(400) + 1_700_000_000_000), Sent(400, "s", np.arange(600) + 1_700_000_001_000)]
    labels = [rows.decode(value) for _, value in Labels("fraud", fraud, columns).of(sent, 1_700_000_100_000)]
    assert all(isinstance(each, LabelRecorded) for each in labels)
    newest = {each.request_id: each for each in sorted(labels, key=lambda each: each.at)}
    looked_into = range(0, count, LABELLED_EVERY)
    assert len(newest) == len(looked_into) + UNKNOWN
    for row in looked_into:
        label = newest[f"s{row:08d}"]
        assert (label.label, label.weight) == (float(fraud[row]), float(row))
    times = Counter(each.request_id for each in labels)
    twice = {int(name[1:]) for name, number in times.items() if number == 2}
    assert twice == {row for row in looked_into if row % CORRECTED_EVERY == 0 or row % TWICE_EVERY == 0}
