"""The report of a run, as JSON for programs and as Markdown with pictures for people."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from interlock.embedded.home import write_whole
from tests.bench import plots, work
from tests.bench.bench import Bench
from tests.bench.findings import Finding
from tests.bench.rounds import Drained

JSON: Final = "report.json"
MARKDOWN: Final = "report.md"
METHOD: Final = """\
Ratios are taken round by round, contenders in turns on the same requests. The interval is a bootstrap over rounds
(95 %), and its bad end counts. `foreign` are processors that worked for nobody measured: where these are many, rates
say little, and processor time for an event says more.
"""
PACKAGES: Final = ("aiokafka", "confluent-kafka", "numpy", "onnxruntime", "ray", "uvloop")


def write(bench: Bench) -> None:
    """Write both."""
    out = bench.options.out
    content = {
        "machine": machine(),
        "options": {"rounds": bench.options.rounds, "requests": bench.options.requests, "quick": bench.options.quick},
        "work": work.digests(),
        "findings": [finding.summary() for finding in bench.findings],
        "rounds": {name: [each.summary() for each in drained] for name, drained in bench.drained.items()},
        "figures": bench.figures,
        "notes": bench.notes,
    }
    write_whole(out / JSON, json.dumps(content, indent=1).encode(), 0o644)
    pictures = plots.draw(bench, out)
    write_whole(out / MARKDOWN, _markdown(bench, pictures).encode(), 0o644)


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.machine(),
        "processors": os.cpu_count(),
        "system": platform.platform(),
        "python": sys.version.split()[0],
        "packages": {name: version(name) for name in PACKAGES},
        "load": [round(each, 2) for each in os.getloadavg()],
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _markdown(bench: Bench, pictures: dict[str, str]) -> str:
    described = machine()
    on = f"{described['processors']} of {described['processor']}, Python {described['python']}"
    quick = " A quick look (`--quick`), not a measurement." if bench.options.quick else ""
    parts = [
        "# Interlock: the bench\n",
        f"{on}, load {described['load'][0]} at the end; {described['at']}.{quick}\n",
        METHOD,
        _table(bench.findings),
    ]
    parts += [f"- {name}: {note}" for name, note in bench.notes.items()]
    for scenario, drained in bench.drained.items():
        parts += [f"\n## {scenario}\n", _rounds(drained)]
    parts += [f"\n![{name}]({file})" for name, file in pictures.items()]
    if bench.figures:
        parts += ["\n## Other figures\n", f"```json\n{json.dumps(bench.figures, indent=1)}\n```"]
    return "\n".join(parts) + "\n"


def _table(findings: list[Finding]) -> str:
    lines = ["| what | found | 95 % | rounds | must | hope | verdict |", "|---|---|---|---|---|---|---|"]
    for each in findings:
        low, high = each.ends
        sign = "≥" if each.sense == "at least" else "≤"
        must, hope = (f"{sign} {bound:g}" if bound is not None else "" for bound in (each.must, each.hope))
        spread = f"{low:.3g} to {high:.3g}"
        what = f"{each.what} ({each.note})" if each.note else each.what
        lines.append(
            f"| {what} | {each.median:.3g} {each.unit.strip()} | {spread} | {len(each.values)} | {must} | {hope} | "
            f"{each.verdict} |"
        )
    return "\n".join(lines) + "\n"


def _rounds(drained: list[Drained]) -> str:
    lines = [
        "| round | who | events/s | µs own | µs Ray | µs Kafka | PSS MiB | foreign cores | lost | double | wrong |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {each.round} | {each.contender} | {each.events_per_second:,.0f} | {each.cpu_microseconds:.2f} "
        f"| {each.ray_cpu_microseconds:.2f} | {each.kafka_cpu_microseconds:.2f} | {each.pss_mebibytes:.0f} "
        f"| {each.foreign_cores:.2f} | {each.lost} | {each.duplicated} | {each.wrong_scores} |"
        for each in drained
    ]
    return "\n".join(lines) + "\n"
