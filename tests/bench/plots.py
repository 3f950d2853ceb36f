"""Pictures of the report as SVG, written by hand: a few bars and dots need no library."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

from interlock.embedded.home import write_whole
from tests.bench.bench import Bench
from tests.bench.findings import Finding
from tests.bench.rounds import Drained

WIDTH: Final = 860
LABEL: Final = 300
ROW: Final = 26
TOP: Final = 40
COLOURS: Final = {"hope": "#1a7f4b", "must": "#2f6fb0", "missed": "#b3261e", "shown": "#5f6368"}


def draw(bench: Bench, out: Path) -> dict[str, str]:
    """Write the pictures that the findings give; return their file names by title."""
    pictures: dict[str, str] = {}
    ruled = [each for each in bench.findings if each.must]
    if ruled:
        pictures["findings"] = _write(out / "findings.svg", findings(ruled))
    for scenario, drained in bench.drained.items():
        pictures[f"{scenario}: events a second"] = _write(out / f"{scenario}.svg", rates(drained))
    return pictures


def findings(ruled: Sequence[Finding]) -> str:
    """Draw each finding relative to what it must be; right of the line is good whatever its sense."""
    scale = (WIDTH - LABEL - 40) / 2.5
    rows = []
    for index, each in enumerate(ruled):
        assert each.must is not None
        low, middle, high = (_goodness(each, value) for value in (each.ends[0], each.median, each.ends[1]))
        y = TOP + index * ROW
        a, m, b = (LABEL + min(max(value, 0.0), 2.5) * scale for value in (low, middle, high))
        colour = COLOURS[each.verdict]
        rows.append(
            _text(LABEL - 8, y + 4, each.name, "end")
            + f'<line x1="{a:.1f}" y1="{y}" x2="{b:.1f}" y2="{y}" stroke="{colour}" stroke-width="3"/>'
            + f'<circle cx="{m:.1f}" cy="{y}" r="5" fill="{colour}"/>'
        )
    bottom = TOP + len(ruled) * ROW
    line = LABEL + scale
    rows.append(f'<line x1="{line}" y1="{TOP - 16}" x2="{line}" y2="{bottom}" stroke="#888" stroke-dasharray="4 3"/>')
    rows.append(_text(line, TOP - 22, "must", "middle"))
    return _svg(rows, bottom + 10)


def rates(drained: Sequence[Drained]) -> str:
    """Draw a bar for each contender's median rate and a dot for each of its rounds."""
    names = list(dict.fromkeys(each.contender for each in drained))
    values = {name: sorted(each.events_per_second for each in drained if each.contender == name) for name in names}
    scale = (WIDTH - LABEL - 110) / max(max(each) for each in values.values())
    rows = []
    for index, name in enumerate(names):
        y, middle = TOP + index * ROW, values[name][len(values[name]) // 2]
        rows.append(
            _text(LABEL - 8, y + 4, name, "end")
            + f'<rect x="{LABEL}" y="{y - 8}" width="{middle * scale:.1f}" height="16" fill="#2f6fb0" opacity="0.6"/>'
            + "".join(f'<circle cx="{LABEL + v * scale:.1f}" cy="{y}" r="3" fill="#123"/>' for v in values[name])
            + _text(LABEL + values[name][-1] * scale + 8, y + 4, f"{middle:,.0f}/s", "start")
        )
    return _svg(rows, TOP + len(names) * ROW)


def _goodness(finding: Finding, value: float) -> float:
    assert finding.must is not None
    return value / finding.must if finding.sense == "at least" else finding.must / value if value > 0 else 2.5


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(rows: Sequence[str], height: int) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="13">'
    )
    return "\n".join((head, f'<rect width="{WIDTH}" height="{height}" fill="white"/>', *rows, "</svg>"))


def _write(path: Path, content: str) -> str:
    write_whole(path, content.encode(), 0o644)
    return path.name
