"""Cases on the whole stack: what the log says of a result is what the registry and the topics say of it."""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from interlock.cli import main
from interlock.client.errors import Refused
from interlock.client.session import Interlock, connect
from tests.integration.auditor.truth import journal_of, requests_of, results_of, since_beginning
from tests.integration.client.journey import STEP_SECONDS_MAX, people, serve, small_model, small_score, until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]

MODEL = "case-small"
CASE_SECONDS_MAX = 1.0
BUSY_PER_CORE = 4.0
"""With more processes waiting for each core, the slowest of a thousand says nothing."""
NOT_YET = {"CASE_UNANSWERED", "CASE_UNWITNESSED", "CASE_INCOMPLETE"}


@pytest.fixture(scope="module")
def endpoint(stack: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """An endpoint with a model of its own, answered by version 1."""

    async def bring(folder: Path) -> str:
        async with people(stack) as crew:
            if MODEL not in [each["name"] for each in await crew.olga.endpoints()]:
                await serve(stack, crew, small_model(folder / "one", MODEL), MODEL)
        return MODEL

    return asyncio.run(bring(tmp_path_factory.mktemp("case")))


@pytest.fixture
async def il(stack: dict[str, str]) -> AsyncIterator[Interlock]:
    """A session of a person with a token of the stack."""
    session = connect(
        stack["INTERLOCK_URL"],
        token=stack["INTERLOCK_TOKEN"],
        bootstrap=stack["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"],
        schema_registry=stack["INTERLOCK_SCHEMA_REGISTRY_URL"],
        auditor=stack["INTERLOCK_AUDITOR_URL"],
    )
    async with session:
        yield session


async def entered(ask: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    """Ask until the log has the result's batch and the witness has seen it; within a bound."""

    async def tried() -> dict[str, Any] | None:
        try:
            return await ask()
        except Refused as refused:
            if refused.code in NOT_YET:
                return None
            raise

    found: dict[str, Any] = await until(tried, "the log never had the case")
    return found


def facts_of(account: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of each fact by its name; of gates, a list."""
    found: dict[str, Any] = {"gate": []}
    for each in account["facts"]:
        if each["fact"] == "gate":
            found["gate"].append(each["values"])
        else:
            found[each["fact"]] = each["values"]
    return found


def instant(value: Any) -> datetime:
    """Return a time that a fact or a journal tells, in whole milliseconds as events carry it on the wire."""
    found = datetime.fromisoformat(str(value))
    return found.replace(microsecond=found.microsecond // 1000 * 1000)


async def test_a_score_is_explained_and_proved_to_a_stranger(
    stack: dict[str, str], endpoint: str, il: Interlock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the score back to commit and approver; the bundle holds in a clean interpreter, and spoiled it does not."""
    opened = await il.endpoint(endpoint)
    result = await opened.ask(key="card-1", amount=120.0, night=True)
    name = f"{result.topic}/{result.partition}/{result.offset}"
    account = await entered(lambda: il.case(name))
    facts = facts_of(account)
    version = await il.version(endpoint, 1)
    assert facts["result"]["outputs"] == {"score": small_score(120.0, 1.0)}
    assert facts["features"]["features"] == {"amount": 120.0, "night": True}
    assert (facts["version"]["digest"], facts["push"]["commit"]) == (version["digest"], version["commit"])
    assert facts["approval"]["approver"] == "bob" and facts["promotion"]["actor"] == "olga"

    monkeypatch.setenv("INTERLOCK_HOME", stack["INTERLOCK_HOME"])
    bundle, script = tmp_path / "case.json", tmp_path / "verifier.py"
    command = ["case", name, "--bundle", str(bundle), "--verifier", str(script)]
    assert await asyncio.to_thread(main, command) == 0
    keys = ["--log-key", stack["INTERLOCK_AUDIT_PUBLIC_KEY_FILE"]]
    keys += ["--witness-key", stack["INTERLOCK_WITNESS_PUBLIC_KEY_FILE"]]

    def checked() -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-I", str(script), str(bundle), *keys]
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path, env={})

    held = checked()
    assert (held.returncode, held.stderr) == (0, ""), held
    assert f"pushed by alice as commit {version['commit']}" in held.stdout
    assert await asyncio.to_thread(main, [*command, "--neighbours"]) == 0
    assert "read again from the topic" not in checked().stdout
    made = json.loads(bundle.read_bytes())
    made["result"]["row"] += 1
    bundle.write_text(json.dumps(made, indent=1, sort_keys=True) + "\n")
    refused = checked()
    assert refused.returncode == 1 and refused.stdout.startswith("WRONG: ") and refused.stderr == ""


async def test_the_command_prints_what_a_person_reads(
    stack: dict[str, str],
    endpoint: str,
    il: Interlock,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By coordinates and by the request's own id and time, as a table and as JSON; the same case each time."""
    at = datetime.now(UTC).replace(microsecond=0)
    opened = await il.endpoint(endpoint)
    sent = await opened.request(key="card-2", request_id="by-its-id", requested_at=at, amount=1.0, night=False)
    name = f"{sent.topic}/{sent.partition}/{sent.offset}"
    await entered(lambda: il.case(name))
    monkeypatch.setenv("INTERLOCK_HOME", stack["INTERLOCK_HOME"])
    assert await asyncio.to_thread(main, ["case", name]) == 0
    printed = capsys.readouterr().out
    assert not [words for words in ("approved for", "by bob", "route epoch 1", "entry ") if words not in printed]
    words = ["case", endpoint, "--request-id", "by-its-id", "--requested-at", at.isoformat(), "--json"]
    assert await asyncio.to_thread(main, words) == 0
    assert json.loads(capsys.readouterr().out)["name"] == name
    assert await asyncio.to_thread(main, ["case", endpoint]) == 1
    assert "CASE_UNNAMED" in capsys.readouterr().err


async def test_a_rejected_request_is_a_case_as_well(stack: dict[str, str], endpoint: str, il: Interlock) -> None:
    """Bytes that are no request: the rejection is proved, the dead letter with its reason stands beside it."""
    producer = await il.producer()
    place = await producer.send(f"{endpoint}.requests", b"card-3", b"not Avro at all")
    empty = await producer.send(f"{endpoint}.requests", b"card-3", None)  # type: ignore[arg-type]
    for sent, reason in ((place, "BAD_FRAMING"), (empty, "EMPTY")):
        name = f"{sent.topic}/{sent.partition}/{sent.offset}"
        account = await entered(lambda name=name: il.case(name))  # type: ignore[misc]
        facts = facts_of(account)
        assert facts["result"]["rejection"] == reason == facts["dead letter"]["reason"]
        assert facts["result"]["outputs"] == {"score": None} and "version" not in facts
        assert facts["route"]["epoch"] == 1


async def test_what_there_is_no_case_for_is_said(endpoint: str, il: Interlock) -> None:
    """No coordinates, no such topic, partition or offset, an id that nobody used: each its own problem."""
    for name, code in (
        ("fraud/1/2", "CASE_COORDINATES"),
        (f"{endpoint}.requests/x/2", "CASE_COORDINATES"),
        ("nobody.requests/0/0", "CASE_UNKNOWN"),
        (f"{endpoint}.requests/99/0", "CASE_UNKNOWN"),
        (f"{endpoint}.requests/0/999999999", "CASE_UNKNOWN"),
    ):
        with pytest.raises(Refused) as refused:
            await il.case(name)
        assert refused.value.code == code, name
    with pytest.raises(Refused) as unknown:
        await il.find_case(endpoint, "nobody", datetime.now(UTC))
    assert unknown.value.code == "CASE_UNKNOWN"


async def test_a_request_that_waits_is_said(stack: dict[str, str], endpoint: str, il: Interlock) -> None:
    """A request that lies in its topic and was not answered is no case yet; the endpoint has no champion."""
    waiting = "case-waiting"
    async with people(stack) as crew:
        if waiting not in [each["name"] for each in await crew.olga.endpoints()]:
            await crew.olga.create_endpoint(waiting, endpoint, 1)
    sent = await (await il.endpoint(waiting)).request(key="card", amount=1.0, night=False)
    with pytest.raises(Refused, match="knows no batch") as refused:
        await il.case(f"{sent.topic}/{sent.partition}/{sent.offset}")
    assert refused.value.code == "CASE_UNANSWERED"


async def test_two_requests_with_one_id_and_time_are_named(endpoint: str, il: Interlock) -> None:
    """An id that was used twice is no case by itself; the answer names the coordinates to choose from."""
    at, opened = datetime.now(UTC), await il.endpoint(endpoint)
    for _ in range(2):
        sent = await opened.request(key="card-4", request_id="twice", requested_at=at, amount=1.0, night=False)
    with pytest.raises(Refused, match=f"{sent.topic}/{sent.partition}/{sent.offset}") as refused:
        await il.find_case(endpoint, "twice", at)
    assert refused.value.code == "CASE_AMBIGUOUS"


async def test_a_topic_that_was_cleaned_is_said(stack: dict[str, str], il: Interlock, endpoint: str) -> None:
    """Requests gone: a case without features. Results gone: no case, but the log's entry that stands for them."""
    other = "case-cleaned"
    async with people(stack) as crew:
        if other not in [each["name"] for each in await crew.olga.endpoints()]:
            await crew.olga.create_endpoint(other, endpoint, 1)
            await crew.bob.approve(endpoint, 1, other, "")
            await crew.olga.promote(other, 1)

        async def serving() -> bool:
            return bool((await crew.olga.endpoint_details(other))["champion"])

        await until(serving, "the endpoint does not answer")
    opened = await il.endpoint(other)
    result = await opened.ask(key="card", amount=1.0, night=False, timeout_seconds=STEP_SECONDS_MAX)
    name = f"{result.topic}/{result.partition}/{result.offset}"
    assert "features" in facts_of(await entered(lambda: il.case(name)))
    await since_beginning(stack, f"{other}.requests", result.offset + 1)
    facts = facts_of(await il.case(name))
    assert "features" not in facts and facts["result"]["request_id"] == result.request_id
    await since_beginning(stack, f"{other}.results", None)
    with pytest.raises(Refused, match=r"entry \d+") as gone:
        await il.case(name)
    assert gone.value.code == "CASE_GONE"


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_thousand_cases_agree_with_journal_and_topics(
    stack: dict[str, str], endpoint: str, il: Interlock
) -> None:
    """Random results of several thousand: complete, within a second each, and what journal and topics say."""
    rng = random.Random(1)
    opened = await il.endpoint(endpoint)
    count = await opened.send_many(
        (f"card-{n % 97}", {"amount": rng.uniform(0, 500), "night": bool(n % 2)}) for n in range(5_000)
    )
    assert count == 5_000
    results = await results_of(il, endpoint, count, STEP_SECONDS_MAX)
    requests = await requests_of(il, endpoint, STEP_SECONDS_MAX)
    version = await il.version(endpoint, 1)
    details = await il.endpoint_details(endpoint)
    journal = await journal_of(stack, endpoint)
    chosen = rng.sample(results, 1_000)
    await entered(lambda: il.case("{topic}/{partition}/{offset}".format(**vars(results[-1]))))
    seconds = []
    for result in chosen:
        name, start = f"{result.topic}/{result.partition}/{result.offset}", time.perf_counter()
        facts = facts_of(await il.case(name))
        seconds.append(time.perf_counter() - start)
        compare(facts, result, version, details, journal)
        asked = requests[result.partition, result.offset]
        assert facts["features"]["features"] == {each: asked[each] for each in ("amount", "night")}
    middle, slowest = statistics.median(seconds), max(seconds)
    sys.stderr.write(f"1000 cases: median {middle * 1000:.0f} ms, slowest {slowest * 1000:.0f} ms\n")
    assert middle <= CASE_SECONDS_MAX
    busy = os.getloadavg()[0] > BUSY_PER_CORE * (os.cpu_count() or 1)
    assert busy or slowest <= CASE_SECONDS_MAX, "and nothing else keeps the machine busy"


def compare(
    facts: Mapping[str, Any],
    result: Any,
    version: Mapping[str, Any],
    details: Mapping[str, Any],
    journal: Mapping[str, Any],
) -> None:
    """Hold a case against the topic's result, the registry's REST and its journal."""
    told = facts["result"]
    for name in (
        "request_id", "endpoint", "model", "version", "digest", "epoch", "arm", "topic", "partition", "offset",
    ):  # fmt: skip
        assert told[name] == getattr(result, name)
    assert instant(told["scored_at"]) == result.scored_at and instant(told["requested_at"]) == result.requested_at
    assert told["outputs"] == dict(result.outputs)
    features = facts["features"]["features"]
    assert told["outputs"]["score"] == pytest.approx(small_score(features["amount"], features["night"]), rel=1e-12)
    assert facts["push"]["commit"] == version["commit"] == journal["VersionRegistered"]["commit"]
    assert facts["push"]["author"] == version["author"] and facts["push"]["digest"] == version["digest"]
    assert facts["build"]["evidence_digest"] == version["evidence_digest"]
    for told_gate, known in zip(facts["gate"], version["gates"], strict=True):
        assert (told_gate["gate"], told_gate["verdict"], told_gate["value"]) == (
            known["gate"], known["verdict"], known["value"],
        )  # fmt: skip
    approval = journal["VersionApproved"]
    assert facts["approval"]["approver"] == approval["approver"]
    assert instant(facts["approval"]["at"]) == instant(approval["at"])
    assert facts["promotion"]["promotion"] == journal["VersionPromoted"]["promotion"]
    assert facts["promotion"]["actor"] == journal["VersionPromoted"]["actor"]
    assert facts["route"]["epoch"] == result.epoch == journal["Route"]["epoch"] <= details["route_epoch"]
    assert instant(facts["route"]["since"]) == instant(journal["Route"]["at"]) <= result.scored_at
    assert facts["warmed"]["vectors"] == journal["VersionWarmed"]["vectors"]
