from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import fastavro
import pytest

from examples.fraud.closing import AMOUNTS, Course, Row, came_true, judge
from examples.fraud.comparison import Comparison
from examples.fraud.seen import Seen
from examples.fraud.train import TEMPLATE
from interlock.codec.contract import result_schema
from interlock.codec.framing import frame
from interlock.manifest import Manifest

SCHEMA = result_schema("fraud", Manifest.parse(TEMPLATE.read_text()).signature)
NOW = datetime(2026, 11, 1, tzinfo=UTC)
NOW_MS = NOW.timestamp() * 1000


def request(name: str) -> bytes:
    """A framed request whose id comes first."""
    return frame(1001, bytes([2 * len(name)]) + name.encode() + b"rest")


def result(name: str, partition: int, offset: int, version: int, **changes: Any) -> bytes:
    """A framed result, as the router writes it."""
    record: dict[str, Any] = {
        "request_id": name,
        "offset": offset,
        "requested_at": NOW,
        "score": 0.25 + version * 1e-9,
        "topic": "fraud.requests",
        "partition": partition,
        "endpoint": "fraud",
        "model": "fraud",
        "version": version,
        "digest": f"sha256:{version}",
        "epoch": version,
        "arm": "champion",
        "request_schema_id": 1001,
        "scored_at": NOW,
        "rejection": None,
        "dead_letter": None,
    }
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(SCHEMA), record | changes)
    return frame(1002, body.getvalue())


@pytest.fixture
def comparison() -> Comparison:
    """Four requests on two partitions, all answered once and rightly but for what a test adds or leaves out."""
    found = Comparison(lambda _: SCHEMA)
    for partition in (0, 1):
        for offset in (0, 1):
            found.take_request(partition, offset, request(f"s{partition}{offset}"))
    for partition, offset in ((0, 0), (0, 1), (1, 0)):
        found.take_result(b"k%d" % partition, result(f"s{partition}{offset}", partition, offset, 1), NOW_MS + 20)
    return found


def last(comparison: Comparison, value: bytes, key: bytes = b"k1") -> dict[str, Any]:
    comparison.take_result(key, value, NOW_MS + 30)
    return comparison.report()


def test_a_faultless_run_is_called_faultless(comparison: Comparison) -> None:
    """Each request once, by the version its digits name."""
    report = last(comparison, result("s11", 1, 1, 2))
    wrong = ("lost", "duplicated", "unasked", "misattributed", "mismatched", "out_of_order", "dead_letters")
    assert {name: report[name] for name in wrong} == dict.fromkeys(wrong, 0)
    assert (report["requests"], report["results"]) == (4, 4)
    assert report["versions"] == {"1": 3, "2": 1}
    assert report["first_seen"]["2"] == NOW_MS + 30
    assert report["steady"]["p50"] == pytest.approx(20)


def test_a_lost_request_is_found(comparison: Comparison) -> None:
    """The missing answer is counted."""
    assert comparison.report()["lost"] == 1


def test_a_duplicate_is_found(comparison: Comparison) -> None:
    """A second answer to the same coordinates is one too many, and hides no loss."""
    report = last(comparison, result("s00", 0, 0, 1), b"k0")
    assert (report["duplicated"], report["lost"]) == (1, 1)


def test_a_wrong_label_is_found_by_the_digits(comparison: Comparison) -> None:
    """The record claims version 2, the score was computed by version 1."""
    report = last(comparison, result("s11", 1, 1, 2, score=0.25 + 1e-9))
    assert report["misattributed"] == 1


def test_an_answer_to_another_request_is_found(comparison: Comparison) -> None:
    """The coordinates are those of one request, the id that of another; or there was no such request."""
    assert last(comparison, result("s10", 1, 1, 1))["mismatched"] == 1
    assert last(comparison, result("s99", 1, 9, 1))["unasked"] == 1


def test_a_reversal_within_a_key_is_found(comparison: Comparison) -> None:
    """Per key, results keep the order of requests."""
    assert last(comparison, result("s11", 1, 1, 1))["out_of_order"] == 0
    assert last(comparison, result("s10", 1, 0, 1))["out_of_order"] == 1


def test_a_rejection_is_counted_and_never_taken_for_an_attribution(comparison: Comparison) -> None:
    """A rejected request has no score whose digits could be read."""
    report = last(comparison, result("s11", 1, 1, 1, score=None, rejection="TRUNCATED"))
    assert report["rejected"] == {"TRUNCATED": 1}
    assert report["misattributed"] == 0


REPORT: dict[str, Any] = {
    "requests": 210_000,
    "results": 210_000,
    **dict.fromkeys(
        ("lost", "duplicated", "unasked", "misattributed", "mismatched", "out_of_order", "dead_letters"), 0
    ),
    "rejected": {},
    "digests": {"1": ["d1"], "2": ["d2"]},
    "versions": {"1": 100_000, "2": 110_000},
    "first_seen": {"1": 0.0, "2": 51_000.0},
    "last_seen": {"1": 99_000.0, "2": 81_500.0},
    "steady": {"count": 80_000, "p50": 20.0, "p99": 90.0},
    "burst_results": 100_000,
    "burst_first_seen": 60_100.0,
    "burst_last_seen": 68_000.0,
    "moments": [
        {"type": "io.interlock.version_promoted.v1", "appended": 10_000},
        {"type": "io.interlock.version_promoted.v1", "appended": 50_000},
    ],
}
COURSE = Course(60_000.0, 80_000.0, {"1": "d1", "2": "d2"}, "refused", "average_precision 0.67 against 0.80", 1_500.0)
SEEN = Seen(
    changed_at=100.0,
    drift={
        "window_start": "1970-01-01T00:01:40+00:00",
        "features": [{"feature": name} for name in ("score", *sorted(AMOUNTS))],
    },
    recall_before=0.6,
    recall_after=0.2,
    labelled=20_000,
    case_seconds=0.1,
    case_complete=True,
    bundle_verified=True,
    log_verified=True,
    log_entries=5_000,
    log_root="sha256:" + "ab" * 32,
)


def test_the_table_holds_when_every_promise_is_kept() -> None:
    """No row is broken, and the figures are those of the report."""
    rows = judge(REPORT, COURSE, SEEN)
    assert all(row.holds is not False for row in rows)
    shown = {row.what: row.value for row in rows}
    assert shown["burst, events/s"] == "12,500"
    assert shown["first result by v2 after VersionPromoted"] == "1.00 s"
    assert shown["last result by v2 after the rollback command"] == "1.50 s"


@pytest.mark.parametrize(
    "change",
    [
        {"requests": 199_999, "results": 199_999},
        {"results": 209_999},
        {"lost": 1},
        {"duplicated": 1},
        {"unasked": 1},
        {"misattributed": 1},
        {"mismatched": 1},
        {"out_of_order": 1},
        {"dead_letters": 1},
        {"rejected": {"TRUNCATED": 1}},
        {"digests": {"1": ["d1"], "2": ["d2", "d3"]}},
        {"burst_last_seen": 71_000.0},
        {"steady": {"count": 0}},
        {"steady": {"count": 9, "p50": 1.0, "p99": 251.0}},
        {"first_seen": {"2": 52_001.0}},
        {"first_seen": {}},
        {"last_seen": {"2": 82_001.0}},
        {"moments": []},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_table_breaks_when_one_promise_is_broken(change: dict[str, Any]) -> None:
    """Each promise is judged: breaking it alone breaks the table."""
    assert any(row.holds is False for row in judge(REPORT | change, COURSE, SEEN))


@pytest.mark.parametrize(
    "change",
    [
        {"early_alarms": 1},
        {"drift": {}},
        {"drift": {**SEEN.drift, "features": [{"feature": "amount"}]}},
        {"drift": {**SEEN.drift, "features": [*SEEN.drift["features"], {"feature": "night"}]}},
        {"drift": {**SEEN.drift, "window_start": "1970-01-01T00:01:51+00:00"}},
        {"recall_after": 0.5},
        {"recall_after": None},
        {"case_seconds": 1.1},
        {"case_complete": False},
        {"bundle_verified": False},
        {"log_verified": False},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_watchers_promises_break_the_table_too(change: dict[str, Any]) -> None:
    """An alarm too many, a feature too many or too few, a bundle refused: each alone breaks the table."""
    assert any(row.holds is False for row in judge(REPORT, COURSE, replace(SEEN, **change)))


def test_a_third_version_that_passes_breaks_the_table() -> None:
    """The gate must refuse it."""
    assert any(row.holds is False for row in judge(REPORT, replace(COURSE, refused_state="proven"), SEEN))


def test_a_missed_figure_is_told_and_a_broken_promise_breaks_the_story() -> None:
    """Speed depends on the machine and does not decide; one lost request does."""
    slow = Row("p99", "300 ms", "at most 250 ms", holds=False, figure=True)
    lost = Row("lost", "1", "0", holds=False)
    assert came_true([slow])
    assert not came_true([slow, lost])
