"""The commands over HTTP, on real Postgres: who may, what follows, what is refused and why."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from interlock.cause import Cause
from interlock.clock import SystemClock
from interlock.ids import digest_of, version_digest
from interlock.postgres import journal
from interlock.schemas.events import (
    DeployFailed,
    DriftCleared,
    RouteCause,
    RouteChanged,
    Verdict,
    WitnessLost,
    WitnessReturned,
)
from interlock_registry import handlers
from interlock_registry.model import Pushed
from tests.integration.registry.checkout import MANIFEST
from tests.integration.registry.room import Room, registry


async def pushed(room: Room, version: int, author: str = "ann", extra: str = "", name: str = "fraud") -> str:
    """Register a version as a push would, without git; return its digest."""
    text = MANIFEST.format(name=name, version=version).replace("[[outputs]]", f"{extra}\n[[outputs]]", 1).encode()
    artifact = f"model {version}".encode()
    brought = Pushed(
        model=name, owner="risk", version=version, digest=version_digest(text, artifact), manifest=text.decode(),
        manifest_digest=room.blobs.put(text), artifact_digest=digest_of(artifact), artifact_format="onnx",
        artifact_bytes=len(artifact), commit="c0ffee", author=author, files={"model.onnx": room.blobs.put(artifact)},
    )  # fmt: skip
    async with journal.unit(room.pool, Cause.start(author)) as unit:
        await handlers.register(brought, unit)
    return brought.digest


async def ask(room: Room, subject: str, role: str, path: str, body: dict[str, Any], **headers: str) -> tuple[int, Any]:
    """Send a command; return its status and answer."""
    async with room.client(subject, role) as client:
        answer = await client.post(path, json=body, headers=headers)
    return answer.status_code, answer.json()


async def approve(room: Room, version: int, subject: str = "bob") -> tuple[int, Any]:
    return await ask(room, subject, "approver", f"/v1/models/fraud/versions/{version}/approvals", {"endpoint": "fraud"})


async def create(room: Room) -> None:
    status, _ = await ask(
        room, "otto", "operator", "/v1/endpoints", {"name": "fraud", "model": "fraud", "partitions": 4}
    )
    assert status == 202


async def proven(room: Room, version: int) -> str:
    digest = await pushed(room, version)
    await room.build("fraud", version, digest)
    return digest


async def get(room: Room, path: str) -> Any:
    async with room.client("eve") as client:
        return (await client.get(path)).json()


async def route(room: Room, epoch: int, champion: int, previous: int | None = None) -> None:
    await room.hear(
        RouteChanged(
            endpoint="fraud", epoch=epoch, champion_version=champion, previous_version=previous,
            cause=RouteCause.PROMOTION, promotion=epoch, at=SystemClock().now(),
        )
    )  # fmt: skip


async def test_from_approval_to_promotion_and_back(room: Room) -> None:
    """The whole walk by four people, each with one role, as the timeline tells it."""
    first = await proven(room, 1)
    await create(room)
    assert (await approve(room, 1))[0] == 202
    status, answer = await ask(room, "otto", "operator", "/v1/endpoints/fraud/promotions", {"version": 1})
    assert (status, answer["digest"], answer["promotion"]) == (202, first, 1)
    shown = await get(room, "/v1/endpoints/fraud")
    assert (shown["champion"], shown["asked"]) == (None, {"version": 1, "promotion": 1})
    await route(room, 1, 1)
    assert (await get(room, "/v1/endpoints/fraud"))["champion"] == {"version": 1, "digest": first, "epoch": 1}
    await proven(room, 2)
    await approve(room, 2)
    assert (await ask(room, "otto", "operator", "/v1/endpoints/fraud/promotions", {"version": 2}))[0] == 202
    await route(room, 2, 2, 1)
    status, answer = await ask(room, "otto", "operator", "/v1/endpoints/fraud/rollbacks", {"reason": "drift"})
    assert (status, answer["from_version"], answer["version"], answer["promotion"]) == (202, 2, 1, 3)
    told = await get(room, "/v1/timeline?endpoint=fraud")
    assert [entry["type"] for entry in told["entries"]] == [
        "EndpointCreated", "VersionApproved", "VersionPromoted", "RouteChanged",
        "VersionApproved", "VersionPromoted", "RouteChanged", "RollbackOrdered",
    ]  # fmt: skip
    positions = [entry["position"] for entry in told["entries"]]
    assert positions == sorted(positions)
    published = await room.pool.fetch("SELECT topic, key FROM outbox ORDER BY position")
    assert {(row["topic"], row["key"]) for row in published} == {("interlock.model.events", "fraud")}


async def test_promotions_wait_for_the_witness_and_rollbacks_do_not(room: Room) -> None:
    """While the audit log has no witness a promotion is refused, saying since when and why; the way back is open."""
    await proven(room, 1)
    await proven(room, 2)
    await create(room)
    for number in (1, 2):
        assert (await approve(room, number))[0] == 202
    assert (await ask(room, "otto", "operator", "/v1/endpoints/fraud/promotions", {"version": 1}))[0] == 202
    assert (await ask(room, "otto", "operator", "/v1/endpoints/fraud/promotions", {"version": 2}))[0] == 202
    await route(room, 1, 1)
    await route(room, 2, 2, 1)
    now = SystemClock().now()
    await room.hear(WitnessLost(log="here/audit", size=10, detail="it does not answer", at=now))
    status, problem = await ask(room, "otto", "operator", "/v1/endpoints/fraud/promotions", {"version": 1})
    assert (status, problem["code"]) == (409, "AUDIT_UNWITNESSED")
    assert "it does not answer" in problem["detail"]
    assert (await ask(room, "otto", "operator", "/v1/endpoints/fraud/rollbacks", {"reason": "x"}))[0] == 202
    await room.hear(WitnessReturned(log="here/audit", size=12, at=now + timedelta(seconds=1)))
    await room.hear(WitnessLost(log="here/audit", size=10, detail="old news", at=now - timedelta(seconds=1)))
    assert (await ask(room, "otto", "operator", "/v1/endpoints/fraud/promotions", {"version": 2}))[0] == 202


async def test_drift_stands_in_the_timeline(room: Room) -> None:
    """What the monitor says about a version can be followed like everything else."""
    await proven(room, 1)
    await create(room)
    now = SystemClock().now()
    await room.hear(
        DriftCleared(
            endpoint="fraud", model="fraud", version=1, digest="sha256:1", arm="champion", window_start=now,
            window_end=now, detected_at=now, features=("amount",), at=now,
        )
    )  # fmt: skip
    entries = (await get(room, "/v1/timeline?endpoint=fraud&newest=1"))["entries"]
    assert [(each["type"], each["event"]["features"]) for each in entries] == [("DriftCleared", ["amount"])]


async def test_each_refusal_says_why_with_its_number(room: Room) -> None:
    """Own approval, no approval, a failed gate, no previous version, a missing role, unknown names."""
    digest = await pushed(room, 1)
    await create(room)
    status, answer = await approve(room, 1)
    assert (status, answer["code"]) == (409, "NOT_PROVEN")
    await room.build("fraud", 1, digest, gates={"auc": Verdict.FAIL})
    status, answer = await approve(room, 1)
    assert status == 409
    assert "gate auc: auc 0.810 < 0.900 FAIL" in answer["detail"]
    status, answer = await ask(room, "otto", "operator", "/v1/endpoints/fraud/promotions", {"version": 1})
    assert (status, answer["code"]) == (409, "NOT_PROVEN")
    await proven(room, 2)
    status, answer = await approve(room, 2, "ann")
    assert (status, answer["code"]) == (403, "OWN_APPROVAL")
    assert answer["detail"] == "ann is the author of fraud version 2."
    status, answer = await ask(room, "otto", "operator", "/v1/endpoints/fraud/promotions", {"version": 2})
    assert (status, answer["code"]) == (409, "NOT_APPROVED")
    status, answer = await ask(room, "otto", "operator", "/v1/endpoints/fraud/rollbacks", {"reason": ""})
    assert (status, answer["code"]) == (409, "NO_WAY_BACK")
    status, answer = await ask(room, "bob", "approver", "/v1/endpoints/fraud/promotions", {"version": 2})
    assert (status, answer["code"], answer["needed"]) == (403, "ROLE_MISSING", ["operator"])
    for path, code in (
        ("endpoints/x", "ENDPOINT_UNKNOWN"),
        ("models/x", "MODEL_UNKNOWN"),
        ("models/fraud/versions/9", "VERSION_UNKNOWN"),
    ):
        assert (await get(room, f"/v1/{path}"))["code"] == code
    status, answer = await ask(room, "otto", "operator", "/v1/endpoints", {"name": "A!", "model": "fraud"})
    assert (status, answer["code"]) == (422, "NAME_INVALID")


async def test_a_command_with_its_key_is_carried_out_once(room: Room) -> None:
    """Ten times at the same time: one promotion, ten equal answers; the key with another body is refused."""
    await proven(room, 1)
    await create(room)
    await approve(room, 1)
    path, key = "/v1/endpoints/fraud/promotions", {"Idempotency-Key": "k1"}
    answers = await asyncio.gather(*(ask(room, "otto", "operator", path, {"version": 1}, **key) for _ in range(10)))
    assert all(answer == answers[0] and answer[0] == 202 for answer in answers)
    assert (await get(room, "/v1/endpoints/fraud"))["asked"]["promotion"] == 1
    status, answer = await ask(room, "otto", "operator", path, {"version": 2}, **key)
    assert (status, answer["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")


async def test_an_event_heard_twice_changes_nothing(room: Room) -> None:
    """The timeline holds it once, and the state is what it was."""
    await proven(room, 1)
    await create(room)
    await route(room, 2, 1)
    await route(room, 1, 1)
    event = DeployFailed(
        endpoint="fraud", model="fraud", version=1, digest="d", code="WARM", detail="slow", at=SystemClock().now()
    )
    await room.hear(event)
    shown = await get(room, "/v1/endpoints/fraud")
    assert (shown["route_epoch"], shown["failure"]) == (2, "version 1: WARM: slow")
    cause = Cause.start("deployer")
    async with journal.unit(room.pool, cause, consumer="once") as unit:
        await handlers.on_deploy_failed(event, unit)
    with pytest.raises(journal.Duplicate):
        async with journal.unit(room.pool, cause, consumer="once") as unit:
            await handlers.on_deploy_failed(event, unit)


async def test_an_endpoint_shows_the_schemas_its_callers_need(room: Room) -> None:
    """The subjects are registered with the endpoint; the ids are those of the schema registry."""
    await pushed(room, 1)
    await create(room)
    shown = await get(room, "/v1/endpoints/fraud")
    assert [field["name"] for field in shown["request_schema"]["fields"]] == [
        "request_id",
        "requested_at",
        "amount",
        "country",
    ]
    assert shown["request_schema_id"] >= 1000
    assert shown["topics"] == {
        "requests": "fraud.requests",
        "results": "fraud.results",
        "dead_letters": "fraud.dead-letters",
    }
    subject = await get(room, "/schema-registry/subjects/fraud.results-value/versions/latest")
    assert subject["id"] == shown["result_schema_id"]
    assert (await get(room, "/schema-registry/subjects/fraud.dead-letters-value/versions/latest"))["id"] < 1000


async def test_a_signature_that_breaks_the_callers_is_refused_at_approval(room: Room) -> None:
    """A new input must be nullable once a version has been approved; before that the newest push rules."""
    plain = '\n[[inputs]]\nname = "{name}"\ntype = "double"\n{more}\n'
    await pushed(room, 1)
    await create(room)
    digest = await pushed(room, 2, extra=plain.format(name="merchant", more=""))
    fields = [field["name"] for field in (await get(room, "/v1/endpoints/fraud"))["request_schema"]["fields"]]
    assert fields[-1] == "merchant"
    await room.build("fraud", 2, digest)
    assert (await approve(room, 2))[0] == 202
    extra = plain.format(name="merchant", more="") + plain.format(name="age", more="")
    await room.build("fraud", 3, await pushed(room, 3, extra=extra))
    status, answer = await approve(room, 3)
    assert (status, answer["code"]) == (409, "SIGNATURE_INCOMPATIBLE")
    assert "age" in answer["detail"]
    extra = plain.format(name="merchant", more="") + plain.format(name="age", more="nullable = true")
    await room.build("fraud", 4, await pushed(room, 4, extra=extra))
    assert (await approve(room, 4))[0] == 202
    fields = [field["name"] for field in (await get(room, "/v1/endpoints/fraud"))["request_schema"]["fields"]]
    assert fields[-1] == "age"


async def test_a_reader_of_the_timeline_waits_for_the_next_event(room: Room) -> None:
    """The long poll answers as soon as there is something, and at its end where there is nothing."""
    digest = await pushed(room, 1)
    end = (await get(room, "/v1/timeline"))["position"]
    loop = asyncio.get_running_loop()
    started = loop.time()
    waiting = asyncio.create_task(get(room, f"/v1/timeline?after={end}&wait_seconds=20"))
    await asyncio.sleep(0.3)
    await room.build("fraud", 1, digest)
    found = await waiting
    assert found["entries"][0]["type"] == "BuildStarted"
    assert loop.time() - started < 10
    empty = await get(room, f"/v1/timeline?after={found['position'] + 99}&wait_seconds=0.2")
    assert (empty["entries"], empty["position"]) == ([], found["position"] + 99)


async def test_many_writers_leave_no_gap_behind_a_reader(room: Room) -> None:
    """A reader who goes on from each answer's position sees every entry of 40 concurrent registrations."""
    seen: list[int] = []

    async def read() -> None:
        after = 0
        async with room.client("eve") as client:
            while len(seen) < 41:
                part = (await client.get(f"/v1/timeline?after={after}&wait_seconds=5")).json()
                seen.extend(entry["position"] for entry in part["entries"])
                after = part["position"]

    reader = asyncio.create_task(read())
    await asyncio.gather(*(pushed(room, number) for number in range(1, 41)))
    await asyncio.wait_for(reader, 30)
    assert seen == sorted(seen)
    assert len(set(seen)) == 41


async def test_live_figures_and_blobs_are_shown(room: Room) -> None:
    """Figures come from the cache, blobs by digest; what is not there is a 404."""
    await pushed(room, 1)
    await create(room)
    await room.cache.put_live("live:fraud:r1", {"endpoint": "fraud", "lag": 0}, 30)
    assert (await get(room, "/v1/endpoints/fraud/live"))["instances"] == [{"endpoint": "fraud", "lag": 0}]
    assert (await get(room, f"/v1/blobs/sha256:{'0' * 64}"))["code"] == "BLOB_MISSING"
    async with room.client("eve") as client:
        document = (await client.get("/openapi.json")).json()
    assert "/v1/endpoints/{endpoint}/promotions" in document["paths"]


async def test_no_route_answers_without_a_token(servers: dict[str, str], tmp_path: Path) -> None:
    """Every route but health, metrics and the OpenAPI document asks who is there."""
    import httpx

    async with (
        registry(servers, tmp_path / "r") as room,
        httpx.AsyncClient(base_url=room.url, trust_env=False) as client,
    ):
        document = (await client.get("/openapi.json")).json()
        for path, methods in document["paths"].items():
            for method in methods:
                answer = await client.request(method, path.replace("{version}", "1").replace("{number}", "1"), json={})
                open_to_all = path in ("/livez", "/readyz", "/metrics")
                assert (answer.status_code == 401) is not open_to_all, (method, path, answer.status_code)
