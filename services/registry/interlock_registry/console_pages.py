"""What the console's pages show, made from what the API answers: plain values, shapes of charts, words. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from interlock.ids import short_digest

WINDOWS_SHOWN: Final = 20
NAMES_SHOWN: Final = 2
CHART_WINDOWS: Final = 200
BARS_HEIGHT: Final = 26.0
BARS_WIDTH: Final = 100.0
FACTS_CHARACTERS_MAX: Final = 160
_NOT_FACTS: Final = frozenset({"model", "endpoint", "at", "manifest", "files", "features"})
_CHARTS: Final = (
    ("rows per window", "", lambda window: window["rows"]),
    ("p99 latency, request to scored", " ms", lambda window: window["latency_milliseconds"]["total"]["p99"]),
    ("mean score", "", lambda window: window["score_mean"]),
)


def environment() -> Environment:
    """Return the templates with the filters they use; whatever is shown is escaped, and a missing name is an error."""
    made = Environment(
        loader=PackageLoader("interlock_registry", "console/templates"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(shaped=shaped, bars=bars, clock=clock, short=short_digest, few=few)
    return made


def shaped(value: Any, shape: str) -> str:
    """Return a figure as a reader wants it; `-` for what is not known. The script in the browser shapes alike."""
    if value is None:
        return "-"
    match shape:
        case "count" | "rate":
            return f"{value:,.0f}"
        case "one":
            return f"{value:,.1f}"
        case "four":
            return f"{value:.4g}"
        case "percent":
            return f"{value:.1%}"
        case "shares":
            return ", ".join(f"v{version} {share:.0%}" for version, share in sorted(value.items())) or "-"
    return str(value)


def clock(value: Any) -> str:
    """Return an ISO-8601 time in UTC, to the second."""
    return "-" if value is None else datetime.fromisoformat(str(value)).strftime("%Y-%m-%d %H:%M:%S") + " UTC"


def few(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def bars(histogram: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Return a histogram as shapes for an SVG of 100 by 26: bars for the reference, a stepped line for the window.

    Every cell is as wide as every other: cells hold equal shares of the reference, not equal stretches of value.
    """
    reference, window = list(histogram["reference"]), list(histogram["window"])
    highest = max([*reference, *window, 1e-12])
    width = BARS_WIDTH / max(len(reference), 1)

    def top(share: float) -> float:
        return round(BARS_HEIGHT * (1 - share / highest), 2)

    rectangles = [
        {
            "x": round(index * width, 2),
            "y": top(share),
            "width": round(width * 0.9, 2),
            "height": BARS_HEIGHT - top(share),
        }
        for index, share in enumerate(reference)
    ]
    steps = [
        f"{'M' if not index else 'L'}{index * width:.2f},{top(share)}L{(index + 1) * width:.2f},{top(share)}"
        for index, share in enumerate(window)
    ]
    return {"reference": rectangles, "window": "".join(steps)}


def charts(windows: Sequence[Mapping[str, Any]], quality: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return an endpoint's charts: for each a title, a unit, the windows' starts in seconds, a line per version."""
    answered = [each for each in windows if each["version"]]
    shown = [_chart(title, unit, answered, value) for title, unit, value in _CHARTS]
    measured = [window for version in quality for window in version["windows"]]
    if measured:
        shown.append(_chart("recall, by the labels so far", "", measured, lambda window: window["recall"]))
    return shown


def _chart(title: str, unit: str, windows: Sequence[Mapping[str, Any]], value: Any) -> dict[str, Any]:
    starts = sorted({each["window_start"] for each in windows})[-CHART_WINDOWS:]
    lines = sorted({(each["version"], each["arm"]) for each in windows})
    found = {(each["version"], each["arm"], each["window_start"]): value(each) for each in windows}
    return {
        "title": title,
        "unit": unit,
        "times": [datetime.fromisoformat(start).timestamp() for start in starts],
        "labels": [f"v{version} {arm}" for version, arm in lines],
        "values": [[found.get((version, arm, start)) for start in starts] for version, arm in lines],
    }


def facts(event: Mapping[str, Any]) -> str:
    """Return what else an event of the timeline says, in one line."""
    said = ", ".join(
        f"{name} {short_digest(value) if str(value).startswith('sha256:') else value}"
        for name, value in event.items()
        if name not in _NOT_FACTS and value not in (None, "")
    )
    return said if len(said) <= FACTS_CHARACTERS_MAX else said[: FACTS_CHARACTERS_MAX - 1] + "…"
