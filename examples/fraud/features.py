"""What is known about a transaction at the moment it happens: fifteen features, none of which looks ahead.

The windows are those of the book (chapter 3.4): what the customer did in the last 1, 7 and 30 days, this
transaction included; and what became of the terminal's transactions in windows that end seven days ago, because
fraud is only known after a week. Columns are computed with one sort and two searches per window.
"""

from __future__ import annotations

import numpy as np

from examples.fraud.simulator import DAY_SECONDS, Floats, Integers, Transactions

WINDOWS_DAYS = (1, 7, 30)
LABEL_DELAY_DAYS = 7
NIGHT_ENDS_HOUR = 6

NAMES: tuple[str, ...] = (
    "amount",
    "weekend",
    "night",
    *(f"customer_{what}_{days}d" for days in WINDOWS_DAYS for what in ("count", "mean_amount")),
    *(f"terminal_{what}_{days}d" for days in WINDOWS_DAYS for what in ("count", "risk")),
)
BOOLEANS = ("weekend", "night")


def features(transactions: Transactions) -> Floats:
    """Return float64 of shape (transactions, 15), columns in the order of `NAMES`; whole history must be given."""
    columns = np.empty((len(transactions), len(NAMES)), dtype=np.float64)
    columns[:, 0] = transactions.amount
    columns[:, 1] = transactions.day % 7 >= 5
    columns[:, 2] = transactions.seconds % DAY_SECONDS // 3600 <= NIGHT_ENDS_HOUR
    customers = _Windows(transactions.customer, transactions.seconds, transactions.amount)
    terminals = _Windows(transactions.terminal, transactions.seconds, transactions.fraud.astype(np.float64))
    for index, days in enumerate(WINDOWS_DAYS):
        columns[:, 3 + 2 * index], columns[:, 4 + 2 * index] = customers.count_and_mean(days, 0)
        columns[:, 9 + 2 * index], columns[:, 10 + 2 * index] = terminals.count_and_mean(days, LABEL_DELAY_DAYS)
    return columns


class _Windows:
    """Counts and means over the past of each row's own entity."""

    def __init__(self, entity: Integers, seconds: Integers, value: Floats) -> None:
        # Rows are laid out on one line: entity after entity, with a gap between them wider than any window, so
        # that a search back in time cannot land in the neighbour's history.
        longest = (max(WINDOWS_DAYS) + LABEL_DELAY_DAYS) * DAY_SECONDS
        place = entity * (int(seconds.max(initial=0)) + longest + 1) + seconds
        self._order = np.argsort(place, kind="stable")
        self._place = place[self._order]
        self._sums = np.concatenate([[0.0], np.cumsum(value[self._order])])

    def count_and_mean(self, days: int, delay_days: int) -> tuple[Floats, Floats]:
        """Return, per row, how many rows of its entity lie in the window, and the mean of their values (0 if none).

        The window is open at its far end and closed at its near end, `delay_days` before the row.
        """
        near = self._place - delay_days * DAY_SECONDS
        stop = np.searchsorted(self._place, near, side="right")
        start = np.searchsorted(self._place, near - days * DAY_SECONDS, side="right")
        count = (stop - start).astype(np.float64)
        mean = np.divide(self._sums[stop] - self._sums[start], count, out=np.zeros(len(count)), where=count > 0)
        counts, means = np.empty(len(count)), np.empty(len(count))
        counts[self._order], means[self._order] = count, mean
        return counts, means
