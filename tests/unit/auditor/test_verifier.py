from __future__ import annotations

import ast
import base64
import copy
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock import merkle
from interlock.clock import milliseconds
from interlock.codec import rows
from interlock.schemas.events import (
    BY_SCHEMA_ID,
    DriftDetected,
    FeatureDrift,
    RollbackOrdered,
    Route,
    VersionApproved,
    VersionRegistered,
)
from interlock_auditor import verifier
from interlock_auditor.entry import SCHEMA
from tests.unit.auditor.case_world import DIGEST, LOG_KEY, WITNESS_KEY, World, examine, later, signed, story

SCRIPT = Path(verifier.__file__)
EXAMPLES = Path(__file__).parents[3] / "schemas" / "examples"


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the script as a stranger does: isolated, without the platform on any path but site-packages."""
    return subprocess.run(
        [sys.executable, "-I", str(SCRIPT), *words], capture_output=True, text=True, check=False, timeout=60
    )


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every scalar in a JSON document."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from leaves(item, (*path, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path


def changed(bundle: dict[str, Any], path: tuple[Any, ...], change: Any) -> dict[str, Any]:
    """Return a copy with one scalar changed."""
    spoiled = copy.deepcopy(bundle)
    place = spoiled
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = change(place[path[-1]])
    return spoiled


def test_a_good_bundle_tells_the_whole_story(world: World) -> None:
    """Every fact is there, each with the entry that proves it, and the request is marked as the auditor's word."""
    account, problems = examine(world.bundle(7))
    assert problems == []
    facts = {each["fact"]: each for each in account["facts"]}
    assert list(facts) == [
        "request", "features", "online", "result", "batch", "model", "version", "push", "build", "gate", "approval",
        "promotion", "warmed", "serving", "route", "change", "endpoint",
    ]  # fmt: skip
    assert facts["features"]["proof"] == "reread"
    assert {each["proof"] for name, each in facts.items() if name != "features"} == {"log", "batch"}
    assert facts["features"]["values"]["features"] == {"amount": 1.0, "kind": "b"}
    assert facts["online"]["values"] == {"online": {"online_visits": 4.0}, "age_milliseconds": 250, "missing": []}
    assert facts["result"]["values"]["outputs"] == {"score": 0.07}
    assert facts["push"]["values"]["commit"] == "1f" * 20
    assert facts["approval"]["values"]["approver"] == "bob"
    assert facts["gate"]["values"]["value"] == 0.9134
    assert facts["route"]["values"]["since"] == later(60).isoformat(timespec="milliseconds")
    assert "looks {good}" in facts["approval"]["said"]


def test_every_row_of_a_batch_has_its_case(world: World) -> None:
    """First, last, the rejected one and those at a chunk's border: each is proved by the batch's digest."""
    for row in (0, 1, 63, 64, 66, 99):
        account, problems = examine(world.bundle(row))
        assert problems == []
        result = next(each for each in account["facts"] if each["fact"] == "result")
        assert result["values"]["request_id"] == f"r-{row}"
        assert (result["values"]["rejection"] is not None) == (row == world.rejected)


def features_of(account: dict[str, Any]) -> dict[str, Any]:
    return next(each for each in account["facts"] if each["fact"] == "features")


def test_a_request_is_proved_by_its_batch(world: World) -> None:
    """Alone in its batch, or with its neighbours shown, its value is no mere word; else no other request is shown."""
    for bundle, proof in (
        (World(count=1, rejected=-1).bundle(0), "batch"),
        (world.bundle(7), "reread"),
        (world.bundle(7, neighbours=True), "batch"),
    ):
        account, problems = examine(bundle)
        assert problems == []
        assert features_of(account)["proof"] == proof
        assert (bundle["request"]["proof"] is None) == (proof == "reread")


def test_another_request_in_place_of_a_proved_one_is_refused(world: World) -> None:
    """Even whoever holds the log's key cannot put another request where its batch proves one."""
    other = world.bundle(8)["request"]["value"]
    for bundle in (World(count=1, rejected=-1).bundle(0), world.bundle(7, neighbours=True)):
        bundle["request"]["value"] = other
        assert examine(signed(bundle))[1] == ["the request is not the one that was answered"]
        chunk = bundle["request"]["proof"]["chunks"][-1]
        spoiled = base64.b64decode(chunk["content"]).replace(b"r-", b"R-")
        chunk["content"] = base64.b64encode(spoiled).decode()
        assert "does not lead to the digest" in examine(signed(bundle))[1][0]


def test_a_request_without_a_value_is_proved_too() -> None:
    """A tombstone has a place in its batch like any other request."""
    world = World(count=3, rejected=1, without_value=1)
    account, problems = examine(world.bundle(1, neighbours=True))
    assert problems == []
    assert features_of(account)["values"]["features"] is None


def test_every_single_change_is_refused(world: World) -> None:
    """Each field of a bundle, changed in each way that fits its kind, is refused in words and without a crash."""
    rng = random.Random(4)
    count = 0
    for row in (7, world.rejected):
        bundle = world.bundle(row)
        for path in leaves(bundle):
            for spoiled in spoilings(bundle, path, rng):
                _, problems = examine(spoiled)
                assert problems, f"{path}: nothing was said"
                count += 1
    assert count > 1_000


def spoilings(bundle: dict[str, Any], path: tuple[Any, ...], rng: random.Random) -> list[dict[str, Any]]:
    """Return the bundle with one scalar spoiled in several ways."""
    value = bundle
    for step in path:
        value = value[step]
    made: list[Any] = [lambda _: None if value is not None else 0, lambda _: [], lambda _: {}]
    if isinstance(value, bool) or value is None:
        made.append(lambda _: "x")
    elif isinstance(value, int):
        made += [lambda old: old + 1, lambda old: -old - 1, lambda _: 10**30, float]
    elif isinstance(value, str):
        at = rng.randrange(len(value)) if value else 0
        letter = "A" if value[at : at + 1] != "A" else "B"
        made += [lambda old: old[:at] + letter + old[at + 1 :], lambda old: old[:-1], lambda old: old + "A"]
    return [changed(bundle, path, change) for change in made]


def test_every_change_of_a_byte_is_refused(world: World) -> None:
    """Five hundred seeded flips, cuts and insertions in the file itself, wherever they fall."""
    rng = random.Random(11)
    content = verifier.canonical(world.bundle(7))
    keys = str(LOG_KEY.public), str(WITNESS_KEY.public)
    assert verifier.examine(content, *keys)[1] == []
    for _ in range(500):
        at = rng.randrange(len(content))
        spoiled = rng.choice(
            [
                content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :],
                content[:at] + content[at + 1 :],
                content[:at] + bytes([rng.randrange(256)]) + content[at:],
                content[:at],
            ]
        )
        if spoiled != content:
            assert verifier.examine(spoiled, *keys)[1], f"byte {at}: nothing was said"


def test_the_log_itself_cannot_change_what_is_proved(world: World) -> None:
    """Signed anew by the log's own key, each change of an entry, a result, a path, a schema or a head is still seen."""
    rng = random.Random(5)
    bundle = world.bundle(7)
    proved = [path for path in leaves(bundle) if path[0] in {"entries", "result", "schemas", "checkpoint", "keys"}]
    for path in proved:
        for spoiled in spoilings(bundle, path, rng):
            _, problems = examine(signed(spoiled))
            assert problems, f"{path}: nothing was said"
    assert ("result", "proof", "chunks", 0, "content") in proved


def test_bytes_inside_what_is_proved_cannot_change(world: World) -> None:
    """One bit anywhere in entry, payload, path or chunk, well written again and signed by the log: seen."""
    rng = random.Random(6)
    bundle = world.bundle(7)
    for path in leaves(bundle):
        if path[0] not in {"entries", "result"} or path[-1] in {"row", "bytes", "index"}:
            continue

        def flip(old: str) -> str:
            content = bytearray(base64.b64decode(old))
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            return base64.b64encode(content).decode()

        for _ in range(6):
            assert examine(signed(changed(bundle, path, flip)))[1], path


def test_a_head_that_the_witness_did_not_sign_is_refused() -> None:
    """A log that tells another history can sign it, and the bundle, but has no cosignature for it."""
    true, false = World(), World(before=replaced(VersionApproved, approver="mallory"))
    bundle, other = false.bundle(7), true.bundle(7)
    assert examine(bundle)[1] == []
    text = bundle["checkpoint"].rpartition("\n\n")[0]
    mine, witness = bundle["checkpoint"].splitlines()[-2:]
    theirs = other["checkpoint"].splitlines()[-1]
    for lines in ([mine], [mine, theirs], [theirs, mine], [mine, mine], [mine, LOG_KEY.line(text + "\n").strip("\n")]):
        bundle["checkpoint"] = text + "\n\n" + "".join(f"{line}\n" for line in lines)
        (problem,) = examine(signed(bundle))[1]
        assert problem in {
            "the checkpoint: interlock/witness has not signed it",
            "the checkpoint: the signature of interlock/witness is false",
        }
    bundle["checkpoint"] = f"{text}\n\n{witness}\n"
    assert examine(signed(bundle))[1] == ["the checkpoint: interlock/audit has not signed it"]


@pytest.mark.parametrize(
    "action",
    ["BatchAnswered", "Route", "VersionRegistered", "VersionApproved", "BuildSucceeded", "GateEvaluated"],
)
def test_what_must_be_told_cannot_be_left_out(world: World, action: str) -> None:
    """Not even the log's own key makes a case without its batch, route, push, build, gates or approval."""
    bundle = world.bundle(7)
    bundle["entries"] = [each for each in bundle["entries"] if action.encode() not in base64.b64decode(each["entry"])]
    (problem,) = examine(signed(bundle))[1]
    assert action in problem or "who approved" in problem


def test_an_entry_twice_or_of_another_case_is_refused(world: World) -> None:
    """A bundle holds each entry once, and none that has nothing to do with the case."""
    bundle = world.bundle(7)
    bundle["entries"].append(bundle["entries"][0])
    assert examine(signed(bundle))[1] == ["an entry stands in the bundle twice"]
    other = World(after=[RollbackOrdered(endpoint="fraud", model="fraud", promotion=6, from_version=2, to_version=1,
                                         to_digest=DIGEST, actor="olga", reason="", at=later(400))])  # fmt: skip
    spoiled = other.bundle(7, [*other.entries[:11], other.entries[12]])
    (problem,) = examine(spoiled)[1]
    assert problem == "entries that do not belong to this case: 12 (RollbackOrdered)"


def replaced(kind: Any, **changes: Any) -> list[Any]:
    """Return the story with one kind of event told otherwise."""
    return [
        kind(**{name: getattr(each, name) for name in each.__struct_fields__} | changes) if type(each) is kind else each
        for each in story()
    ]


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (replaced(VersionApproved, approver="alice"), "the author approved"),
        (replaced(VersionApproved, evidence_digest="sha256:" + "00" * 32), "other evidence"),
        (replaced(VersionApproved, digest="sha256:" + "00" * 32), "another digest"),
        (replaced(VersionRegistered, artifact_digest="sha256:" + "00" * 32), "not that of manifest and artifact"),
        (replaced(VersionRegistered, manifest="[model]"), "the manifest is not the one pushed"),
        (replaced(Route, promotion=4), "who ordered the route"),
        (replaced(Route, arms=()), "names no such version"),
        (replaced(Route, result_schema_id=7), "not written with the route's schema"),
    ],
)
def test_a_log_that_contradicts_itself_is_no_case(before: list[Any], said: str) -> None:
    """Entries that are all in the log, but cannot all be true of one result, are named."""
    world = World(before=before)
    (problem,) = examine(world.bundle(7, world.entries[:11]))[1]
    assert said in problem


def test_a_name_that_would_move_a_cursor_is_shown_harmless() -> None:
    """Names of features come from whoever pushed; braces and control characters in them do nothing."""
    odd = FeatureDrift(
        feature="{at}\x1b[2J", statistic="ks", value=1.0, threshold=0.1, p_value=0.0, psi=None, jensen_shannon=None,
        wasserstein=None, missing_rate=0.0, reference_missing_rate=0.0, median=None, reference_median=None,
    )  # fmt: skip
    drift = DriftDetected(
        endpoint="fraud", model="fraud", version=2, digest=DIGEST, arm="champion", window_start=later(90),
        window_end=later(150), rows=900, features=(odd,), false_alarms_per_window=1e-4, at=later(160),
    )  # fmt: skip
    account, problems = examine(World(after=[drift]).bundle(7))
    assert problems == []
    assert "DRIFT of" in verifier.describe(account)
    assert "\x1b" not in verifier.describe(account)


def test_the_wrong_keys_are_refused(world: World) -> None:
    """The bundle's own keys are of no use to whoever was given others, and a log cannot be its own witness."""
    content = verifier.canonical(world.bundle(7))
    log, witness = str(LOG_KEY.public), str(WITNESS_KEY.public)
    for keys in ((witness, log), (log, log), (witness, witness), ("x", witness), (log, "a+b+c"), ("", "")):
        assert verifier.examine(content, *keys)[1]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]\n", b"null\n", b"1e999\n", b"\xff\xfe", b"[" * 100_000, b"{}\n", b'{\n "a": NaN\n}\n'],
)
def test_what_is_no_bundle_is_refused(content: bytes) -> None:
    """Whatever is in the file, the answer is a sentence."""
    assert len(verifier.examine(content, str(LOG_KEY.public), str(WITNESS_KEY.public))[1]) == 1


def test_the_script_says_yes_and_no(world: World, tmp_path: Path) -> None:
    """Run by itself: 0 and an account for the bundle, 1 and a reason for a spoiled one, 2 for no file."""
    keys = ["--log-key", str(LOG_KEY.public), "--witness-key", str(WITNESS_KEY.public)]
    good, bad, key = tmp_path / "good.json", tmp_path / "bad.json", tmp_path / "log.key"
    good.write_bytes(verifier.canonical(world.bundle(7)))
    bad.write_bytes(good.read_bytes().replace(b"fraud.requests/2/1007", b"fraud.requests/2/1008"))
    key.write_text(f"{LOG_KEY.public}\n")
    yes = run(str(good), "--log-key", str(key), *keys[2:])
    assert (yes.returncode, yes.stderr) == (0, "")
    assert "approved for fraud by bob" in yes.stdout and yes.stdout.endswith("Everything above holds.\n")
    assert json.loads(run(str(good), *keys, "--json").stdout)["name"] == "fraud.requests/2/1007"
    no = run(str(bad), *keys)
    assert (no.returncode, no.stderr) == (1, "")
    assert no.stdout == "WRONG: the result of fraud.requests/2/1008: it answers another request\n"
    assert run(str(tmp_path / "none.json"), *keys).returncode == 2


def test_the_script_stands_alone() -> None:
    """It imports the standard library and `cryptography`, and nothing of the platform."""
    tree = ast.parse(SCRIPT.read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    tops = {name.partition(".")[0] for name in names}
    assert tops - set(sys.stdlib_module_names) == {"cryptography"}


def test_the_script_knows_the_entrys_schema() -> None:
    """The entry's schema is fixed on both sides; names of fields and their types are the same."""
    assert json.loads(SCHEMA)["fields"] == verifier.ENTRY["fields"]


@given(st.integers(1, 200), st.data())
def test_inclusion_agrees_with_the_platforms_tree(size: int, data: st.DataObject) -> None:
    """The script's own check takes the tree's paths, and no path for another place."""
    hashes = [merkle.leaf_hash(bytes([n % 256, n // 256])) for n in range(size)]
    index = data.draw(st.integers(0, size - 1))
    path, root = merkle.inclusion_path(hashes, index), merkle.root(hashes)
    verifier.check_inclusion(hashes[index], index, size, path, root, "it")
    other = data.draw(st.integers(0, size))
    if other != index:
        with pytest.raises(verifier.Wrong):
            verifier.check_inclusion(hashes[index], other, size, path, root, "it")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/*.json")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_example_event_reads_as_the_platform_reads_it(path: Path) -> None:
    """The script's small Avro reader and the platform's give the same values for every event there is."""
    kind = {each.__name__: each for each in BY_SCHEMA_ID.values()}[path.parent.name]
    event = msgspec.json.decode(path.read_bytes(), type=kind)
    body = rows.encode(event)[5:]
    read = verifier.Avro.read(json.loads(kind.SCHEMA), body)
    assert read == in_milliseconds(rows.read_record(kind.SCHEMA, body))
    with pytest.raises(verifier.Wrong):
        verifier.Avro.read(json.loads(kind.SCHEMA), body + b"\x00")


def in_milliseconds(value: Any) -> Any:
    """Return what the platform's reader gives, with times as numbers."""
    if isinstance(value, dict):
        return {name: in_milliseconds(each) for name, each in value.items()}
    if isinstance(value, list):
        return [in_milliseconds(each) for each in value]
    return milliseconds(value) if isinstance(value, datetime) else value
