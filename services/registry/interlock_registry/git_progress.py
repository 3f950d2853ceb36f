"""What a pusher reads on the terminal while the version is built and gated. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from interlock.errors import Refusal
from interlock.schemas.events import GateEvaluated
from interlock_registry.model import State, Version, gate_of


def greeting(version: Version, *, new: bool) -> list[str]:
    """Return what is said once the version is in the registry."""
    name = f"{version.model} version {version.version}"
    if new:
        return [f"registered {name} {version.digest}"]
    return [f"{name} is registered already, byte for byte: {version.digest}", *standing(version)]


def standing(version: Version) -> list[str]:
    """Return what has happened to a version that was known before."""
    lines = [] if version.vectors is None else [f"vectors {version.vectors} ok"]
    return lines + [gate.sentence() for gate in version.gates]


def of_event(kind: str, event: Mapping[str, Any]) -> list[str]:
    """Return the lines for one entry of the timeline."""
    if kind == "BuildStarted":
        return ["build started" if event["attempt"] == 1 else f"build started again (attempt {event['attempt']})"]
    if kind == "BuildSucceeded":
        return [f"build done in {event['seconds']:.1f} s", f"vectors {event['vectors']} ok"]
    if kind == "BuildFailed":
        return [f"build failed: {event['code']}", *str(event["detail"]).splitlines()]
    if kind == "GateEvaluated":
        return [gate_of(msgspec.convert(event, GateEvaluated)).sentence()]
    return []


def verdict(version: Version, endpoints: Sequence[str]) -> list[str]:
    """Return the end of the story, and what to do next."""
    name = f"{version.model} version {version.version}"
    if version.state is State.PROVEN:
        return [f"{name} is proven", *_next(version, endpoints)]
    if version.state is State.REFUSED:
        failed = ", ".join(gate.name for gate in version.gates if gate.verdict == "FAIL")
        return [
            f"{name} is REFUSED by {failed}; it cannot be promoted",
            "improve the model, raise `version`, push again",
        ]
    if version.state is State.FAILED:
        return [f"{name} did not build: {version.failure}", "correct it, raise `version` in interlock.toml, push again"]
    short = ", ".join(gate.name for gate in version.gates if gate.verdict != "PASS")
    return [
        f"{name} is not proven: not enough evidence for {short}",
        "ship more rows with the gate, raise `version`, push again",
    ]


def _next(version: Version, endpoints: Sequence[str]) -> list[str]:
    given = {approval.endpoint for approval in version.approvals}
    ask = f"next: ask somebody else to run: interlock approve {version.model} {version.version} --endpoint"
    if not endpoints:
        return [f"next: an operator runs: interlock endpoint create {version.model} --model {version.model}"]
    return [
        f"next: an operator runs: interlock promote {endpoint} {version.version}"
        if endpoint in given
        else f"{ask} {endpoint}"
        for endpoint in endpoints
    ]


def away(version: Version, seconds: float) -> str:
    """Return what is said when nothing is heard from the builder."""
    return (
        f"nothing heard from the builder for {seconds:.0f} s; {version.model} version {version.version} is registered"
        " and will be built when it is back"
    )


def left(version: Version, seconds: float) -> list[str]:
    """Return what is said when the terminal is given back before the verdict."""
    return [
        f"no verdict within {seconds:.0f} s; the build goes on without this terminal",
        f"see it with: interlock version show {version.model} {version.version}",
    ]


def refusal(refused: Refusal) -> list[str]:
    """Return a refusal as lines: what is wrong, then what to do."""
    return [
        "REFUSED",
        *(f"  {line}" for line in refused.detail.splitlines()),
        *([refused.code.hint] if refused.code.hint else []),
    ]
