"""What the monitor answers with: windows, their features, drift and coverage as JSON (pure)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from interlock.clock import instant_of
from interlock_monitor.drift import Reference
from interlock_monitor.drift_alarm import Alarm
from interlock_monitor.drift_histogram import histogram
from interlock_monitor.windows import WindowState, latencies
from interlock_monitor.windows_columns import FeatureState

QUANTILES: Final = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_STATES: Final = {"enough": "clear"}


def window(row: Any) -> dict[str, Any]:
    """Return one window: a closed one as its newest revision told it, an open one as it stands.

    Where the sketches have gone there will be no more revision: what came since stands in the counts alone.
    """
    if row["closed"] is not None:
        told = msgspec.json.decode(row["closed"])
        stages = {each.pop("stage"): each for each in told["latency_milliseconds"]}
        return {**told, **(_counts(row, row) if row["pruned"] else {}), "latency_milliseconds": stages, "open": False}
    state = WindowState.from_bytes(row["state"]) if row["state"] else WindowState()
    return {
        **_whose(row),
        "revision": 0,
        **_counts(row, vars(state)),
        "latency_milliseconds": {
            each.stage: {"p50": each.p50, "p90": each.p90, "p99": each.p99, "maximum": each.maximum}
            for each in latencies(state)
        },
        "score_mean": finite(state.score_mean),
        "evidence": "too_few_rows",
        "drifted": [],
        "at": None,
        "open": True,
    }


def _counts(row: Any, counted: Any) -> dict[str, Any]:
    counts = {name: counted[name] for name in ("rows", "rejected", "late_rows")}
    return counts | {"events_per_second": (counts["rows"] + counts["rejected"]) / (row["length_milliseconds"] / 1000)}


def features(row: Any) -> dict[str, Any]:
    """Return how the columns of one window are spread."""
    state = WindowState.from_bytes(row["state"])
    return {
        **_whose(row),
        "rows": state.rows,
        "rejected": state.rejected,
        "reasons": state.reasons,
        "outputs": [_column(state.outputs[name]) for name in state.outputs],
        "features": [_column(state.features[name]) for name in state.features],
    }


def drift(row: Any, reference: Reference | None) -> dict[str, Any]:
    """Return how one version's newest closed window stands beside its reference, and its alarm."""
    verdict = msgspec.json.decode(row["verdict"])
    alarm = msgspec.json.decode(row["alarm"], type=Alarm) if row["alarm"] else Alarm()
    state = WindowState.from_bytes(row["state"]) if row["state"] else None
    evidence = verdict["evidence"]
    whose = _whose(row)
    return {
        **whose,
        "state": "drift" if alarm.raised else _STATES.get(evidence, evidence),
        "since": _iso(alarm.detected_at) if alarm.detected_at else None,
        "evidence": evidence,
        "rows": verdict["rows"],
        "blamed": list(alarm.features if alarm.raised else verdict["drifted"]),
        "features": [{**each, "histogram": _histogram(each, reference, state)} for each in verdict["features"]],
    }


def coverage(endpoint: str, covered: list[Any], gaps: list[Any], positions: list[Any]) -> dict[str, Any]:
    """Return which requests are counted, which cannot be, and how far the monitor has read."""
    found: dict[tuple[str, int], dict[str, Any]] = {
        (row["topic"], row["partition"]): {**row, "gaps": []} for row in map(dict, covered)
    }
    for gap in gaps:
        found[gap["topic"], gap["partition"]]["gaps"].append(
            {
                "from_offset": gap["from_offset"],
                "next_offset": gap["next_offset"],
                "kind": gap["kind"],
                "found_at": _iso(gap["found_at"]),
            }
        )
    return {
        "endpoint": endpoint,
        "requests": list(found.values()),
        "gaps": len(gaps),
        "positions": [dict(row) for row in positions],
    }


def finite(value: float | None) -> float | None:
    """Return a number that JSON can hold, None in place of NaN and infinity."""
    return value if value is not None and math.isfinite(value) else None


def _whose(row: Any) -> dict[str, Any]:
    names = {name: row[name] for name in ("endpoint", "model", "version", "digest", "arm") if name in row.keys()}  # noqa: SIM118 - a Record is no dict
    start = row["start_milliseconds"]
    return {
        **names,
        "window_start": _iso(instant_of(start)),
        "window_end": _iso(instant_of(start + row["length_milliseconds"])),
    }


def _column(column: FeatureState) -> dict[str, Any]:
    shares = column.kll.quantiles(QUANTILES).tolist() if column.count else []
    return {
        "name": column.name,
        "count": column.count,
        "missing": column.missing,
        "minimum": column.minimum,
        "maximum": column.maximum,
        "mean": finite(column.mean),
        "quantiles": {f"{share:g}": value for share, value in zip(QUANTILES, shares, strict=False)},
    }


def _histogram(
    measured: Mapping[str, Any], reference: Reference | None, state: WindowState | None
) -> dict[str, Any] | None:
    if reference is None or state is None:
        return None
    column = next(
        (each for each in reference.columns if (each.name, each.kind) == (measured["feature"], measured["kind"])), None
    )
    columns = state.features if measured["kind"] == "feature" else state.outputs
    if column is None or column.name not in columns:
        return None
    found = histogram(column, columns[column.name])
    if found is None:
        return None
    cells = {"labels": list(found.labels)} if found.labels is not None else {"edges": list(found.edges or ())}
    return {**cells, "window": list(found.window), "reference": list(found.reference)}


def _iso(instant: datetime) -> str:
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")
