"""Whatever the order, repetition and timing of the facts, a history ends in one state."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.schemas.events import EndpointCreated, RollbackOrdered, Route, VersionApproved, VersionPromoted
from interlock_deployer import model
from interlock_deployer.rollout import Limits, Rollout, Stage, Step
from tests.unit.deployer.rollout_facts import (
    LIMITS,
    ORIGIN,
    SHADOWED,
    approved,
    created,
    digest,
    later,
    promoted,
    proof,
    rollback,
)

Event = EndpointCreated | VersionApproved | VersionPromoted | RollbackOrdered


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Draw what a registry could have written: approvals before promotions, rollbacks only to what served."""
    history: list[Event] = [created()]
    champion: int | None = None
    served: list[int] = []
    number = 0
    versions = draw(st.integers(1, 5))
    for version in range(1, versions + 1):
        history.append(approved(version))
        if draw(st.booleans()):
            number += 1
            history.append(promoted(version, number, champion))
            champion = version
            served.append(version)
        others = [earlier for earlier in served if earlier != champion]
        if champion is not None and others and draw(st.booleans()):
            number += 1
            target = draw(st.sampled_from(others))
            history.append(rollback(champion, target, number))
            champion = target
    return history


class Run:
    """A rollout under way: facts go in, and everything that was ever published is kept."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.limits = limits
        self.rollout = Rollout("fraud", "fraud")
        self.routes: list[Route] = []
        self.seconds = 0.0

    def take(self, fact: Callable[[Rollout, datetime], Step]) -> None:
        """Apply a fact a second later than the last."""
        self.seconds += 1
        step = fact(self.rollout, later(self.seconds))
        self.rollout = step.rollout
        self.routes.extend(event for event in step.events if isinstance(event, Route))

    def hear(self, event: Event) -> None:
        """Deliver one event."""
        match event:
            case EndpointCreated():
                self.take(lambda r, _: model.created(r, event))
            case VersionApproved():
                self.take(lambda r, now: model.approved(r, event, ORIGIN, now, self.limits))
            case VersionPromoted():
                self.take(lambda r, now: model.promoted(r, event, ORIGIN, now, self.limits))
            case RollbackOrdered():
                self.take(lambda r, now: model.ordered_back(r, event, ORIGIN, now, self.limits))

    def work(self, version: int, choice: int) -> None:
        """Let Ray do something to one version: what is done depends on its stage, mishaps included."""
        placement = self.rollout.placements.get(version)
        if placement is None:
            self.take(lambda r, now: model.opened(r, now, self.limits))
        elif choice == 0 and placement.stage is Stage.STARTING:
            self.take(lambda r, now: model.failed(r, version, digest(version), "DEPLOY_FAILED", "", now, self.limits))
        elif choice == 1:
            self.take(lambda r, now: model.lost(r, version, now))
        elif placement.stage is Stage.STARTING or choice == 3:  # 3: a report that comes late, whatever the stage
            self.take(lambda r, now: model.warmed(r, version, digest(version), proof(version), now, self.limits))
        elif placement.stage is Stage.DRAINING:
            self.take(lambda r, now: model.emptied(r, version, now))
        else:
            self.take(lambda r, now: model.drained(r, version, now, self.limits))

    def rest(self) -> None:
        """Let Ray finish everything, without mishaps."""
        self.take(lambda r, now: model.opened(r, now, self.limits))
        for _ in range(50):
            pending = [v for v, p in self.rollout.placements.items() if p.stage is not Stage.WARM]
            if not pending:
                return
            self.seconds += self.limits.route_drain_seconds
            for version in pending:
                self.work(version, 2)
        raise AssertionError(f"the rollout does not come to rest: {self.rollout}")

    def essence(self) -> tuple[object, ...]:
        """Return what must not depend on order: everything but epoch and instants."""
        r = self.rollout
        placed = {version: (p.digest, p.stage) for version, p in r.placements.items()}
        return (
            r.partitions,
            r.applied,
            r.champion,
            r.previous,
            r.order,
            r.approvals,
            r.orders,
            r.ordered,
            r.way_back,
            r.shadows,
            placed,
        )


def in_order(history: list[Event], limits: Limits = LIMITS) -> Run:
    """Deliver a history as written, at rest after every event."""
    run = Run(limits)
    for event in history:
        run.hear(event)
        run.rest()
    return run


@settings(max_examples=500, deadline=None)
@given(data=st.data(), limits=st.sampled_from([LIMITS, SHADOWED]))
def test_any_interleaving_and_repetition_ends_in_the_same_state_with_rising_epochs(
    data: st.DataObject, limits: Limits
) -> None:
    """Events shuffled and repeated, Ray's work in between with mishaps: same end, epochs and orders only rise."""
    history = data.draw(histories())
    repeated = history + data.draw(st.lists(st.sampled_from(history), max_size=6))
    run = Run(limits)
    for event in data.draw(st.permutations(repeated)):
        run.hear(event)
        for version, choice in data.draw(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), max_size=3)):
            run.work(version, choice)
    run.rest()
    assert run.essence() == in_order(history, limits).essence()
    epochs = [route.epoch for route in run.routes]
    champions = [(route.promotion, route.arms[0].version) for route in run.routes]
    if limits.shadow_approved:  # by one order the shadows may change, and the champion stays
        champions = list(dict.fromkeys(champions))
    orders = [promotion for promotion, _ in champions]
    assert epochs == list(range(1, len(epochs) + 1)), "each route has the next epoch"
    assert orders == sorted(set(orders)), "no order is carried out twice or after a newer one"
    assert all(set(before) != set(after) for before, after in pairwise(_arms(run))), "each route differs from the last"


def test_an_approved_version_is_the_champions_shadow_until_its_promotion() -> None:
    """Where the deployer is told so: version 2 is seen beside 1, then answers; of too many the newest are seen."""
    history: list[Event] = [
        created(),
        approved(1),
        promoted(1, 1),
        approved(2),
        promoted(2, 2, 1),
        approved(3),
        approved(4),
        approved(5),
    ]
    run = in_order(history, SHADOWED)
    shares = [{arm.arm: (arm.version, arm.weight) for arm in route.arms} for route in run.routes]
    assert shares == [
        {"champion": (1, 10_000)},
        {"champion": (1, 10_000), "shadow-2": (2, 0)},
        {"champion": (2, 10_000)},
        {"champion": (2, 10_000), "shadow-3": (3, 0)},
        {"champion": (2, 10_000), "shadow-3": (3, 0), "shadow-4": (4, 0)},
        {"champion": (2, 10_000), "shadow-4": (4, 0)},
        {"champion": (2, 10_000), "shadow-4": (4, 0), "shadow-5": (5, 0)},
    ]
    assert [len(route.arms) for route in in_order(history).routes] == [1, 1]


@settings(max_examples=200, deadline=None)
@given(history=histories())
def test_a_history_in_order_carries_out_every_order(history: list[Event]) -> None:
    """With time to warm between the events, each promotion and rollback gives one route."""
    run = in_order(history)
    orders = [event for event in history if isinstance(event, VersionPromoted | RollbackOrdered)]
    assert [route.promotion for route in run.routes] == [order.promotion for order in orders]
    assert run.rollout.order is None


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_no_route_ever_names_a_version_that_is_not_approved_and_warm(data: st.DataObject) -> None:
    """At the moment a route appears, its arms are approved with that digest and warm; no shadow was ever ordered."""
    history = data.draw(histories())
    run = Run(SHADOWED)
    for event in data.draw(st.permutations(history)):
        run.hear(event)
        for version, choice in data.draw(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), max_size=3)):
            published = len(run.routes)
            run.work(version, choice)
            for route in run.routes[published:]:
                assert [arm.weight for arm in route.arms] == [10_000] + [0] * (len(route.arms) - 1)
                for arm in route.arms:
                    assert run.rollout.approvals[arm.version].digest == arm.digest
                    assert run.rollout.placements[arm.version].stage is Stage.WARM
                    assert arm.weight or arm.version not in run.rollout.ordered


def _arms(run: Run) -> list[list[tuple[int, int, int]]]:
    return [[(route.promotion, arm.version, arm.weight) for arm in route.arms] for route in run.routes]
