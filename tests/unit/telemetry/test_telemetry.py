"""Logs and spans: one JSON line per decision, repetitions held back, traces that go on."""

from __future__ import annotations

import json
import subprocess
import sys

from interlock import telemetry

TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
PROGRAM = """
import logging, structlog
from interlock import telemetry
telemetry.setup("toy")
for number in range(1000):
    logging.getLogger("aiokafka.client").error("Unable connect to node with id %s", number)
logging.getLogger("aiokafka.client").warning("below the bound")
with telemetry.span("work", kind="consumer", traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01"):
    for _ in range(2):
        structlog.get_logger("x").warning("thing.done", rows=3)
try:
    1 / 0
except ZeroDivisionError as error:
    structlog.get_logger("x").error("thing.broke", exc_info=error)
"""


def _lines() -> list[dict[str, object]]:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == ""
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_a_process_writes_json_lines_with_trace_ids_and_holds_repetitions_back() -> None:
    """A thousand complaints of the driver are one line; our own lines all come, with the caller's trace."""
    complaint, first, second, broke = _lines()
    assert complaint["event"] == "Unable connect to node with id 0"
    assert first["event"] == second["event"] == "thing.done"
    assert (first["service"], first["rows"], first["trace_id"]) == ("toy", 3, "a" * 32)
    assert "ZeroDivisionError" in str(broke["exception"])


def test_outside_of_a_span_there_is_no_traceparent() -> None:
    """And a bad one names no context."""
    assert telemetry.current_traceparent() is None
    assert telemetry.context_of("rubbish") is None


def test_a_span_goes_on_with_the_callers_trace() -> None:
    """Within the body the traceparent has the caller's trace id."""
    with telemetry.span("work", traceparent=TRACE, links=[TRACE, None, "rubbish"], messaging_system="kafka"):
        current = telemetry.current_traceparent()
    assert current is not None
    assert current.split("-")[1] == "a" * 32
