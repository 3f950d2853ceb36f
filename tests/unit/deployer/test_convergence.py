"""Whatever the order, repetition and timing of the facts, a history ends in one state."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.schemas.events import EndpointCreated, RollbackOrdered, Route, VersionApproved, VersionPromoted
from interlock_deployer import model
from interlock_deployer.rollout import Rollout, Stage, Step
from tests.unit.deployer.rollout_facts import (
    LIMITS,
    ORIGIN,
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

    def __init__(self) -> None:
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
                self.take(lambda r, now: model.approved(r, event, ORIGIN, now, LIMITS))
            case VersionPromoted():
                self.take(lambda r, now: model.promoted(r, event, ORIGIN, now, LIMITS))
            case RollbackOrdered():
                self.take(lambda r, now: model.ordered_back(r, event, ORIGIN, now, LIMITS))

    def work(self, version: int, choice: int) -> None:
        """Let Ray do something to one version: what is done depends on its stage, mishaps included."""
        placement = self.rollout.placements.get(version)
        if placement is None:
            self.take(lambda r, now: model.opened(r, now, LIMITS))
        elif choice == 0 and placement.stage is Stage.STARTING:
            self.take(lambda r, now: model.failed(r, version, digest(version), "DEPLOY_FAILED", "", now, LIMITS))
        elif choice == 1:
            self.take(lambda r, now: model.lost(r, version, now))
        elif placement.stage is Stage.STARTING or choice == 3:  # 3: a report that comes late, whatever the stage
            self.take(lambda r, now: model.warmed(r, version, digest(version), proof(version), now, LIMITS))
        elif placement.stage is Stage.DRAINING:
            self.take(lambda r, now: model.emptied(r, version, now))
        else:
            self.take(lambda r, now: model.drained(r, version, now, LIMITS))

    def rest(self) -> None:
        """Let Ray finish everything, without mishaps."""
        self.take(lambda r, now: model.opened(r, now, LIMITS))
        for _ in range(50):
            pending = [v for v, p in self.rollout.placements.items() if p.stage is not Stage.WARM]
            if not pending:
                return
            self.seconds += LIMITS.route_drain_seconds
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
            placed,
        )


def in_order(history: list[Event]) -> Run:
    """Deliver a history as written, at rest after every event."""
    run = Run()
    for event in history:
        run.hear(event)
        run.rest()
    return run


@settings(max_examples=500, deadline=None)
@given(data=st.data())
def test_any_interleaving_and_repetition_ends_in_the_same_state_with_rising_epochs(data: st.DataObject) -> None:
    """Events shuffled and repeated, Ray's work in between with mishaps: same end, epochs and orders only rise."""
    history = data.draw(histories())
    repeated = history + data.draw(st.lists(st.sampled_from(history), max_size=6))
    run = Run()
    for event in data.draw(st.permutations(repeated)):
        run.hear(event)
        for version, choice in data.draw(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), max_size=3)):
            run.work(version, choice)
    run.rest()
    assert run.essence() == in_order(history).essence()
    epochs = [route.epoch for route in run.routes]
    orders = [route.promotion for route in run.routes]
    assert epochs == list(range(1, len(epochs) + 1)), "each route has the next epoch"
    assert orders == sorted(set(orders)), "no order is carried out twice or after a newer one"


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
    """At the moment a route appears, its arm is approved with that digest and warm."""
    history = data.draw(histories())
    run = Run()
    for event in data.draw(st.permutations(history)):
        run.hear(event)
        for version, choice in data.draw(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), max_size=3)):
            published = len(run.routes)
            run.work(version, choice)
            for route in run.routes[published:]:
                arm = route.arms[0]
                assert run.rollout.approvals[arm.version].digest == arm.digest
                assert run.rollout.placements[arm.version].stage is Stage.WARM
