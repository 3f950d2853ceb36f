from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from interlock.errors import Refusal
from interlock.schemas.events import BuildFailed, ModelCreated, Verdict, VersionRegistered
from interlock_registry import errors, model
from interlock_registry.model import State
from tests.unit.registry.world import AT, gate, proven, pushed, registered, started, succeeded


def failed(version: int = 1, attempt: int = 1) -> BuildFailed:
    return BuildFailed(
        model="fraud",
        version=version,
        digest=f"sha256:{version}",
        attempt=attempt,
        code="ARTIFACT_INVALID",
        detail="no",
        at=AT,
    )


def test_the_first_push_makes_the_model_and_the_version() -> None:
    """Two events, the model's first; author and commit are the pusher's."""
    events = model.register(pushed(), None, model_exists=False, at=AT)
    assert [type(event) for event in events] == [ModelCreated, VersionRegistered]
    assert isinstance(events[1], VersionRegistered)
    assert (events[1].author, events[1].commit) == ("ann", "c0ffee")


def test_the_same_bytes_again_follow_nothing_whoever_pushes_them() -> None:
    """Commit and author do not belong to a version's identity."""
    assert model.register(pushed(commit="other", author="bob"), registered(), model_exists=True, at=AT) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"manifest_digest": "sha256:x"}, "interlock.toml differs"),
        ({"files": {"model.onnx": "sha256:a", "d.csv": "sha256:other"}}, "d.csv differs"),
        ({"files": {"model.onnx": "sha256:a", "e.csv": "sha256:d"}}, "d.csv, e.csv differ"),
    ],
)
def test_the_same_number_with_other_bytes_is_refused(changed: dict[str, Any], said: str) -> None:
    """What differs is named."""
    with pytest.raises(Refusal, match=said) as refused:
        model.register(pushed(**changed), registered(), model_exists=True, at=AT)
    assert refused.value.code is errors.VERSION_TAKEN


def test_a_version_is_proven_by_the_last_gate_and_refused_by_any() -> None:
    """Built until every gate named has spoken; one failure refuses; too little evidence does neither."""
    built = model.build_succeeded(model.build_started(registered(), started()), succeeded(gates=("auc", "recall")))
    assert built.state is State.BUILT
    one = model.gate_evaluated(built, gate(name="auc"))
    assert (one.state, one.settled) == (State.BUILT, False)
    assert model.gate_evaluated(one, gate(name="recall")).state is State.PROVEN
    refused = model.gate_evaluated(one, gate(name="recall", verdict=Verdict.FAIL, value=0.5))
    assert (refused.state, refused.settled) == (State.REFUSED, True)
    unsure = model.gate_evaluated(one, gate(name="recall", verdict=Verdict.NOT_ENOUGH_EVIDENCE))
    assert (unsure.state, unsure.settled) == (State.BUILT, True)
    early = model.gate_evaluated(built, gate(name="auc", verdict=Verdict.FAIL, value=0.5))
    assert (early.state, early.settled) == (State.REFUSED, False)


def test_a_version_without_gates_is_proven_by_its_build() -> None:
    """Its vectors are its proof."""
    assert model.build_succeeded(registered(), succeeded(gates=())).state is State.PROVEN


def test_events_twice_late_and_out_of_order_end_in_the_same_state() -> None:
    """Whatever the order, and with every event twice, the version ends proven by the same evidence."""
    events = [started(), succeeded(), gate()]
    for order in itertools.permutations(events):
        version = registered()
        for event in (*order, *order):
            version = fold(version, event)
        assert (version.state, version.evidence_digest, len(version.gates)) == (State.PROVEN, "sha256:e", 1), order


def fold(version: model.Version, event: object) -> model.Version:
    folds: dict[str, Any] = {"BuildStarted": model.build_started, "BuildSucceeded": model.build_succeeded}
    folds |= {"BuildFailed": model.build_failed, "GateEvaluated": model.gate_evaluated}
    folded: model.Version = folds[type(event).__name__](version, event)
    return folded


def test_nothing_that_is_proven_is_unproven() -> None:
    """A late failure, a late start, another evidence, another digest: the version stands."""
    version = proven()
    for event in (
        failed(attempt=9),
        started(attempt=9),
        succeeded(evidence="sha256:other"),
        gate(verdict=Verdict.FAIL),
    ):
        assert fold(version, event) == version
    other = started(digest="sha256:other", attempt=2)
    assert model.build_started(registered(), other) == registered()


def test_a_failed_build_may_be_tried_again() -> None:
    """The failure of attempt 1 is forgotten when attempt 2 ends well; a late failure of 1 changes nothing."""
    version = model.build_failed(model.build_started(registered(), started()), failed())
    assert (version.state, version.failure) == (State.FAILED, "ARTIFACT_INVALID: no")
    again = model.build_started(version, started(attempt=2))
    assert (again.state, again.failure) == (State.BUILDING, None)
    assert model.build_failed(again, failed(attempt=1)) == again
    assert model.build_succeeded(again, succeeded(gates=(), attempt=2)).state is State.PROVEN


def test_what_is_missing_for_proof_is_said_with_its_numbers() -> None:
    """The refusal carries the gate's own sentence."""
    version = model.gate_evaluated(
        model.build_succeeded(registered(), succeeded()), gate(verdict=Verdict.FAIL, value=0.81)
    )
    with pytest.raises(Refusal, match=r"did not pass: gate auc: auc 0\.810 < 0\.900 FAIL"):
        model.require_proven(version)
    with pytest.raises(Refusal, match="still waits for its gates: auc"):
        model.require_proven(model.build_succeeded(registered(), succeeded()))
    with pytest.raises(Refusal, match="did not build: ARTIFACT_INVALID: no"):
        model.require_proven(model.build_failed(registered(), failed()))
    with pytest.raises(Refusal, match="is registered: the builder has not proven it yet"):
        model.require_proven(registered())


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "gate auc: auc 0.931 >= 0.900 PASS"),
        ({"verdict": Verdict.FAIL, "value": 0.89996}, "gate auc: auc 0.89996 < 0.90000 FAIL"),
        ({"metric": "rmse", "value": 0.2, "bound": 0.5}, "gate auc: rmse 0.200 <= 0.500 PASS"),
        ({"metric": "rmse", "value": 0.7, "bound": 0.5, "verdict": Verdict.FAIL}, "gate auc: rmse 0.700 > 0.500 FAIL"),
        (
            {"verdict": Verdict.FAIL, "champion_version": 1, "champion_value": 0.95, "margin": 0.01},
            "gate auc: auc 0.931 > 0.900, champion version 1 has 0.950 (margin +0.01) FAIL",
        ),
        (
            {"verdict": Verdict.NOT_ENOUGH_EVIDENCE, "value": None, "detail": "3 rows of 100"},
            "gate auc: 3 rows of 100 NOT ENOUGH EVIDENCE",
        ),
    ],
)
def test_a_verdict_is_said_with_the_numbers_that_decide_it(changed: dict[str, Any], said: str) -> None:
    """The value against its bound, with as many decimals as tell them apart, and against the champion."""
    assert model.gate_of(msgspec.structs.replace(gate(), **changed)).sentence() == said


@pytest.mark.parametrize("name", ["", "A", "1x", "a--b", "a/b", "..", "a" * 65, "a-", "é"])
def test_names_that_would_break_a_topic_or_a_path_are_refused(name: str) -> None:
    """Names become topics, folders and applications."""
    with pytest.raises(Refusal) as refused:
        model.named(name, "a model")
    assert refused.value.code is errors.NAME_INVALID
