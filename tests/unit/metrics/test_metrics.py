from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from interlock import metrics, telemetry

ROOT = Path(__file__).parents[3]
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
LABELS = {  # the only labels there are, with how many values each may be expected to have
    "application": 100, "arm": 4, "cause": 20, "consumer": 10, "endpoint": 100, "kind": 10, "lease": 5,
    "loop": 30, "method": 6,
    "model": 1,  # an endpoint has one
    "revision": 2,
    "outcome": 6, "partition": 64, "reason": 20, "route": 100, "service": 10, "stage": 10, "state": 10, "status": 30,
    "topic": 100, "verdict": 5, "version": 50,
}  # fmt: skip
SERIES_MAX = 200_000
UNITS = ("_seconds", "_bytes", "_ratio", "_rows", "_epoch")
OTHER_UNITS = re.compile(r"_(milliseconds|microseconds|ms|minutes|hours|percent|kb|mib|kib)(_|$)")
NAMES = re.compile(r"\b(interlock_[a-z0-9_]+)\b")


def ours() -> list[MetricWrapperBase]:
    """Every metric that interlock.metrics declares."""
    return [each for each in vars(metrics).values() if isinstance(each, MetricWrapperBase)]


def exposed() -> set[str]:
    """Every name that a query may use."""
    found = set()
    for metric in ours():
        name = metric._name
        if isinstance(metric, Counter):
            found.add(f"{name}_total")
        elif isinstance(metric, Histogram):
            found |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"}
        else:
            found.add(name)
    return found


def problems(metric: MetricWrapperBase) -> list[str]:
    """What is wrong with a metric's name, labels or words."""
    name, found = metric._name, []
    if not re.fullmatch(r"interlock(_[a-z][a-z0-9]*)+", name):
        found.append(f"{name}: not interlock_noun_unit")
    if OTHER_UNITS.search(name):
        found.append(f"{name}: not a base unit")
    if isinstance(metric, Histogram) and not name.endswith(UNITS):
        found.append(f"{name}: a histogram of no unit")
    if isinstance(metric, Gauge) and name.endswith("_total"):
        found.append(f"{name}: only counters are totals")
    found += [f"{name}: the label {label} has no budget" for label in metric._labelnames if label not in LABELS]
    series = 1
    for label in metric._labelnames:
        series *= LABELS.get(label, 1)
    if isinstance(metric, Histogram):
        series *= len(metric._upper_bounds) + 2
    if series > SERIES_MAX:
        found.append(f"{name}: up to {series} series")
    if not metric._documentation.endswith("."):
        found.append(f"{name}: not a sentence")
    return found


def test_names_units_and_labels_keep_to_the_conventions() -> None:
    """Base units, `_total` by counters alone, no ids among the labels, and a bounded number of series."""
    assert [problem for metric in ours() for problem in problems(metric)] == []


def test_planted_mistakes_are_found() -> None:
    """A wrong unit, an id as a label, a total that is none, a label too many: each is named."""
    registry = CollectorRegistry()
    wrong = [
        Gauge("interlock_wait_milliseconds", "Time.", registry=registry),
        Gauge("interlock_things_total", "Things.", registry=registry),
        Counter("interlock_requests", "Requests.", ["request_id"], registry=registry),
        Histogram("interlock_size", "Sizes.", registry=registry),
        Counter("interlock_many", "Many.", ["endpoint", "topic", "partition"], registry=registry),
        Gauge("interlock_mute", "No sentence", registry=registry),
    ]
    assert all(problems(metric) for metric in wrong)


def test_the_exposition_is_read_by_prometheus_own_parsers() -> None:
    """Text by default and OpenMetrics for who accepts it, the same families in both."""
    text, media_type = metrics.exposition("")
    assert media_type.startswith("text/plain; version=")
    open_text, open_media_type = metrics.exposition(OPENMETRICS)
    assert open_media_type.startswith("application/openmetrics-text; version=1.0.0")
    plain = {family.name for family in parse_text(text.decode()) if not family.name.endswith("_created")}
    read: Any = parse_openmetrics
    families = {family.name for family in read(open_text.decode())}
    assert open_text.endswith(b"# EOF\n")
    for metric in ours():
        assert metric._name in plain
        assert metric._name in families


def test_a_slow_batch_names_its_trace() -> None:
    """An observation within a recorded span has the trace as its exemplar, in OpenMetrics only."""
    traced = "00-" + "c" * 32 + "-" + "d" * 16 + "-01"
    from opentelemetry.sdk.trace import TracerProvider

    tracer = TracerProvider().get_tracer("test")
    with telemetry.within(tracer.start_span("batch")) as span:
        metrics.LANE_SECONDS.labels("exemplary", "score").observe(0.3, telemetry.exemplar())
        trace_id = f"{span.get_span_context().trace_id:032x}"
    assert traced.split("-")[1] != trace_id
    told = metrics.exposition(OPENMETRICS)[0].decode()
    assert f'trace_id="{trace_id}"' in told
    assert trace_id not in metrics.exposition("")[0].decode()
    assert telemetry.exemplar() is None


def test_a_measurement_outside_of_a_trace_has_no_exemplar() -> None:
    """And is counted all the same."""
    metrics.LANE_SECONDS.labels("plain", "score").observe(0.3, telemetry.exemplar())
    assert REGISTRY.get_sample_value("interlock_lane_seconds_count", {"endpoint": "plain", "stage": "score"}) == 1


def _expressions(found: Any) -> Iterator[str]:
    """Every query in a dashboard or a file of rules."""
    if isinstance(found, dict):
        for name, value in found.items():
            if name in ("expr", "query", "definition") and isinstance(value, str):
                yield value
            else:
                yield from _expressions(value)
    elif isinstance(found, list):
        for value in found:
            yield from _expressions(value)


PAGES = [*sorted((ROOT / "deploy/grafana/dashboards").glob("*.json")), ROOT / "deploy/prometheus/rules.yml"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_dashboards_and_rules_use_metrics_and_labels_that_exist(page: Path) -> None:
    """Each name in a query is one that a process exposes, and is asked for by labels that it has."""
    document = json.loads(page.read_text()) if page.suffix == ".json" else yaml.safe_load(page.read_text())
    used = list(_expressions(document))
    assert used
    names = {name for expression in used for name in NAMES.findall(expression)}
    assert names - exposed() == set()
    labels = {metric._name: set(metric._labelnames) for metric in ours()}
    for expression in used:
        for name, matchers in re.findall(r"(interlock_[a-z0-9_]+)\{([^}]*)\}", expression):
            base = re.sub(r"_(total|bucket|sum|count)$", "", name)
            asked = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)) - {"service", "instance", "job", "le"}
            assert asked <= labels.get(base, labels.get(name, set())), expression


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_promtool_agrees() -> None:
    """Prometheus' own tool finds nothing wrong with the exposition, the rules and the configuration."""
    text = metrics.exposition("")[0].decode()
    own = "\n".join(line for line in text.splitlines() if "interlock_" in line and "_created" not in line) + "\n"
    for command, given in (
        (["promtool", "check", "metrics"], own),
        (["promtool", "check", "config", str(ROOT / "deploy/prometheus/prometheus.yml")], ""),
    ):
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_service_of_the_installation_is_scraped() -> None:
    """Prometheus reads each process of docker-compose.yml at the port that it listens on."""
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    (job,) = scraped["scrape_configs"]
    targets = {target for group in job["static_configs"] for target in group["targets"]}
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    expected = {
        f"{name}:{service['environment']['INTERLOCK_HTTP_PORT']}"
        for name, service in services.items()
        if "INTERLOCK_HTTP_PORT" in service.get("environment", {})
    }
    assert targets == expected


def test_datasources_have_the_ids_that_dashboards_name() -> None:
    """Each panel's data source is provisioned, and an exemplar leads to the one with the traces."""
    provisioned = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/interlock.yml").read_text())
    ids = {each["uid"] for each in provisioned["datasources"]}
    for page in (ROOT / "deploy/grafana/dashboards").glob("*.json"):
        assert set(re.findall(r'"uid": "(interlock-(?:prometheus|jaeger))"', page.read_text())) <= ids
    (exemplar,) = provisioned["datasources"][0]["jsonData"]["exemplarTraceIdDestinations"]
    assert (exemplar["name"], exemplar["datasourceUid"]) == ("trace_id", "interlock-jaeger")
    titles = [json.loads(page.read_text())["title"] for page in (ROOT / "deploy/grafana/dashboards").glob("*.json")]
    assert len(set(titles)) == 3
