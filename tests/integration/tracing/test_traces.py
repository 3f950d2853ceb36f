from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from examples.fraud.push import Repository
from tests.integration.client.journey import people, serve, small_model
from tests.integration.tracing.jaeger import Jaeger, Span

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.timeout(1200)]

PUSH_TRACE, PUSH_SPAN = "a1" * 16, "b2" * 8
TOLD_SECONDS_MAX = 20.0
T = TypeVar("T")


@pytest.fixture(scope="module")
def served(traced_stack: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A version that was pushed within a trace, and serves; the stack's environment."""
    import asyncio

    plain = Repository._environment

    def traced(self: Repository) -> dict[str, str]:
        """The pusher's CI says which trace the push belongs to, by one more header."""
        environment = plain(self)
        number = int(environment["GIT_CONFIG_COUNT"])
        header = f"traceparent: 00-{PUSH_TRACE}-{PUSH_SPAN}-01"
        more = {f"GIT_CONFIG_KEY_{number}": "http.extraHeader", f"GIT_CONFIG_VALUE_{number}": header}
        return environment | more | {"GIT_CONFIG_COUNT": str(number + 1)}

    async def walk() -> None:
        async with people(traced_stack) as crew:
            tree = small_model(tmp_path_factory.mktemp("tree") / "small", "small")
            await serve(traced_stack, crew, tree, "small")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Repository, "_environment", traced)
        asyncio.run(walk())
    return traced_stack


def test_one_trace_tells_the_way_from_push_to_served(jaeger: Jaeger, served: dict[str, str]) -> None:
    """Registry, builder, deployer and the warmed replica stand in the push's own trace, each under what caused it."""
    needed = {"interlock-registry", "interlock-builder", "interlock-deployer", "interlock-replica"}
    spans = _until(
        lambda: _complete(jaeger.trace(PUSH_TRACE), needed, "RouteChanged"), "the push's trace is not complete"
    )
    ids = {(span.trace, span.id) for span in spans} | {(PUSH_TRACE, PUSH_SPAN)}
    assert [span.name for span in spans if span.parent not in ids] == []

    created = {span.tags["interlock.event"]: span for span in spans if span.name.startswith("create ")}
    way = ("VersionRegistered", "BuildStarted", "BuildSucceeded", "VersionApproved", "VersionWarmed",
           "VersionPromoted", "VersionServing", "RouteChanged")  # fmt: skip
    assert set(way) <= set(created)
    heard = {(span.service, span.tags["interlock.event"]): span for span in spans if span.name.startswith("process ")}
    assert _lies_under(created["VersionServing"], created["VersionPromoted"], spans)
    assert _lies_under(created["BuildSucceeded"], created["VersionRegistered"], spans)
    assert _lies_under(_named(spans, "BUILD small"), heard["interlock-builder", "VersionRegistered"], spans)
    # Promoted before it was warm, it is warmed for the promotion's sake.
    reasons = [created["VersionApproved"], created["VersionPromoted"]]
    assert any(_lies_under(created["VersionWarmed"], reason, spans) for reason in reasons)
    assert heard["interlock-registry", "RouteChanged"].parent == (PUSH_TRACE, created["RouteChanged"].id)
    replica = next(span for span in spans if span.service == "interlock-replica")
    assert _lies_under(replica, _named(spans, "WARM small"), spans)
    assert {"POST /git/{model}.git/git-receive-pack"} & {span.name for span in spans}
    assert [span for span in spans if span.tags.get("db.system.name") == "postgresql"]
    assert [span for span in spans if span.name == "POST /subjects/{subject}/versions"]
    assert [span for span in spans if span.name == "send interlock.model.events"]


def test_a_sampled_request_and_its_batch_lead_to_each_other(jaeger: Jaeger, served: dict[str, str]) -> None:
    """The batch has links to the sampled requests only; each of them has a span in its own trace that links back."""
    sampled = _ask(served, jaeger, sampled=3, plain=5)
    assert len(sampled) == 3

    def batches() -> list[Span]:
        found = [span for span in jaeger.find("interlock-router", "process small.requests") if span.links]
        linked = {trace for span in found for trace, _ in span.links}
        return [span for span in found if span.name == "process small.requests"] if sampled <= linked else []

    found = _until(batches, "the batches of the sampled requests are not there")
    assert {trace for span in found for trace, _ in span.links} == sampled
    for trace_id in sampled:
        (answer,) = _until(partial(_answers, jaeger, trace_id), "the answer is not in the request's trace")
        (batch,) = [span for span in found if trace_id in {trace for trace, _ in span.links}]
        assert answer.links == ((batch.trace, batch.id),)
        sent = next(span for span in jaeger.trace(trace_id) if span.name == "send small.requests")
        assert answer.parent == (trace_id, sent.id)
        assert batch.tags["messaging.batch.message_count"] >= 1
        stages = {span.name for span in jaeger.trace(batch.trace) if span.parent == (batch.trace, batch.id)}
        assert {"read small", "score small", "commit small.requests"} <= stages
        assert "interlock-replica" in {span.service for span in jaeger.trace(batch.trace)}


def test_what_nobody_sampled_is_not_there(jaeger: Jaeger, served: dict[str, str]) -> None:
    """With a ratio of nothing, batches without a sampled request, and other people's commands, leave no span."""
    sampled = _ask(served, jaeger, sampled=1, plain=20)
    _until(lambda: [span for span in jaeger.find("interlock-router", "process small.requests")
                    if {trace for trace, _ in span.links} & sampled], "the sampled one is missing")  # fmt: skip
    batches = [span for span in jaeger.find("interlock-router", "process small.requests") if not span.parent]
    assert all(span.links for span in batches)
    assert not [span for span in jaeger.find("interlock-registry", "GET /v1/endpoints") if span.trace != PUSH_TRACE]


def _ask(stack: dict[str, str], jaeger: Jaeger, sampled: int, plain: int) -> set[str]:
    """Run the application; return the traces it recorded."""
    program = [sys.executable, str(Path(__file__).with_name("application.py")), "small", str(sampled), str(plain)]
    environment = os.environ | stack | {"OTEL_EXPORTER_OTLP_ENDPOINT": jaeger.collector}
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return set(done.stdout.split())


def _until(ask: Callable[[], T], what: str) -> T:
    deadline = time.monotonic() + TOLD_SECONDS_MAX
    while not (answer := ask()):
        assert time.monotonic() < deadline, what
        time.sleep(0.3)
    return answer


def _complete(spans: list[Span], services: set[str], event: str) -> list[Span]:
    """Return the spans once every service has told its part, the registry the last of it."""
    last = [
        span
        for span in spans
        if span.service == "interlock-registry"
        and span.name.startswith("process ")
        and span.tags["interlock.event"] == event
    ]
    return spans if last and services <= {span.service for span in spans} else []


def _answers(jaeger: Jaeger, trace_id: str) -> list[Span]:
    return [span for span in jaeger.trace(trace_id) if span.name == "answer small.requests"]


def _named(spans: Iterable[Span], name: str) -> Span:
    return next(span for span in spans if span.name == name)


def _lies_under(below: Span, above: Span, spans: Iterable[Span]) -> bool:
    """Say whether one span descends from the other."""
    by_place: dict[Any, Span] = {(span.trace, span.id): span for span in spans}
    span: Span | None = below
    while span is not None and span.id != above.id:
        span = by_place.get(span.parent)
    return span is not None
