from __future__ import annotations

from typing import Any

import msgspec
import pytest

from interlock.errors import Refusal
from interlock.schemas.events import (
    BuildSucceeded,
    DriftCleared,
    DriftDetected,
    GateEvaluated,
    RollbackOrdered,
    Route,
    RouteChanged,
    VersionApproved,
    VersionPromoted,
    VersionRegistered,
    VersionWarmed,
    WindowClosed,
)
from interlock_auditor import case
from interlock_auditor.case import Coordinates
from tests.unit.auditor.case_world import APPLICATION, DIGEST, EVIDENCE, FIRST, WHICH, World, examine, later, story

PLACE: dict[str, Any] = {"endpoint": "fraud", **WHICH}
ARM: dict[str, Any] = {**PLACE, "arm": "champion"}


def of(kind: Any) -> Any:
    """Return the story's event of a kind."""
    return next(each for each in story() if type(each) is kind)


def again(event: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(event, **changes)


def account(world: World, row: int = 7) -> dict[str, list[dict[str, Any]]]:
    """Return the facts of a row's case by their names."""
    told, problems = examine(world.bundle(row))
    assert problems == []
    found: dict[str, list[dict[str, Any]]] = {}
    for each in told["facts"]:
        found.setdefault(each["fact"], []).append(each)
    return found


def drift(start: float, end: float) -> DriftDetected:
    return DriftDetected(
        **ARM, window_start=later(start), window_end=later(end), rows=900, features=(), at=later(end + 2),
        false_alarms_per_window=1e-4,
    )  # fmt: skip


def cleared(start: float, end: float) -> DriftCleared:
    return DriftCleared(
        **ARM, window_start=later(start), window_end=later(end), detected_at=later(0), features=(), at=later(end + 2)
    )


def window(start: float, end: float, revision: int = 1) -> WindowClosed:
    return WindowClosed(
        **ARM, window_start=later(start), window_end=later(end), revision=revision, rows=9, rejected=0, late_rows=0,
        events_per_second=1.0, latency_milliseconds=(), score_mean=0.5, evidence="enough", drifted=(),
        at=later(end + 2),
    )  # fmt: skip


def test_coordinates_are_read_as_they_are_written() -> None:
    """A request's name gives topic, partition and offset, and its endpoint."""
    found = Coordinates.parse("card-fraud.requests/2/12345")
    assert found == ("card-fraud.requests", 2, 12345)
    assert (found.endpoint, str(found)) == ("card-fraud", "card-fraud.requests/2/12345")


@pytest.mark.parametrize(
    "name",
    ["", "fraud", "fraud/2/3", "fraud.requests/2", "fraud.requests/-1/2", "fraud.requests/1/2/3", "fraud.results/1/2",
     "fraud.requests/4294967296/1", "fraud.requests/1/" + "9" * 30, "fräud.requests/1/2", "fraud.requests/1/2\n",
     "fraud.requests/\u0661/2"],
)  # fmt: skip
def test_what_are_no_coordinates_is_refused(name: str) -> None:
    """Anything else is told how coordinates look, before anything is asked of anybody."""
    with pytest.raises(Refusal) as refused:
        Coordinates.parse(name)
    assert refused.value.code.id == "CASE_COORDINATES"


def test_a_results_place_is_read_without_its_schema() -> None:
    """The request's offset stands behind the id in every result, whatever the outputs; other bytes have none."""
    world = World(count=3, rejected=-1)
    assert [case.place_of(value) for value in world.results] == [FIRST, FIRST + 1, FIRST + 2]
    assert case.place_of(b"") is None
    assert case.place_of(world.results[0][:6]) is None
    assert case.place_of(b"\x00" * 5 + b"\xff" * 40) is None


@pytest.mark.parametrize(("seconds", "parts"), [(0.009, {9}), (0.0091, {9, 10}), (0.0099, {9, 10}), (0.0, {0})])
def test_a_time_is_found_whether_it_was_cut_or_rounded(seconds: float, parts: set[int]) -> None:
    """A caller knows its time to the microsecond; the request bears whole milliseconds, made in either way."""
    start = round(later(0).timestamp() * 1000)
    assert {each - start for each in case.times_of(later(seconds))} == parts


def test_a_route_that_ended_says_when() -> None:
    """The next epoch's route, not the one after it, ends the route that answered."""
    after = [again(of(Route), epoch=epoch, promotion=epoch + 2, at=later(100 + epoch)) for epoch in (5, 4)]
    (route,) = account(World(after=after))["route"]
    assert route["values"]["until"] == later(104).isoformat(timespec="milliseconds")


def test_a_route_by_rollback_names_who_went_back_and_who_had_promoted() -> None:
    """Gone back to: the order is the rollback, and how the version came to the endpoint before stands beside it."""
    order = RollbackOrdered(
        endpoint="fraud", model="fraud", promotion=9, from_version=3, to_version=2, to_digest=DIGEST, actor="rita",
        reason="rejects too much", at=later(55),
    )  # fmt: skip
    before = [again(each, promotion=9) if isinstance(each, Route | RouteChanged) else each for each in story()]
    facts = account(World(before=[*before, order]))
    assert facts["rollback"][0]["values"]["actor"] == "rita"
    assert facts["promotion"][0]["values"]["promotion"] == 5


def test_the_approval_and_its_build_go_together() -> None:
    """Built and approved twice: the case shows the newest approval, the build whose evidence it is for, its gates."""
    other = "sha256:" + "99" * 32
    extra = [
        again(of(BuildSucceeded), attempt=2, evidence_digest=other, at=later(32)),
        again(of(GateEvaluated), value=0.95, at=later(33)),
        again(of(VersionApproved), evidence_digest=other, approver="carol", at=later(34)),
    ]
    facts = account(World(before=[*story(), *extra]))
    assert [each["values"]["approver"] for each in facts["approval"]] == ["carol"]
    assert facts["build"][0]["values"]["evidence_digest"] == other != EVIDENCE
    assert [each["values"]["value"] for each in facts["gate"]] == [0.95]


def test_the_last_warming_before_the_route_is_shown() -> None:
    """A version warmed again after the route had changed was warm before: that is what counts."""
    warm = VersionWarmed(**PLACE, application=APPLICATION, vectors=3, seconds=1.0, at=later(80))
    (warmed,) = account(World(after=[warm]))["warmed"]
    assert warmed["values"]["at"] == later(50).isoformat(timespec="milliseconds")


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([], []),
        ([drift(60, 120)], ["DRIFT"]),
        ([drift(60, 120), cleared(120, 180)], ["DRIFT", "cleared"]),
        ([drift(10, 20), cleared(20, 30), drift(60, 120)], ["DRIFT"]),
        ([drift(120, 180)], []),
        ([again(drift(60, 120), arm="canary"), again(drift(60, 120), version=1)], []),
    ],
)
def test_drift_that_stood_at_the_time_is_told(events: list[Any], said: list[str]) -> None:
    """The last alarm begun by the request's time, and its end if it had one; not another arm's or version's."""
    facts = account(World(after=events))
    assert [each["said"].split(" ")[1 if "cleared" in each["said"] else 0] for each in facts.get("drift", [])] == said


def test_the_requests_own_window_is_told_in_its_last_revision() -> None:
    """Of all windows the one that the request's time falls into, as it was last revised."""
    facts = account(World(after=[window(0, 60), window(60, 120), window(60, 120, 2), window(120, 180)]))
    assert [each["values"]["revision"] for each in facts["window"]] == [2]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (VersionRegistered, "who pushed fraud version 2"),
        (VersionApproved, "who approved fraud version 2"),
        (BuildSucceeded, "the build of fraud version 2"),
        (GateEvaluated, "gate auc of fraud version 2"),
        (VersionPromoted, "order 5 of fraud"),
        (Route, "the route of epoch 3"),
    ],
)
def test_what_the_log_does_not_hold_is_named(kind: Any, said: str) -> None:
    """An auditor that is still catching up says what it lacks instead of leaving it out."""
    world = World(before=[each for each in story() if type(each) is not kind])
    with pytest.raises(Refusal, match=said) as refused:
        world.bundle(7)
    assert refused.value.code.id == "CASE_INCOMPLETE"


def test_entries_that_no_witness_saw_are_not_used() -> None:
    """What was entered after the checkpoint is not there for the case."""
    world = World(after=[again(of(Route), epoch=4, at=later(200))])
    assert len(case.told(world.entries, world.tree.size)) == len(case.told(world.entries, world.tree.size - 1)) + 1


def test_a_gate_that_could_not_judge_is_told_so() -> None:
    """A gate without a value is shown as it is."""
    before: list[Any] = [
        again(each, value=None, champion_value=None, champion_version=None) if isinstance(each, GateEvaluated) else each
        for each in story()
    ]
    (gate,) = account(World(before=before))["gate"]
    assert gate["values"]["value"] is None
