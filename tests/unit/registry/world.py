"""Versions, endpoints and events as the tests of the model need them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from interlock.schemas.events import (
    BuildStarted,
    BuildSucceeded,
    EndpointCreated,
    GateEvaluated,
    Verdict,
    VersionRegistered,
)
from interlock_registry import model
from interlock_registry.model import Pushed, Version

AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def pushed(version: int = 1, **changed: Any) -> Pushed:
    values: dict[str, Any] = {
        "model": "fraud", "owner": "risk", "version": version, "digest": f"sha256:{version}", "manifest": "[model]",
        "manifest_digest": f"sha256:m{version}", "artifact_digest": "sha256:a", "artifact_format": "onnx",
        "artifact_bytes": 10, "commit": "c0ffee", "author": "ann",
        "files": {"model.onnx": "sha256:a", "d.csv": "sha256:d"},
    }  # fmt: skip
    return Pushed(**(values | changed))


def registered(version: int = 1, **changed: Any) -> Version:
    events = model.register(pushed(version, **changed), None, model_exists=True, at=AT)
    assert isinstance(events[0], VersionRegistered)
    return model.registered(events[0])


def started(version: int = 1, attempt: int = 1, digest: str = "") -> BuildStarted:
    return BuildStarted(model="fraud", version=version, digest=digest or f"sha256:{version}", attempt=attempt, at=AT)


def succeeded(
    version: int = 1, gates: tuple[str, ...] = ("auc",), attempt: int = 1, evidence: str = "sha256:e"
) -> BuildSucceeded:
    return BuildSucceeded(
        model="fraud", version=version, digest=f"sha256:{version}", attempt=attempt, evidence_digest=evidence,
        profile_digest="sha256:p", vectors=64, gates=gates, seconds=1.0, at=AT,
    )  # fmt: skip


def gate(version: int = 1, name: str = "auc", verdict: Verdict = Verdict.PASS, value: float = 0.931) -> GateEvaluated:
    return GateEvaluated(
        model="fraud", version=version, digest=f"sha256:{version}", gate=name, metric="auc", verdict=verdict,
        value=value, bound=0.9, rows=500, detail=f"auc {value:.3f} {'>=' if value >= 0.9 else '<'} 0.900", at=AT,
    )  # fmt: skip


def proven(version: int = 1) -> Version:
    made = model.build_started(registered(version), started(version))
    return model.gate_evaluated(model.build_succeeded(made, succeeded(version)), gate(version))


def created(name: str = "fraud", of: str = "fraud") -> EndpointCreated:
    return EndpointCreated(endpoint=name, model=of, partitions=4, created_by="otto", at=AT)
