from __future__ import annotations

import re
from io import StringIO

import pytest
from rich.console import Console

from interlock.cli.follow import WORDS, sentence, short_type
from interlock.cli.top import audit_line, drift_words, page, table
from interlock.client.watch import audit_state, drift_state, summary
from interlock.schemas.events import EVENTS
from interlock.schemas.topics import MODEL_EVENTS
from interlock_registry.handlers import CONSUMES


def test_every_control_event_has_words_that_fit_its_fields() -> None:
    """Each event the timeline can show has a sentence, and the sentence only names fields that the event has."""
    shown = {event for handlers in CONSUMES.values() for event in handlers}
    for event in (each for each in EVENTS if each in shown or each.TOPIC == MODEL_EVENTS):
        name = short_type(event.TYPE)
        assert name in WORDS, name
        fields = set(event.__struct_fields__)
        assert set(re.findall(r"{(\w+)}", WORDS[name])) <= fields, name


@pytest.mark.parametrize("form", ["io.interlock.version_promoted.v1", "VersionPromoted", "version_promoted"])
def test_an_events_name_is_understood_in_every_form(form: str) -> None:
    """CloudEvents types, class names and bare names mean the same."""
    assert short_type(form) == "version_promoted"


def test_a_sentence_shows_short_digests_and_marks_what_is_missing() -> None:
    """Readers compare twelve digits; nothing is invented for a missing field."""
    event = {"model": "fraud", "version": 2, "digest": "sha256:" + "ab" * 32}
    text = sentence({"type": "VersionRegistered", "event": event})
    assert text == "fraud version 2 is pushed by -, abababababab"


def test_top_adds_instances_up_and_weighs_their_shares() -> None:
    """Rates and lags add up, the worst latency counts, shares are weighed by rate."""
    one = {"events_per_second": 300.0, "lag": 5, "latency_ms": {"p50": 10, "p99": 40}, "versions": {"1": 1.0}}
    two = {"events_per_second": 100.0, "lag": 1, "latency_ms": {"p50": 20, "p99": 30}, "versions": {"2": 1.0}}
    figures = summary("fraud", {"instances": [one, two]})
    assert figures["events_per_second"] == 400
    assert figures["lag"] == 6
    assert figures["latency_ms"] == {"p50": 20, "p99": 40}
    assert figures["versions"] == {"1": 0.75, "2": 0.25}
    out = Console(file=StringIO(), width=130)
    out.print(table([figures, summary("idle", {"instances": []})]))
    shown = out.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO from above
    assert "v1 75%, v2 25%" in shown


def test_a_drifting_version_comes_before_a_clear_champion() -> None:
    """Whatever else is well: what drifts is what is shown, with the features to blame."""
    clear = {"version": 2, "state": "clear", "blamed": [], "since": None}
    drifting = {"version": 1, "state": "drift", "blamed": ["amount"], "since": "2026-03-02T09:15:00.000Z"}
    found = drift_state({"versions": [clear, drifting]}, champion=2)
    assert (found["state"], found["version"], found["features"]) == ("drift", 1, ["amount"])
    assert drift_state({"versions": [{**drifting, "state": "clear"}, clear]}, champion=2)["version"] == 2
    assert drift_state({}, champion=2)["state"] == "no_window"


def test_the_page_names_drift_and_the_audit_head() -> None:
    """One look says what drifts, and how long the audit log is; a watcher that is away is said to be away."""
    figures = summary("fraud", {"instances": []}) | {"drift": {"state": "drift", "version": 2, "features": ["amount"]}}
    head = {"size": 1234, "root": "sha256:" + "ab" * 32, "witnessed_size": 1200, "state": "witnessed"}
    out = Console(file=StringIO(), width=130)
    out.print(page({"endpoints": [figures], "audit": audit_state(head)}))
    shown = out.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO from above
    assert "v2: amount" in shown
    assert "1,234 entries, root abababababab, witnessed up to 1,200" in shown
    assert "monitor away" in drift_words({"away": "nobody answers"})
    assert "row 7 was changed" in audit_line(audit_state({**head, "state": "refused", "trouble": "row 7 was changed"}))
    assert "away (nobody answers)" in audit_line({"away": "nobody answers"})
