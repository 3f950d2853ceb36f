"""Card transactions with known fraud, simulated.

After Le Borgne, Siblini, Lebichot and Bontempi, *Reproducible Machine Learning for Credit Card Fraud Detection*
(2022), chapter 3: customers and terminals lie in the plane; a customer buys at the terminals near him, at his own
rate and for amounts around his own mean; and three patterns of fraud are laid over that. From `World.shift_day` on the
world is another: prices have risen, and a fourth pattern appears that no model was trained on. Everything is computed
on whole columns, so that half a million transactions take a few seconds; the seed decides every one of them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

DAY_SECONDS = 86_400
AMOUNT_BOUND = 220.0
TERMINAL_DAYS = 28
CARD_DAYS = 14
CARD_AMOUNT_FACTOR = 5.0
PRICE_FACTOR = 1.8
PROBE_DAYS = 7
PROBE_SHARE = 0.4
PROBE_AMOUNT_FACTOR = 0.25

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class World:
    """How large the simulated world is, and the seed that it grows from."""

    customers: int = 5_000
    terminals: int = 10_000
    days: int = 84
    shift_day: int = 72
    radius: float = 5.0
    terminals_compromised_per_day: int = 2
    cards_leaked_per_day: int = 3
    cards_probed_per_day: int = 40
    seed: int = 20_221_101


@dataclass(frozen=True)
class Transactions:
    """Columns of equal length, in order of time.

    `seconds` since the world began; `customer` and `terminal` as numbers from 0; `amount` in the currency of the
    place; `scenario` is 0 for honest, 1 amount over the bound, 2 compromised terminal, 3 leaked card, 4 probed card.
    """

    seconds: Integers
    customer: Integers
    terminal: Integers
    amount: Floats
    scenario: Integers

    @property
    def fraud(self) -> Flags:
        """The truth: whether each transaction is fraudulent."""
        return self.scenario > 0

    @property
    def day(self) -> Integers:
        """The day each transaction falls on, from 0."""
        return self.seconds // DAY_SECONDS

    def __len__(self) -> int:
        return len(self.seconds)

    def __getitem__(self, rows: Flags | Integers | slice) -> Transactions:
        return Transactions(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def simulate(world: World) -> Transactions:
    """Return every transaction of the world, the same for the same world."""
    random = np.random.default_rng(world.seed)
    customer_place = random.uniform(0, 100, (world.customers, 2))
    terminal_place = random.uniform(0, 100, (world.terminals, 2))
    mean_amount = random.uniform(5, 100, world.customers)
    daily_rate = random.uniform(0, 4, world.customers)
    reach, first = _terminals_near(customer_place, terminal_place, world.radius)

    counts = random.poisson(daily_rate, (world.days, world.customers))
    day, customer = (axis.repeat(counts.ravel()) for axis in np.indices(counts.shape).reshape(2, -1))
    in_day = random.normal(DAY_SECONDS / 2, 20_000, len(day))
    kept = (in_day > 0) & (in_day < DAY_SECONDS)
    day, customer, seconds = day[kept], customer[kept], (day * DAY_SECONDS + in_day).astype(np.int64)[kept]

    amount = random.normal(mean_amount[customer], mean_amount[customer] / 2)
    redrawn = random.uniform(0, 2 * mean_amount[customer])
    amount = np.where(amount < 0, redrawn, amount).round(2)
    choices = first[customer + 1] - first[customer]
    terminal = reach[first[customer] + (random.random(len(day)) * choices).astype(np.int64)]

    order = np.argsort(seconds, kind="stable")
    honest = Transactions(
        seconds=seconds[order],
        customer=customer[order].astype(np.int64),
        terminal=terminal[order],
        amount=amount[order],
        scenario=np.zeros(len(order), dtype=np.int64),
    )
    return _with_fraud(honest, world, random)


def _terminals_near(customers: Floats, terminals: Floats, radius: float) -> tuple[Integers, Integers]:
    """Return the terminals in reach of each customer, end to end, and where each customer's begin.

    Customers are looked at some hundred at a time, which bounds the memory. Who has none near gets the nearest.
    """
    near: list[Integers] = []
    counts: list[Integers] = []
    for start in range(0, len(customers), 250):
        block = customers[start : start + 250]
        squares = (block[:, None, 0] - terminals[None, :, 0]) ** 2 + (block[:, None, 1] - terminals[None, :, 1]) ** 2
        within = squares < radius**2
        lonely = np.flatnonzero(~within.any(axis=1))
        within[lonely, squares[lonely].argmin(axis=1)] = True
        near.append(np.nonzero(within)[1])
        counts.append(within.sum(axis=1))
    first = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    return np.concatenate(near), first


def _with_fraud(honest: Transactions, world: World, random: np.random.Generator) -> Transactions:
    """Lay the patterns over the honest transactions; a later pattern takes precedence, as in the book."""
    day, amount = honest.day, honest.amount.copy()
    scenario = np.where(amount > AMOUNT_BOUND, 1, 0)
    terminals = _hit(random, world.days, world.terminals, world.terminals_compromised_per_day, TERMINAL_DAYS)
    scenario[terminals[day, honest.terminal]] = 2
    cards = _hit(random, world.days, world.customers, world.cards_leaked_per_day, CARD_DAYS)
    leaked = cards[day, honest.customer] & (random.random(len(day)) < 1 / 3)
    amount[leaked] = np.round(amount[leaked] * CARD_AMOUNT_FACTOR, 2)
    scenario[leaked] = 3
    _shift(world, random, day, honest.customer, amount, scenario)
    return Transactions(honest.seconds, honest.customer, honest.terminal, amount, scenario.astype(np.int64))


def _shift(
    world: World, random: np.random.Generator, day: Integers, customer: Integers, amount: Floats, scenario: Integers
) -> None:
    """Change the world from `shift_day` on: cards are probed with small amounts, and everything costs more."""
    probed = _hit(random, world.days, world.customers, world.cards_probed_per_day, PROBE_DAYS)
    later = day >= world.shift_day
    hit = later & probed[day, customer] & (random.random(len(day)) < PROBE_SHARE) & (scenario == 0)
    amount[hit] *= PROBE_AMOUNT_FACTOR
    scenario[hit] = 4
    amount[later] = np.round(amount[later] * PRICE_FACTOR, 2)


def _hit(random: np.random.Generator, days: int, population: int, per_day: int, lasting_days: int) -> Flags:
    """Return (days, population): who is hit on which day, when `per_day` new ones are drawn each day."""
    hit = np.zeros((days, population), dtype=np.bool_)
    for day in range(days):
        chosen = random.choice(population, per_day, replace=False)
        hit[day : day + lasting_days, chosen] = True
    return hit
