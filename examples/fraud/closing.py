"""The closing table: what the independent check counted, beside what was promised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from examples.fraud.features import NAMES
from examples.fraud.seen import Seen

AMOUNTS: Final = frozenset(name for name in NAMES if "amount" in name)
RESIDENT_MEBIBYTES_MAX: Final = 3277  # 3.2 GiB
REQUESTS_MIN: Final = 200_000
BURST_PER_SECOND_MIN: Final = 10_000.0
STEADY_PER_SECOND: Final = 2_000
P99_MILLISECONDS_MAX: Final = 250.0
SWITCH_SECONDS_MAX: Final = 2.0
WINDOWS_LATE_MAX: Final = 2
CASE_SECONDS_MAX: Final = 1.0
RECALL_FALL: Final = 0.6


@dataclass(frozen=True)
class Row:
    """One line of the table; `holds` is None where nothing was promised.

    A `figure` says how fast this machine was, with whatever else ran on it: missed, it is told as such, and the
    story is still true. Everything else is the story.
    """

    what: str
    value: str
    promise: str
    holds: bool | None
    figure: bool = False


@dataclass(frozen=True)
class Course:
    """What the demo itself knows of its course: moments in milliseconds of the wall clock, and verdicts."""

    burst_began_milliseconds: float
    rollback_commanded_milliseconds: float
    digests: Mapping[str, str]
    refused_state: str
    refused_figure: str
    resident_mebibytes: float = 0.0


def judge(report: Mapping[str, Any], course: Course, seen: Seen) -> list[Row]:
    """Return the table's rows; the story came true if no row of it `holds` False."""
    requests = report["requests"]
    rows = [
        Row("requests", f"{requests:,}", f"at least {REQUESTS_MIN:,}", requests >= REQUESTS_MIN),
        Row("results", f"{report['results']:,}", "one for each", report["results"] == requests),
        *_zeros(report),
        _digests(report, course),
        Row(
            "v3",
            f"{course.refused_state}: {course.refused_figure}",
            "refused by a gate",
            course.refused_state == "refused",
        ),
    ]
    return [*rows, *_speeds(report, course), *_switches(report, course), *_watched(seen), _memory(course)]


def came_true(rows: Sequence[Row]) -> bool:
    """Whether every promise of the story was kept; figures of speed are told, not judged."""
    return all(row.holds is not False or row.figure for row in rows)


def _zeros(report: Mapping[str, Any]) -> list[Row]:
    counted = {
        "lost": report["lost"],
        "duplicated": report["duplicated"],
        "wrongly attributed (low digits of the score)": report["misattributed"],
        "answers to another request": report["mismatched"] + report["unasked"],
        "out of order within a card": report["out_of_order"],
        "dead letters": report["dead_letters"] + sum(report["rejected"].values()),
    }
    return [Row(what, f"{count:,}", "0", count == 0) for what, count in counted.items()]


def _digests(report: Mapping[str, Any], course: Course) -> Row:
    """Every result's digest must be the one that the registry keeps for the version it names."""
    strange = [
        digest
        for version, digests in report["digests"].items()
        for digest in digests
        if course.digests.get(version) != digest
    ]
    answered = ", ".join(f"v{version} {count:,}" for version, count in report["versions"].items())
    return Row("answered by", answered, "digests as registered", not strange)


def _speeds(report: Mapping[str, Any], course: Course) -> list[Row]:
    seconds = (report["burst_last_seen"] - course.burst_began_milliseconds) / 1000
    rate = report["burst_results"] / seconds if report["burst_results"] else 0.0
    steady = report["steady"]
    p50, p99 = steady.get("p50", float("inf")), steady.get("p99", float("inf"))
    return [
        Row(
            "burst, events/s",
            f"{rate:,.0f}",
            f"at least {BURST_PER_SECOND_MIN:,.0f}",
            rate >= BURST_PER_SECOND_MIN,
            figure=True,
        ),
        Row(f"p50 at {STEADY_PER_SECOND:,} events/s", f"{p50:,.0f} ms", "", None),
        Row(
            f"p99 at {STEADY_PER_SECOND:,} events/s",
            f"{p99:,.0f} ms",
            f"at most {P99_MILLISECONDS_MAX:,.0f} ms",
            p99 <= P99_MILLISECONDS_MAX,
            figure=True,
        ),
    ]


def _watched(seen: Seen) -> list[Row]:
    """What the monitor and the auditor came to know, beside what is true of the simulated world."""
    blamed = set(seen.blamed)
    before, after = seen.recall_before or 0.0, seen.recall_after or 0.0
    return [
        Row("alarms before the world changed", str(seen.early_alarms), "0", seen.early_alarms == 0),
        Row(
            "drift blamed on",
            ", ".join(seen.blamed) or "-",
            "what follows from amounts, no more",
            AMOUNTS <= blamed <= AMOUNTS | {"score"},
        ),
        Row(
            "drift reported for",
            f"window {seen.windows_late:+.1f} from the change",
            f"at most {WINDOWS_LATE_MAX}",
            seen.windows_late <= WINDOWS_LATE_MAX,
        ),
        Row(
            "recall of v2, by the labels",
            f"{before:.1%}, then {after:.1%}",
            "falls by 40 % or more",
            0 < after < RECALL_FALL * before,
        ),
        Row(
            "one case",
            f"explained in {seen.case_seconds:.2f} s; bundle {'verified' if seen.bundle_verified else 'refused'}",
            f"at most {CASE_SECONDS_MAX:g} s; verified offline",
            seen.case_complete and seen.bundle_verified and seen.case_seconds <= CASE_SECONDS_MAX,
        ),
        Row(
            "audit log",
            f"{seen.log_entries:,} entries, root {seen.log_root.removeprefix('sha256:')[:16]}…",
            "verified, row by row",
            seen.log_verified,
        ),
    ]


def _memory(course: Course) -> Row:
    return Row(
        "resident in all (PSS)",
        f"{course.resident_mebibytes:,.0f} MiB",
        f"at most {RESIDENT_MEBIBYTES_MAX:,} MiB",
        0 < course.resident_mebibytes <= RESIDENT_MEBIBYTES_MAX,
        figure=True,
    )


def _switches(report: Mapping[str, Any], course: Course) -> list[Row]:
    promoted = [moment["appended"] for moment in report["moments"] if moment["type"].endswith("version_promoted.v1")]
    first = (report["first_seen"].get("2", float("inf")) - promoted[1]) / 1000 if len(promoted) > 1 else float("inf")
    last = (report["last_seen"].get("2", float("inf")) - course.rollback_commanded_milliseconds) / 1000
    promise = f"at most {SWITCH_SECONDS_MAX:g} s"
    return [
        Row("first result by v2 after VersionPromoted", f"{first:.2f} s", promise, first <= SWITCH_SECONDS_MAX),
        Row("last result by v2 after the rollback command", f"{last:.2f} s", promise, last <= SWITCH_SECONDS_MAX),
    ]
