"""The rollout of one endpoint, fact by fact."""

from __future__ import annotations

from collections.abc import Callable

from interlock.schemas.events import (
    DeployFailed,
    RolledBack,
    Route,
    RouteCause,
    RouteChanged,
    VersionDrained,
    VersionServing,
    VersionWarmed,
)
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

Fact = Callable[[Rollout], Step]


def after(*facts: Fact, rollout: Rollout | None = None) -> Step:
    """Apply facts one after the other; return the last state with all events."""
    state = rollout or Rollout("fraud", "fraud")
    events: list[object] = []
    for fact in facts:
        step = fact(state)
        state = step.rollout
        events.extend(step.events)
    return Step(state, tuple(events))


def opening() -> tuple[Fact, ...]:
    """The endpoint is created and its topics exist."""
    return (lambda r: model.created(r, created()), lambda r: model.opened(r, later(0), LIMITS))


def approval(version: int) -> Fact:
    """A version is approved."""
    return lambda r: model.approved(r, approved(version), ORIGIN, later(1), LIMITS)


def warmth(version: int) -> Fact:
    """A version's application is proven."""
    return lambda r: model.warmed(r, version, digest(version), proof(version), later(2), LIMITS)


def promotion(version: int, number: int, previous: int | None = None) -> Fact:
    """A version is promoted."""
    return lambda r: model.promoted(r, promoted(version, number, previous), ORIGIN, later(3), LIMITS)


def way_back(from_version: int, to_version: int, number: int) -> Fact:
    """A rollback is ordered."""
    return lambda r: model.ordered_back(r, rollback(from_version, to_version, number), ORIGIN, later(4), LIMITS)


def serving_v2() -> Rollout:
    """Version 2 serves, version 1 is the way back."""
    return after(
        *opening(), approval(1), warmth(1), promotion(1, 1), approval(2), warmth(2), promotion(2, 2, 1)
    ).rollout


def stages(rollout: Rollout) -> dict[int, Stage]:
    """Return where each placed version stands."""
    return {version: placement.stage for version, placement in rollout.placements.items()}


def test_an_approved_version_is_placed_and_warmed_without_taking_traffic() -> None:
    """Approval starts a version and warming is reported, but no route appears before an order."""
    step = after(*opening(), approval(1), warmth(1))
    assert stages(step.rollout) == {1: Stage.WARM}
    assert [type(event) for event in step.events] == [VersionWarmed]
    assert step.rollout.epoch == 0


def test_a_promotion_of_a_warm_version_changes_the_route_in_the_same_step() -> None:
    """The flip needs nothing but the event: route, serving and change come out of one step."""
    before = after(*opening(), approval(1), warmth(1)).rollout
    step = promotion(1, 1)(before)
    route, serving, changed = step.events
    assert isinstance(route, Route)
    assert isinstance(serving, VersionServing)
    assert isinstance(changed, RouteChanged)
    assert (route.epoch, route.promotion, route.result_schema_id) == (1, 1, 1001)
    assert [(arm.version, arm.weight) for arm in route.arms] == [(1, 10_000)]
    assert (changed.champion_version, changed.previous_version, changed.cause) == (1, None, RouteCause.PROMOTION)


def test_a_promotion_before_warming_waits_and_is_carried_out_when_warm() -> None:
    """Not warm yet: remembered, the old champion stays, and the flip comes with the warming."""
    waiting = after(*opening(), approval(1), warmth(1), promotion(1, 1), approval(2), promotion(2, 2, 1)).rollout
    assert (waiting.champion, waiting.epoch) == (1, 1)
    step = warmth(2)(waiting)
    assert [type(event) for event in step.events] == [VersionWarmed, Route, VersionServing, RouteChanged]
    assert (step.rollout.champion, step.rollout.previous, step.rollout.epoch) == (2, 1, 2)


def test_a_promotion_before_its_approval_deploys_nothing_until_approved() -> None:
    """Nothing is placed that nobody approved, whatever was ordered."""
    early = after(*opening(), promotion(1, 1))
    assert stages(early.rollout) == {}
    step = after(approval(1), warmth(1), rollout=early.rollout)
    assert step.rollout.champion == 1


def test_no_route_before_the_topics_exist() -> None:
    """A router told of a route subscribes at once, so the topics must be there."""
    step = after(approval(1), warmth(1), promotion(1, 1))
    assert step.rollout.epoch == 0
    opened = after(*opening(), rollout=step.rollout)
    assert [type(event) for event in opened.events] == [Route, VersionServing, RouteChanged]


def test_a_rollback_flips_back_at_once_and_keeps_the_way_forward_warm() -> None:
    """The previous version is warm, so the flip is in the same step; the one rolled back from stays."""
    step = way_back(2, 1, 3)(serving_v2())
    route, changed, back = step.events
    assert isinstance(route, Route)
    assert isinstance(changed, RouteChanged)
    assert isinstance(back, RolledBack)
    assert (route.epoch, route.arms[0].version) == (3, 1)
    assert (changed.cause, changed.previous_version) == (RouteCause.ROLLBACK, 2)
    assert (back.from_version, back.to_version, back.epoch, back.actor) == (2, 1, 3, "olga")
    assert stages(step.rollout) == {1: Stage.WARM, 2: Stage.WARM}


def test_a_rollback_to_a_lost_version_deploys_it_first() -> None:
    """Ray restarted: the way back is brought up, and then taken."""
    without = after(lambda r: model.lost(r, 1, later(4)), rollout=serving_v2()).rollout
    waiting = way_back(2, 1, 3)(without)
    assert (waiting.rollout.champion, waiting.events) == (2, ())
    assert warmth(1)(waiting.rollout).rollout.champion == 1


def test_a_rollback_while_a_promotion_waits_cancels_it() -> None:
    """Version 3 was ordered and is not warm; going back to 1 is carried out and 3 never serves."""
    waiting = after(approval(3), promotion(3, 3, 2), rollout=serving_v2()).rollout
    step = after(way_back(3, 1, 4), warmth(3), rollout=waiting)
    assert (step.rollout.champion, step.rollout.order) == (1, None)


def test_late_and_repeated_orders_change_nothing() -> None:
    """An order at or below the newest heard leaves the rollout as it is."""
    rollout = serving_v2()
    for fact in (promotion(1, 1), promotion(2, 2, 1), way_back(1, 1, 2)):
        step = fact(rollout)
        assert step.events == ()
        assert step.rollout == rollout


def test_the_version_before_the_previous_is_drained_then_deleted() -> None:
    """It stays up for the drain, is claimed for deletion, and only then reported as drained."""
    rollout = after(approval(3), warmth(3), promotion(3, 3, 2), rollout=serving_v2()).rollout
    assert stages(rollout) == {1: Stage.DRAINING, 2: Stage.WARM, 3: Stage.WARM}
    assert model.emptied(rollout, 1, later(12.9)).rollout == rollout, "the drain is not over"
    deleting = model.emptied(rollout, 1, later(13)).rollout
    assert stages(deleting)[1] is Stage.DELETING
    step = model.drained(deleting, 1, later(14), LIMITS)
    assert [type(event) for event in step.events] == [VersionDrained]
    assert 1 not in step.rollout.placements


def test_a_draining_version_that_is_ordered_again_serves_at_once() -> None:
    """It is still warm, so nothing has to be started."""
    rollout = after(approval(3), warmth(3), promotion(3, 3, 2), rollout=serving_v2()).rollout
    step = way_back(3, 1, 4)(rollout)
    assert step.rollout.champion == 1
    assert stages(step.rollout) == {1: Stage.WARM, 2: Stage.DRAINING, 3: Stage.WARM}


def test_a_version_wanted_again_while_being_deleted_starts_from_the_beginning() -> None:
    """Its application may already be half gone: it cannot be taken back."""
    rollout = after(approval(3), warmth(3), promotion(3, 3, 2), rollout=serving_v2()).rollout
    rollout = model.emptied(rollout, 1, later(13)).rollout
    rollout = way_back(3, 1, 4)(rollout).rollout
    assert (rollout.champion, stages(rollout)[1]) == (3, Stage.DELETING)
    rollout = model.drained(rollout, 1, later(14), LIMITS).rollout
    assert stages(rollout)[1] is Stage.STARTING
    assert warmth(1)(rollout).rollout.champion == 1


def test_approved_versions_are_kept_warm_within_the_bound_newest_first() -> None:
    """Champion and previous count; the oldest of the approved ones gives way."""
    rollout = after(*(approval(version) for version in (3, 4, 5)), rollout=serving_v2()).rollout
    assert set(stages(rollout)) - {3} == {1, 2, 4, 5}
    assert stages(rollout)[3] is Stage.DELETING


def test_after_a_rollback_the_next_way_back_is_made_warm_too() -> None:
    """From 3 back to 2: 1 was draining and is taken back, for a second rollback goes there."""
    rollout = after(approval(3), warmth(3), promotion(3, 3, 2), rollout=serving_v2()).rollout
    assert stages(rollout)[1] is Stage.DRAINING
    rollout = way_back(3, 2, 4)(rollout).rollout
    assert stages(rollout) == {1: Stage.WARM, 2: Stage.WARM, 3: Stage.WARM}
    assert way_back(2, 1, 5)(rollout).rollout.champion == 1


def test_a_version_that_an_order_named_once_does_not_wait_for_its_first_promotion() -> None:
    """After going back from 3 to 1, version 2 is neither the way back nor new: it is drained."""
    rollout = after(approval(3), warmth(3), promotion(3, 3, 2), way_back(3, 1, 4), rollout=serving_v2()).rollout
    assert stages(rollout) == {1: Stage.WARM, 2: Stage.DRAINING, 3: Stage.WARM}


def test_a_failing_version_is_retried_with_growing_pauses_and_reported_once() -> None:
    """The same failure again is no news; a new one is; the pause doubles up to its bound."""
    rollout = after(*opening(), approval(1)).rollout
    pauses: list[float] = []
    events: list[str] = []
    for attempt, code in enumerate(["DEPLOY_FAILED"] * 7 + ["VECTORS_DISAGREE"]):
        step = model.failed(rollout, 1, digest(1), code, "why", later(attempt), LIMITS)
        rollout = step.rollout
        retry_at = rollout.placements[1].retry_at
        assert retry_at is not None
        pauses.append((retry_at - later(attempt)).total_seconds())
        events.extend(event.code for event in step.events if isinstance(event, DeployFailed))
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60]
    assert events == ["DEPLOY_FAILED", "VECTORS_DISAGREE"]


def test_an_order_for_a_failing_version_has_it_tried_at_once() -> None:
    """Somebody asks for it now: no pause, and the next failure is reported afresh."""
    rollout = after(*opening(), approval(1)).rollout
    rollout = model.failed(rollout, 1, digest(1), "DEPLOY_FAILED", "why", later(1), LIMITS).rollout
    rollout = promotion(1, 1)(rollout).rollout
    assert rollout.placements[1].retry_at is None
    assert model.failed(rollout, 1, digest(1), "DEPLOY_FAILED", "why", later(2), LIMITS).events


def test_an_order_with_another_digest_than_approved_is_refused() -> None:
    """Approval is of bytes, not of a number: the order is reported and dropped."""
    rollout = after(*opening(), lambda r: model.approved(r, approved(1, digest(9)), ORIGIN, later(1), LIMITS)).rollout
    step = promotion(1, 1)(rollout)
    assert [event.code for event in step.events if isinstance(event, DeployFailed)] == ["ORDER_NOT_APPROVED"]
    assert step.rollout.order is None


def test_warmth_of_other_bytes_than_placed_is_ignored() -> None:
    """A proof belongs to a digest."""
    rollout = after(*opening(), approval(1)).rollout
    assert model.warmed(rollout, 1, digest(9), proof(1), later(2), LIMITS).rollout == rollout


def test_a_rollback_from_a_version_that_never_got_warm_does_not_start_it_anew() -> None:
    """The waiting version becomes the previous: its application is kept as it is, not deleted and started again."""
    waiting = after(approval(3), promotion(3, 3, 2), rollout=serving_v2()).rollout
    assert stages(way_back(3, 2, 4)(waiting).rollout)[3] is Stage.STARTING


def test_a_broken_champion_does_not_hold_up_its_successor() -> None:
    """The champion's application is gone and does not come up again; the next version serves all the same."""
    rollout = after(lambda r: model.lost(r, 2, later(5)), rollout=serving_v2()).rollout
    step = after(approval(3), warmth(3), promotion(3, 3, 2), rollout=rollout)
    assert step.rollout.champion == 3
