"""The plan: what is done on Ray for a rollout, and that doing it over and over comes to an end."""

from __future__ import annotations

from datetime import timedelta

from msgspec.structs import replace

from interlock.schemas.events import Route
from interlock_deployer import model
from interlock_deployer.plan import Drain, Empty, Fail, Lose, Open, Prove, Remove, Seen, Start, openings, plan
from interlock_deployer.rollout import Placement, Rollout, Stage, Step
from tests.unit.deployer.rollout_facts import (
    LIMITS,
    ORIGIN,
    START,
    application,
    approved,
    created,
    digest,
    later,
    promoted,
    proof,
    rollback,
)

DEPLOY_SECONDS_MAX = 60.0


class World:
    """One endpoint and a Ray that does what it is told a turn later; applications named in `broken` never run."""

    def __init__(self) -> None:
        self.rollout = Rollout("fraud", "fraud")
        self.applications: dict[str, str] = {}
        self.broken: set[str] = set()
        self.routes: list[int] = []
        self.now = START

    def take(self, step: Step) -> None:
        """Keep a step."""
        self.rollout = step.rollout
        self.routes.extend(event.arms[0].version for event in step.events if isinstance(event, Route))

    def turn(self) -> bool:
        """Plan, carry out, let Ray go on; return whether there was anything to do."""
        if openings([self.rollout], {"fraud"}):
            self.take(model.opened(self.rollout, self.now, LIMITS))
        seen = {name: Seen(state) for name, state in self.applications.items()}
        actions = plan([self.rollout], seen, self.now, DEPLOY_SECONDS_MAX)
        before = dict(self.applications)
        self._ray_goes_on()
        for action in actions:
            self._carry_out(action)
        return bool(actions) or self.applications != before

    def rest(self) -> None:
        """Turn until there is nothing to do; a drain is waited for."""
        for _ in range(100):
            self.now += timedelta(seconds=1)
            draining = any(p.stage is Stage.DRAINING for p in self.rollout.placements.values())
            if not self.turn() and not draining:
                return
        raise AssertionError("the plan does not come to an end")

    def _ray_goes_on(self) -> None:
        self.applications = {
            name: ("DEPLOY_FAILED" if name in self.broken else "RUNNING") if state == "DEPLOYING" else state
            for name, state in self.applications.items()
            if state != "DELETING"
        }

    def _carry_out(self, action: object) -> None:
        match action:
            case Start(name):
                assert name not in self.applications, "an application is never updated in place"
                self.applications[name] = "DEPLOYING"
            case Remove(name):
                self.applications[name] = "DELETING"
            case Prove(_, _, version, of):
                self.take(model.warmed(self.rollout, version, of, proof(version), self.now, LIMITS))
            case Fail(_, version, of, code, detail):
                self.take(model.failed(self.rollout, version, of, code, detail, self.now, LIMITS))
            case Lose(_, version):
                self.take(model.lost(self.rollout, version, self.now))
            case Empty(_, version):
                self.take(model.emptied(self.rollout, version, self.now))
            case Drain(_, version):
                self.take(model.drained(self.rollout, version, self.now, LIMITS))

    def created(self) -> None:
        """The endpoint is created."""
        self.take(model.created(self.rollout, created()))

    def approved(self, version: int) -> None:
        """A version is approved."""
        self.take(model.approved(self.rollout, approved(version), ORIGIN, self.now, LIMITS))

    def promoted(self, version: int, number: int, previous: int | None = None) -> None:
        """A version is promoted."""
        self.take(model.promoted(self.rollout, promoted(version, number, previous), ORIGIN, self.now, LIMITS))

    def ordered_back(self, from_version: int, to_version: int, number: int) -> None:
        """A rollback is ordered."""
        event = rollback(from_version, to_version, number)
        self.take(model.ordered_back(self.rollout, event, ORIGIN, self.now, LIMITS))


def serving(*versions: int) -> World:
    """Return a world at rest in which versions were promoted one after the other."""
    world = World()
    world.created()
    for number, version in enumerate(versions, 1):
        world.approved(version)
        world.promoted(version, number, versions[number - 2] if number > 1 else None)
        world.rest()
    return world


def test_versions_come_up_serve_and_go() -> None:
    """Three promotions: each version serves in turn, and of the applications only the last two remain."""
    world = serving(1, 2, 3)
    assert world.routes == [1, 2, 3]
    assert world.applications == {application(2): "RUNNING", application(3): "RUNNING"}


def test_everything_is_restored_after_ray_lost_all_applications() -> None:
    """Ray restarted empty: champion and previous come up again, and no route changes for it."""
    world = serving(1, 2)
    world.applications = {}
    world.rest()
    assert world.applications == {application(1): "RUNNING", application(2): "RUNNING"}
    assert world.routes == [1, 2]


def test_a_rollback_after_ray_lost_everything_deploys_first() -> None:
    """The way back is not warm any more: it is brought up, then taken."""
    world = serving(1, 2)
    world.applications = {}
    world.turn()
    world.ordered_back(2, 1, 3)
    assert world.routes == [1, 2]
    world.rest()
    assert world.routes == [1, 2, 1]


def test_strangers_of_ours_are_deleted_and_those_of_others_left_alone() -> None:
    """An application by our naming that no rollout wants goes; any other name is somebody else's."""
    world = serving(1)
    world.applications |= {"fraud--v7--0123456789ab": "RUNNING", "dashboard": "RUNNING"}
    world.rest()
    assert world.applications == {application(1): "RUNNING", "dashboard": "RUNNING"}


def test_a_failed_application_is_deleted_and_tried_again_later() -> None:
    """Nothing is updated in place: the failed application goes first, and the pause is kept."""
    world = World()
    world.created()
    world.broken = {application(1)}
    world.approved(1)
    world.now = later(1)
    for _ in range(4):
        world.turn()
    assert world.rollout.placements[1].failure == "DEPLOY_FAILED"
    assert world.applications == {}, "deleted, and not started again before its time"
    world.broken = set()
    world.now = later(60)
    world.rest()
    assert world.rollout.placements[1].stage is Stage.WARM


def test_an_application_that_does_not_run_in_time_fails_and_goes() -> None:
    """Waiting for resources that never come is bounded."""
    world = World()
    world.created()
    world.approved(1)
    seen = {application(1): Seen("DEPLOYING", "no resources", DEPLOY_SECONDS_MAX + 1)}
    fail, remove = plan([world.rollout], seen, later(0), DEPLOY_SECONDS_MAX)
    assert isinstance(fail, Fail)
    assert (fail.code, fail.digest) == ("DEPLOY_TIMEOUT", digest(1))
    assert "no resources" in fail.detail
    assert remove == Remove(application(1))


def test_an_application_that_two_endpoints_share_stays_while_one_wants_it() -> None:
    """One version, one application, however many endpoints: draining here deletes nothing there."""
    world = serving(1, 2, 3)
    drained = Placement(1, digest(1), Stage.DELETING, START, ORIGIN, proof=proof(1))
    one = replace(world.rollout, placements={**world.rollout.placements, 1: drained})
    other = replace(serving(1).rollout, endpoint="fraud-eu")
    seen = {application(version): Seen("RUNNING") for version in (1, 2, 3)}
    assert plan([one, other], seen, later(0), DEPLOY_SECONDS_MAX) == [Drain("fraud", 1)]


def test_topics_are_made_once_for_an_endpoint() -> None:
    """They need no Ray, so they stand apart from the plan."""
    rollout = model.created(Rollout("fraud", "fraud"), created(3)).rollout
    assert openings([rollout], ()) == [Open("fraud", 3)]
    opened = model.opened(rollout, later(0), LIMITS).rollout
    assert openings([opened], {"fraud"}) == []
    assert openings([opened], {"other"}) == [Open("fraud", 3, again=True)]
    assert openings([rollout], {"fraud"}) == [Open("fraud", 3)]
