"""The verdict of a gate, from what was measured: pure, so that the same numbers always give the same verdict."""

from __future__ import annotations

import msgspec

from interlock.manifest import METRICS, Gate


class Measured(msgspec.Struct, frozen=True):
    """A metric of one version on a gate's data; `value` is None where it could not be had, `why` says why."""

    value: float | None
    why: str = ""


class Champion(msgspec.Struct, frozen=True):
    """The champion's own metric on the same data, and which version it is."""

    version: int
    measured: Measured


class Judgement(msgspec.Struct, frozen=True):
    """What a gate says, with every number it rests on; `bound` is the one that decided."""

    gate: str
    metric: str
    verdict: str
    value: float | None
    bound: float | None
    champion_version: int | None
    champion_value: float | None
    margin: float | None
    rows: int
    detail: str


def judge(gate: Gate, rows: int, measured: Measured, champion: Champion | None) -> Judgement:
    """Return the verdict: FAIL when a bound is broken, NOT_ENOUGH_EVIDENCE when one cannot be checked, else PASS.

    Without any champion a margin is no bound: the first version of a model has nothing to beat.
    """
    verdict, bound, detail = _decide(gate, rows, measured, champion)
    return Judgement(
        gate=gate.name,
        metric=gate.metric,
        verdict=verdict,
        value=measured.value,
        bound=bound,
        champion_version=champion.version if champion else None,
        champion_value=champion.measured.value if champion else None,
        margin=gate.margin,
        rows=rows,
        detail=detail,
    )


def _decide(gate: Gate, rows: int, measured: Measured, champion: Champion | None) -> tuple[str, float | None, str]:
    value = measured.value
    fixed = gate.minimum if gate.minimum is not None else gate.maximum
    if rows < gate.rows_minimum:
        return "NOT_ENOUGH_EVIDENCE", fixed, f"{rows} rows of {gate.data}; the gate asks for {gate.rows_minimum}"
    if value is None:
        return "NOT_ENOUGH_EVIDENCE", fixed, measured.why
    said = f"{gate.metric} {value:.6g} on {rows} rows"
    if gate.minimum is not None and value < gate.minimum:
        return "FAIL", gate.minimum, f"{said} is below the minimum {gate.minimum:g}"
    if gate.maximum is not None and value > gate.maximum:
        return "FAIL", gate.maximum, f"{said} is above the maximum {gate.maximum:g}"
    if gate.margin is None:
        return "PASS", fixed, said
    if champion is None:
        return "PASS", fixed, f"{said}; there is no champion yet to compare with"
    theirs = champion.measured.value
    if theirs is None:
        return "NOT_ENOUGH_EVIDENCE", fixed, f"{said}; champion v{champion.version}: {champion.measured.why}"
    return _against(gate, value, theirs, champion.version, said)


def _against(gate: Gate, value: float, theirs: float, version: int, said: str) -> tuple[str, float, str]:
    assert gate.margin is not None
    higher_is_better = METRICS[gate.metric]
    bound = theirs + gate.margin if higher_is_better else theirs - gate.margin
    good = value >= bound if higher_is_better else value <= bound
    comparison = f"champion v{version} has {theirs:.6g}, the margin is {gate.margin:g}, so the bound is {bound:.6g}"
    return ("PASS" if good else "FAIL"), bound, f"{said}; {comparison}"
