"""The bench's own arithmetic: intervals and verdicts, what is lost or doubled, when requests are due, who is fed."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest

from tests.bench import pace, report, work
from tests.bench.bench import Bench, Options, ratios
from tests.bench.competition import Feeder
from tests.bench.findings import Finding, interval
from tests.bench.latency import _figures
from tests.bench.rounds import Drained, _compared


def test_the_bad_end_of_the_interval_counts() -> None:
    """Five rounds around the bound: the median reaches it, the bad end does not."""
    values = (0.90, 0.96, 0.97, 0.98, 1.0)
    median, low, high = interval(values)
    assert median == 0.97
    assert 0.90 <= low < 0.96 < median < high <= 1.0
    assert Finding("a", "b", values, "at least", must=0.95, hope=1.2).verdict == "missed"
    assert Finding("a", "b", values, "at most", must=1.0, hope=0.5).verdict == "must"
    assert Finding("a", "b", (2.0,) * 3, "at least", must=0.95, hope=1.2).verdict == "hope"


def test_a_quantile_other_than_the_median_has_its_interval_too() -> None:
    """The 95th percentile of twenty values, one of them an outlier, is near the outlier at its bad end."""
    finding = Finding("a", "b", (*(0.1,) * 19, 2.0), "at most", must=1.0, quantile=0.95)
    assert finding.median < 0.3
    assert finding.verdict == "missed"


def test_what_is_lost_and_what_is_doubled_is_told_apart() -> None:
    """Of five requests one has no answer, one has two, and one answer belongs to none."""
    lost, doubled = _compared(np.array([0, 1, 1, 3, 4, 99]), 5)
    assert (lost, doubled) == (1, 2)


def test_requests_are_due_at_the_rate_whatever_becomes_of_them() -> None:
    """Poisson arrivals have the rate on the average, spaced ones keep their distance, and a seed repeats them."""
    times = pace.due_times(1000.0, 20.0, 7, spaced=False)
    assert times.size == 20_000
    assert times[-1] == pytest.approx(20.0, rel=0.05)
    assert np.diff(times).std() == pytest.approx(0.001, rel=0.05)
    assert np.array_equal(times, pace.due_times(1000.0, 20.0, 7, spaced=False))
    alone = np.diff(pace.due_times(2.0, 50.0, 7, spaced=True))
    assert alone.min() >= 0.35
    assert alone.max() <= 0.65


def test_latency_runs_from_when_a_request_was_due() -> None:
    """A sender that was late does not make it shorter, a duplicate is counted, and an answer that never came is not."""
    due = np.arange(100) * 0.1
    handed = due + 0.05
    numbers = np.array([*range(99), 98])
    found = _figures(np.stack([due, handed]), np.stack([due[numbers] + 0.07, numbers.astype(float)]))
    assert found["p50"] == pytest.approx(70.0)
    assert found["longest"] == np.inf
    assert (found["requests"], found["answered"], found["duplicated"]) == (100, 99, 1)
    assert found["sender_p99"] == pytest.approx(50.0)


class Sent:
    """A Kafka whose producer only counts."""

    def __init__(self) -> None:
        self.count = 0

    def producer(self) -> Sent:
        """Return itself."""
        return self

    def produce(self, *_: Any, **__: Any) -> None:
        """Count."""
        self.count += 1

    def flush(self, _: float) -> int:
        """Say that nothing is left."""
        return 0


def test_a_peer_that_loses_what_comes_too_fast_is_fed_as_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never more than the bound is unanswered; what stays away for long is given up, and the next is sent."""
    now = [100.0]
    monkeypatch.setattr("tests.bench.competition.time.monotonic", lambda: now[0])
    kafka: Any = Sent()
    feeder = Feeder(25, 10)
    sent = feeder(kafka, "t", 0, 0)
    assert sent == 10
    assert feeder(kafka, "t", sent, 2) == 10
    sent = feeder(kafka, "t", sent, 6)
    assert sent == 16
    now[0] += 6
    assert feeder(kafka, "t", sent, 6) == 25
    assert kafka.count == 25


def test_a_request_reads_back_by_a_stranger() -> None:
    """The bytes are what fastavro reads, and the name of a request stands in them."""
    value = work.request(8_200)
    found: Any = fastavro.schemaless_reader(io.BytesIO(value[5:]), fastavro.parse_schema(work.SCHEMA), None)
    assert found["request_id"] == "r000008200"
    assert [found[f"f{index}"] for index in range(work.FEATURES)] == work.rows()[8].tolist()
    assert value[pace._NAME_AT : pace._NAME_AT + 9] == b"000008200"


def test_the_report_says_what_was_found_and_its_pictures_are_sound(tmp_path: Path) -> None:
    """A miss and a hit stand in the table with their bounds; JSON holds every round; names are escaped in pictures."""
    bench = Bench(Options(tmp_path, 2, 10, quick=False), {}, "")
    bench.findings = [
        Finding("rate", "rate against the bare loop", (0.9, 0.91), must=0.95, hope=1.2),
        Finding("lone", "a lone event", (12.0, 13.0), "at most", 25.0, 15.0, unit=" ms"),
    ]
    bench.drained["rate"] = [
        Drained(
            contender=name, round=number, events_per_second=1e5, cpu_microseconds=3.0, kafka_cpu_microseconds=4.0,
            ray_cpu_microseconds=0.0, foreign_cores=0.1, bench_cores=0.1, stolen_cores=0.0, pss_mebibytes=50.0,
            seconds=1.0,
            requests=10, results=10, lost=0, duplicated=0, wrong_scores=0, load=1.0,
        )
        for number in range(2)
        for name in ("lanes", "bare <b>")
    ]  # fmt: skip
    report.write(bench)
    text = (tmp_path / report.MARKDOWN).read_text()
    assert "| rate against the bare loop | 0.905 times | 0.9 to 0.91 | 2 | \u2265 0.95 | \u2265 1.2 | missed |" in text
    assert "| a lone event | 12.5 ms | 12 to 13 | 2 | \u2264 25 | \u2264 15 | hope |" in text
    kept = json.loads((tmp_path / report.JSON).read_text())
    assert [len(kept["findings"]), len(kept["rounds"]["rate"])] == [2, 4]
    for picture in ("findings.svg", "rate.svg"):
        drawn = (tmp_path / picture).read_text()
        assert drawn.startswith("<svg ")
        assert drawn.endswith("</svg>")
    assert "bare &lt;b&gt;" in drawn
    assert ratios(bench.drained["rate"], "lanes", "bare <b>", lambda each: each.events_per_second) == (1.0, 1.0)
