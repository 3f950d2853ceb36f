from __future__ import annotations

from dataclasses import replace

import pytest

from interlock.errors import Code, Refusal
from interlock.schemas.events import DeployFailed, RouteCause, RouteChanged, Verdict
from interlock_registry import approvals, errors, model, promotions
from interlock_registry.model import Version
from interlock_registry.promotions import Endpoint
from tests.unit.registry.world import AT, created, gate, proven, registered, succeeded

FRAUD = promotions.endpoint_created(created())


def approved(version: int, endpoint: Endpoint = FRAUD) -> Version:
    made = proven(version)
    for event in approvals.approve(made, endpoint, approver="bob", note="", at=AT):
        made = approvals.version_approved(made, event)
    return made


def promoted(endpoint: Endpoint, version: int) -> Endpoint:
    event = promotions.promote(endpoint, approved(version), actor="otto", at=AT)
    return promotions.version_promoted(endpoint, event)


def rolled_back(endpoint: Endpoint, to: int | None = None) -> Endpoint:
    target = proven(promotions.way_back(endpoint, to))
    event = promotions.roll_back(endpoint, target, reason="bad", actor="otto", at=AT)
    return promotions.rollback_ordered(endpoint, event)


def routed(endpoint: Endpoint, epoch: int, champion: int, previous: int | None = None) -> Endpoint:
    event = RouteChanged(
        endpoint=endpoint.name, epoch=epoch, champion_version=champion, previous_version=previous,
        cause=RouteCause.PROMOTION, promotion=epoch, at=AT,
    )  # fmt: skip
    return promotions.route_changed(endpoint, event)


def refused(code: Code) -> pytest.RaisesExc[Refusal]:
    return pytest.raises(Refusal, check=lambda error: error.code is code)


def test_an_author_cannot_approve_and_is_told_so_first() -> None:
    """Even before the version is proven."""
    for version in (registered(), proven()):
        with refused(errors.OWN_APPROVAL):
            approvals.approve(version, FRAUD, approver="ann", note="", at=AT)


def test_an_approval_is_bound_to_digest_evidence_and_endpoint() -> None:
    """It carries all three; the same person's second one follows nothing; another endpoint needs its own."""
    events = approvals.approve(proven(), FRAUD, approver="bob", note="ok", at=AT)
    assert [(event.digest, event.evidence_digest, event.endpoint) for event in events] == [
        ("sha256:1", "sha256:e", "fraud")
    ]
    version = approvals.version_approved(proven(), events[0])
    assert approvals.approve(version, FRAUD, approver="bob", note="", at=AT) == []
    assert len(approvals.approve(version, FRAUD, approver="eve", note="", at=AT)) == 1
    assert version.approved_for("fraud")
    assert not version.approved_for("other")
    assert not replace(version, evidence_digest="sha256:new").approved_for("fraud")


def test_only_a_proven_and_approved_version_of_the_same_model_is_promoted() -> None:
    """Each reason has its own refusal, the gate's with its number."""
    with refused(errors.NOT_APPROVED):
        promotions.promote(FRAUD, proven(), actor="otto", at=AT)
    failing = model.gate_evaluated(
        model.build_succeeded(registered(), succeeded()), gate(verdict=Verdict.FAIL, value=0.81)
    )
    with pytest.raises(Refusal, match=r"0\.810 < 0\.900 FAIL"):
        promotions.promote(FRAUD, failing, actor="otto", at=AT)
    with pytest.raises(Refusal, match=r"0\.810 < 0\.900 FAIL"):
        approvals.approve(failing, FRAUD, approver="bob", note="", at=AT)
    loans = promotions.endpoint_created(created("loans", "loans"))
    with refused(errors.OTHER_MODEL):
        promotions.promote(loans, approved(1), actor="otto", at=AT)
    with refused(errors.OTHER_MODEL):
        approvals.approve(proven(), loans, approver="bob", note="", at=AT)


def test_promotions_are_numbered_and_name_the_version_before() -> None:
    """Numbers only rise, over rollbacks too."""
    first = promotions.promote(FRAUD, approved(1), actor="otto", at=AT)
    assert (first.promotion, first.previous_version) == (1, None)
    after = promotions.version_promoted(FRAUD, first)
    second = promotions.promote(after, approved(2), actor="otto", at=AT)
    assert (second.promotion, second.previous_version) == (2, 1)
    after = rolled_back(promotions.version_promoted(after, second))
    assert (after.promotion, after.asked) == (3, 1)
    assert promotions.version_promoted(after, second) == after


def test_the_champion_is_what_is_in_force_and_not_what_was_asked_for() -> None:
    """Only a route that changed makes a champion; late epochs change nothing."""
    asked = promoted(FRAUD, 1)
    assert (asked.asked, asked.champion) == (1, None)
    live = routed(asked, 1, 1)
    assert (live.champion, live.route_epoch) == (1, 1)
    assert routed(routed(live, 3, 2, 1), 2, 1) == routed(live, 3, 2, 1)
    with refused(errors.ALREADY_CHAMPION):
        promotions.promote(live, approved(1), actor="otto", at=AT)


def test_a_promotion_that_failed_to_deploy_can_be_given_again() -> None:
    """The failure is shown, the champion stays, and the next promotion clears it."""
    live = promoted(routed(promoted(FRAUD, 1), 1, 1), 2)
    event = DeployFailed(
        endpoint="fraud", model="fraud", version=2, digest="sha256:2", code="WARM", detail="slow", at=AT
    )
    failing = promotions.deploy_failed(live, event)
    assert (failing.champion, failing.failure) == (1, "version 2: WARM: slow")
    again = promoted(failing, 2)
    assert (again.failure, again.line, again.promotion) == (None, (1, 2), 3)


def test_a_rollback_goes_back_along_the_line_and_never_to_what_was_left() -> None:
    """After 1, 2, 3: back to 2, back to 1, then there is no way back; a promotion makes a new one."""
    endpoint = promoted(promoted(promoted(FRAUD, 1), 2), 3)
    endpoint = rolled_back(endpoint)
    assert endpoint.asked == 2
    endpoint = rolled_back(endpoint)
    assert endpoint.asked == 1
    with refused(errors.NO_WAY_BACK):
        promotions.way_back(endpoint, None)
    assert rolled_back(promoted(endpoint, 4)).asked == 1


def test_a_rollback_before_the_route_has_changed_still_goes_to_the_version_before() -> None:
    """An operator need not wait for a bad promotion to take effect."""
    endpoint = promoted(routed(promoted(FRAUD, 1), 1, 1), 2)
    assert promotions.way_back(endpoint, None) == 1


def test_a_named_target_must_have_served_and_differ() -> None:
    """Rollback is no way round a promotion."""
    endpoint = promoted(promoted(FRAUD, 1), 2)
    for target in (2, 7):
        with refused(errors.NO_WAY_BACK):
            promotions.way_back(endpoint, target)
    with pytest.raises(Refusal, match="nothing has served it yet"):
        promotions.way_back(FRAUD, None)
    assert rolled_back(rolled_back(endpoint), 2).asked == 2


def test_an_endpoint_is_created_once() -> None:
    """The very same again follows nothing; another model or other partitions are refused."""
    assert promotions.create_endpoint("fraud", "fraud", 4, FRAUD, actor="otto", at=AT) == []
    for of, partitions in (("loans", 4), ("fraud", 8)):
        with refused(errors.ENDPOINT_TAKEN):
            promotions.create_endpoint("fraud", of, partitions, FRAUD, actor="otto", at=AT)
    with refused(errors.NAME_INVALID):
        promotions.create_endpoint("Fraud!", "fraud", 4, None, actor="otto", at=AT)
