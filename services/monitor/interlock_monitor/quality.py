"""How right versions were: scores are kept, labels taken in as they come, and windows measured again and again.

Scores and labels come in any order, and each leaves a mark in the transaction that brings it; whoever measures takes
the marks away, joins what is there, and records what is new. Nothing is decided by the order or by a clock, so that
the figures are those of a batch that reads both topics from their beginnings.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec

from interlock.clock import instant_of, milliseconds
from interlock.postgres.journal import Unit
from interlock.postgres.pool import Connection, Pool, borrowed
from interlock.schemas.events import QualityMeasured
from interlock_monitor import store_quality as store
from interlock_monitor.quality_figures import Figures, Labelled, figures
from interlock_monitor.quality_labels import (
    DAY_MILLISECONDS,
    Arrived,
    Refused,
    Said,
    endpoint_of,
    fold,
    read,
)
from interlock_monitor.quality_scores import Block, join
from interlock_monitor.settings import Settings

__all__ = ["Arrived", "QualityRules", "Refused", "Taken", "keep_scores", "measure_due", "prune", "take_labels", "view"]

TOTAL_ROWS_MAX: Final = 2_000_000
"""How many labelled rows the figures over several windows are made of at most: 64 MiB."""


@dataclass(frozen=True)
class QualityRules:
    """What counts as right, and how often it is asked."""

    threshold: float = 0.5
    false_alarm_cost: float = 1.0
    every_seconds: float = 10.0
    windows_max: int = 20
    keep_days: float = 30.0

    @classmethod
    def of(cls, settings: Settings) -> QualityRules:
        """Return the rules that the settings give."""
        return cls(
            threshold=settings.quality_threshold,
            false_alarm_cost=settings.quality_false_alarm_cost,
            every_seconds=settings.quality_every_seconds,
            windows_max=settings.quality_windows_max,
            keep_days=settings.scores_keep_days,
        )


@dataclass
class Taken:
    """What became of some labels."""

    recorded: int = 0
    corrected: int = 0
    repeated: int = 0
    refused: list[tuple[Arrived, Refused]] = field(default_factory=list)


async def keep_scores(connection: Connection, scored: Sequence[Block]) -> None:
    """Keep what the observed batches answered, in the transaction that counts them. The same again changes nothing."""
    await store.keep_blocks(connection, scored)


async def take_labels(unit: Unit, labels: Sequence[Arrived], rules: QualityRules) -> Taken:
    """Keep labels, in the order in which they were recorded; a bad one is refused, counted and returned.

    The endpoints' labels are locked until the unit ends: whoever also appends events does so afterwards.
    """
    taken, kept = Taken(), list[Said]()
    for arrived in labels:
        said = read(arrived, rules.keep_days)
        if isinstance(said, Refused):
            taken.refused.append((arrived, said))
        else:
            kept.append(said)
    connection = unit.connection
    await store.lock_labels(connection, {endpoint_of(arrived.topic) for arrived in labels})
    if kept:
        change = fold(await store.known(connection, {said.key for said in kept}), kept)
        await store.keep_labels(connection, change)
        for (_, what), number in change.counts.items():
            if what != "ahead":
                setattr(taken, what, getattr(taken, what) + number)
    refused = Counter((endpoint_of(arrived.topic), f"refused:{reason}") for arrived, reason in taken.refused)
    await store.count(connection, refused)
    return taken


async def measure_due(unit: Unit, rules: QualityRules) -> int:
    """Measure the windows in which something changed, at most `windows_max` of them, and return how many.

    A version is measured in a window from its first label on, at most once each `every_seconds`, and the measurement
    is appended where it says something new. Where another process is measuring, this one does nothing.
    """
    connection, now = unit.connection, milliseconds(unit.clock.now())
    if not await store.alone(connection):
        return 0
    await store.take_marks(connection, now, round(rules.every_seconds * 1000))
    due = await store.take_due(connection, now, rules.windows_max)
    await store.lock_labels(connection, {window.endpoint for window in due})
    said: list[QualityMeasured] = []
    for window in due:
        said += await _measure(connection, window, rules, now)
    for event in said:  # last, because it locks the endpoint's events for everybody
        await unit.append(f"quality/{event.endpoint}", event)
    return len(due)


async def _measure(
    connection: Connection, window: store.Window, rules: QualityRules, now: int
) -> list[QualityMeasured]:
    """Join and measure one window, keep the figures, and return what is new."""
    parts = await store.blocks_of(connection, window)
    panes = {block.pane for each in parts.values() for block in each}
    waiting = await store.labels_of(connection, window.endpoint, panes)
    before = await store.measured(connection, window)
    # In a thread, so that a large window does not hold up everything else that the process has to do.
    results = await asyncio.to_thread(_figures, parts, waiting, rules)
    said, joined = [], set()
    for who, (found, labelled, labels) in results.items():
        joined |= labels
        revision, earlier = before.get(who, (0, None))
        if not found.labelled and earlier is None:
            continue
        if found != earlier:
            revision += 1
            said.append(_event(window, who, revision, found, now))
        await store.keep_figures(connection, window, who, revision, found, labelled, now)
    await store.keep_joined(connection, window.endpoint, joined - waiting.joined)
    return said


def _figures(
    parts: Mapping[store.Version, Sequence[Block]], waiting: store.Waiting, rules: QualityRules
) -> dict[store.Version, tuple[Figures, Labelled, set[tuple[int, bytes]]]]:
    results = {}
    for who, each in parts.items():
        rows, labelled, labels = join(each, waiting.labels)
        results[who] = (figures(rows, labelled, rules.threshold, rules.false_alarm_cost), labelled, labels)
    return results


def _event(window: store.Window, who: store.Version, revision: int, found: Figures, now: int) -> QualityMeasured:
    return QualityMeasured(
        endpoint=window.endpoint,
        window_start=instant_of(window.window_start),
        window_end=instant_of(window.window_start + window.window_milliseconds),
        revision=revision,
        at=instant_of(now),
        **who._asdict(),
        **msgspec.structs.asdict(found),
    )


async def prune(unit: Unit, rules: QualityRules) -> int:
    """Drop scores and labels that are older than `keep_days`; return how many labels went.

    The figures stay. A label that still waits is given as long again: the monitor may be behind with the scores.
    """
    now, keep = milliseconds(unit.clock.now()), round(rules.keep_days * DAY_MILLISECONDS)
    return await store.prune(unit.connection, now - keep, now - 2 * keep)


async def view(
    pool: Pool,
    endpoint: str,
    *,
    rules: QualityRules,
    version: int | None = None,
    arm: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    windows_max: int = 200,
) -> dict[str, Any]:
    """Return, as JSON-able builtins, the newest measurements of an endpoint, window by window and over all of them.

    The figures of a version over its windows are computed from their rows, not from their figures; where these are
    more than TOTAL_ROWS_MAX, or their rows were dropped, the newest windows count: `total_windows` says how many.
    """
    async with borrowed(pool) as connection:
        rows, waiting, counts = await store.view(
            connection,
            endpoint,
            version,
            arm,
            None if since is None else milliseconds(since),
            None if until is None else milliseconds(until),
            windows_max,
        )
    versions: dict[store.Version, list[Mapping[str, Any]]] = {}
    for row in rows:
        versions.setdefault(store.Version(row["arm"], row["model"], row["version"], row["digest"]), []).append(row)
    return {
        "endpoint": endpoint,
        "versions": await asyncio.to_thread(
            lambda: [_version(endpoint, who, windows, rules) for who, windows in versions.items()]
        ),
        "waiting_labels": waiting,
        "labels": {
            **{what: counts.get(what, 0) for what in ("recorded", "corrected", "repeated", "ahead", "expired")},
            "refused": {reason: counts.get(f"refused:{reason}", 0) for reason in Refused},
        },
    }


def _version(
    endpoint: str, who: store.Version, windows: Sequence[Mapping[str, Any]], rules: QualityRules
) -> dict[str, Any]:
    """Return one version's part of the view."""
    told, scored = [], 0
    parts: list[Labelled] = []
    for row in reversed(windows):
        found = msgspec.json.decode(row["figures"], type=Figures)
        window = store.Window(endpoint, row["window_milliseconds"], row["window_start"])
        told.append(msgspec.to_builtins(_event(window, who, row["revision"], found, row["measured_at"])))
        rest = TOTAL_ROWS_MAX - sum(len(part) for part in parts)
        if row["labelled"] is not None and found.labelled <= rest and len(parts) == len(told) - 1:
            parts.append(Labelled.from_bytes(row["labelled"]))
            scored += found.rows
    total = figures(scored, Labelled.together(parts), rules.threshold, rules.false_alarm_cost)
    return {
        **who._asdict(),
        **msgspec.structs.asdict(total),
        "total_windows": len(parts),
        "windows": told[::-1],
    }
