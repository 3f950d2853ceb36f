"""Batches and labels of an endpoint, and what a batch computation that reads them all at once says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from interlock.clock import milliseconds
from interlock.codec.observations import Answered, Seen, observe
from interlock.codec.ragged import Ragged
from interlock.schemas.events import LabelRecorded, Observation
from interlock_monitor.quality import Arrived, QualityRules

BEGAN = datetime(2025, 3, 1, 12, 0, tzinfo=UTC)
BEGAN_MS = milliseconds(BEGAN)
WINDOW = 5_000
RULES = QualityRules(threshold=0.5, false_alarm_cost=2.5, every_seconds=1.0, windows_max=7, keep_days=30)


@dataclass
class World:
    """Batches as lanes observed them, labels as they were recorded, and the same as a table."""

    endpoint: str
    observations: list[Observation]
    labels: list[Arrived]
    rows: pd.DataFrame

    def label(self, record: int, request_id: str, requested_at: int, truth: float, at: int, **more: Any) -> Arrived:
        """A label in the endpoint's topic; it is received when it was learnt."""
        weight = more.get("weight")
        recorded = LabelRecorded(
            endpoint=self.endpoint, request_id=request_id, requested_at=moment(requested_at), label=truth,
            weight=weight, source="analyst", at=moment(at),
        )  # fmt: skip
        received = more.get("received", at)
        return Arrived(recorded, f"{self.endpoint}.labels", 0, record, received)


def moment(at: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at)


def world(rows: int, batches: int, seed: int = 3, label_share: float = 0.8) -> World:
    """Four lanes, two arms, four versions, a clock two hours ahead, late requests; and labels of every kind."""
    random, endpoint = np.random.default_rng(seed), f"e{uuid4().hex[:10]}"
    per_batch, told, table = rows // batches, [], []
    for batch in range(batches):
        partition, start = batch % 4, BEGAN_MS + batch * 200
        scored_at, version = start + 150, 1 + batch * 3 // batches
        requested = start + np.sort(random.integers(0, 120, per_batch))
        strange = random.random(per_batch)
        requested = np.where(strange < 0.01, requested + 7_200_000, requested)
        requested = np.where(strange > 0.99, requested - random.integers(0, 30_000, per_batch), requested)
        ids = [f"q{batch:05d}-{row}" for row in range(per_batch)]
        truth = (random.random(per_batch) < 0.1).astype(float)
        scores = np.clip(truth * 0.3 + random.random(per_batch) * 0.7, 0, 1).round(2)
        canary = random.random(per_batch) < 0.2
        from_offset = batch // 4 * per_batch
        groups = [
            Answered(arm, "fraud", number, f"sha256:{number}", from_offset + rows_of, requested[rows_of],
                     Ragged.of([ids[row].encode() for row in rows_of]), ("score",), scores[rows_of][:, None], (),
                     np.empty((len(rows_of), 0)))
            for arm, number, mask in (("champion", version, ~canary), ("canary", version + 1, canary))
            if len(rows_of := np.flatnonzero(mask))
        ]  # fmt: skip
        told.append(
            observe(
                Seen(endpoint, f"{endpoint}.requests", partition, from_offset, from_offset + per_batch, 1,
                     moment(start), moment(scored_at), tuple(groups), ()), 10**9)
        )  # fmt: skip
        table.append(
            pd.DataFrame({
                "id": ids, "requested": requested, "scored_at": scored_at, "score": scores, "truth": truth,
                "arm": np.where(canary, "canary", "champion"), "version": np.where(canary, version + 1, version),
            })
        )  # fmt: skip
    made = World(endpoint, told, [], pd.concat(table, ignore_index=True))
    made.labels = labels_of(made, random, label_share)
    return made


def labels_of(made: World, random: np.random.Generator, share: float) -> list[Arrived]:
    """Labels for a share of the rows: most right at once, some twice, some corrected, some of nobody's requests."""
    found: list[Arrived] = []

    def add(request_id: str, requested: int, truth: float, at: int, weight: float | None) -> None:
        found.append(made.label(len(found), request_id, requested, truth, at, weight=weight))

    for row in made.rows.itertuples():
        chance = random.random()
        if chance > share:
            continue
        at = int(row.scored_at) + int(random.integers(1_000, 600_000))
        weight = None if chance < share / 3 else round(float(random.uniform(1, 500)), 2)
        add(row.id, row.requested, row.truth, at, weight)
        if chance < share * 0.1:
            add(row.id, row.requested, row.truth, at, weight)
        elif chance < share * 0.2:
            add(row.id, row.requested, 1 - row.truth, at + 5_000, weight)
        elif chance < share * 0.25:
            add(row.id, row.requested, 1 - row.truth, at - 500, weight)
        elif chance < share * 0.3:
            add(f"nobody-{row.id}", row.requested, 1.0, at, weight)
        elif chance < share * 0.35:
            add(row.id, row.requested + 1, 1 - row.truth, at, weight)
    return found


def recomputed(made: World, labels: Sequence[Arrived]) -> dict[tuple[int, str, int], dict[str, Any]]:
    """What a batch says that reads everything at once: pandas joins, scikit-learn measures."""
    truths = pd.DataFrame(
        [(each.label.request_id, milliseconds(each.label.requested_at), milliseconds(each.label.at), each.offset,
          each.label.label, each.label.weight) for each in labels],
        columns=["id", "requested", "at", "record", "label", "weight"],
    ).sort_values(["at", "record"]).groupby(["id", "requested"]).last().reset_index()  # fmt: skip
    rows = made.rows.merge(truths, on=["id", "requested"], how="left")
    rows["event"] = np.where(rows.requested > rows.scored_at + 2000, rows.scored_at, rows.requested)
    rows["window"] = rows.event // WINDOW * WINDOW
    found = {}
    for (window, arm, version), part in rows.groupby(["window", "arm", "version"]):
        known = part[part.label.notna()]
        if known.empty:
            continue
        truth, said = known.label, known.score >= RULES.threshold
        both = truth.nunique() == 2
        missed, alarms = (truth == 1) & ~said, (truth == 0) & said
        found[int(window), str(arm), int(version)] = {
            "rows": len(part),
            "labelled": len(known),
            "positives": int(truth.sum()),
            "precision": metrics.precision_score(truth, said) if said.any() else None,
            "recall": metrics.recall_score(truth, said) if truth.any() else None,
            "roc_auc": metrics.roc_auc_score(truth, known.score) if both else None,
            "average_precision": metrics.average_precision_score(truth, known.score) if both else None,
            "cost": known.weight.fillna(1.0)[missed].sum() + RULES.false_alarm_cost * alarms.sum(),
            "label_lag_seconds_p50": ((known["at"] - known.event) / 1000).median(),
        }
    return found


def shows(view: dict[str, Any], wanted: dict[tuple[int, str, int], dict[str, Any]]) -> None:
    """Fail unless the monitor's view has exactly the windows that are wanted, with their figures."""
    shown = {
        (milliseconds(datetime.fromisoformat(window["window_start"])), version["arm"], version["version"]): window
        for version in view["versions"]
        for window in version["windows"]
    }
    assert shown.keys() == wanted.keys()
    for key, window in shown.items():
        close(window, wanted[key], key)


def close(found: dict[str, Any], wanted: dict[str, Any], where: object) -> None:
    """Fail unless the figures are the wanted ones, to 1e-9."""
    for name, value in wanted.items():
        if value is None or isinstance(value, int):
            assert found[name] == value, (where, name)
        else:
            assert found[name] == pytest.approx(value, rel=1e-9, abs=1e-9), (where, name)
