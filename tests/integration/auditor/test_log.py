"""The log on real servers: each record entered once whatever dies, each entry provable, each gap told."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime

import asyncpg
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete

from interlock import merkle
from interlock.ids import uuid7
from interlock.schemas.events import BuildStarted
from interlock_auditor.checkpoint import Checkpoint, VerifierKey
from interlock_auditor.log_writer import CONTROL_TOPICS
from tests.integration.auditor.rig import DIGEST, Room, batch, model_created
from tests.integration.control.conftest import until

pytestmark = pytest.mark.timeout(300)

KILLS = 6


async def test_an_entry_is_proved_from_its_record_to_the_cosigned_head(room: Room) -> None:
    """What the topic holds is what the entry says, and its path leads to the root that both keys signed."""
    before = (await room.head())["size"]
    await room.say([model_created(1), _build(1)])
    head = await room.until_state("witnessed", size=before + 2)
    entries = await room.get("/v1/entries", first=head["size"] - 2)
    assert {(each["action"], each["actor"], each["source"]) for each in entries} == {
        ("ModelCreated", "olga", "/interlock/test"),
        ("BuildStarted", "olga", "/interlock/test"),
    }
    assert {each["subject"] for each in entries} == {"m1//", "m1/1/"}
    proved = await room.get(f"/v1/entries/{head['size'] - 1}")
    checkpoint = Checkpoint.parse(proved["note"])
    leaf = merkle.leaf_hash(bytes.fromhex(proved["entry"]))
    path = [bytes.fromhex(each) for each in proved["path"]]
    assert merkle.verify_inclusion(leaf, proved["seq"], checkpoint.size, path, checkpoint.root)
    VerifierKey.parse(head["key"]).check(proved["note"])
    assert VerifierKey.parse(head["witness_key"]).check(proved["note"]) is not None
    grown = await room.get("/v1/proofs/consistency", old=1, new=head["size"])
    assert merkle.verify_consistency(
        1,
        bytes.fromhex(grown["old_root"]),
        head["size"],
        bytes.fromhex(grown["root"]),
        [bytes.fromhex(each) for each in grown["path"]],
    )


async def test_batches_of_an_endpoint_are_joined_and_found_by_request(room: Room) -> None:
    """An endpoint that comes up is followed; a gap in a lane's chain of batches is told with its offsets."""
    name = f"e{uuid7()[-8:]}"
    await room.endpoint(name)
    await room.say([batch(name, 0, 0, 5), batch(name, 0, 5, 9), batch(name, 0, 11, 20)])
    head = await room.until_state("witnessed")

    async def entered() -> bool:
        return len(await room.get("/v1/entries", endpoint=name, action="BatchAnswered")) == 3

    await until(entered, 90)
    assert not [gap for gap in head["gaps"] if gap["topic"].startswith("interlock.")]
    told = [gap for gap in (await room.head())["gaps"] if gap["topic"] == f"{name}.requests"]
    assert [(gap["from_offset"], gap["next_offset"]) for gap in told] == [(9, 11)]


@pytest.mark.fault
async def test_every_record_is_entered_once_though_auditors_are_killed(room: Room) -> None:
    """Two auditors, killed again and again under load: no record twice, none left out, the replay has the same root."""
    chance = random.Random(4)
    name = f"e{uuid7()[-8:]}"
    await room.endpoint(name, partitions=3)
    other = room.another("other")
    other.start()

    async def load() -> None:
        for number in range(150):
            events = [batch(name, part, number * 10, number * 10 + 10) for part in range(3)]
            await room.say([*events, model_created(number), _build(number)])

    async def kill() -> None:
        for number in range(KILLS):
            await asyncio.sleep(chance.uniform(0.4, 1.2))
            victim = (room.auditor, other)[number % 2]
            victim.kill()
            victim.start()

    try:
        await asyncio.gather(load(), kill())
        topics = [*CONTROL_TOPICS, f"{name}.batches"]
        there = await room.records(topics)

        async def all_entered() -> bool:
            return there <= set(await room.coordinates())

        await until(all_entered, 60)
        other.kill()
        await room.until_state("witnessed")
    finally:
        other.end()
    entered = await room.coordinates()
    assert len(entered) == len(set(entered))
    assert {each for each in entered if each[0] in topics} == there
    report = await room.verify(replay=True)
    assert (report.findings, report.gone) == ([], 0)
    assert report.replayed_root == report.root
    assert report.rows == len(entered) == report.replayed


async def test_an_hour_away_is_caught_up_without_a_gap(room: Room) -> None:
    """The auditor is down while thousands of records come; back, it enters every one in order."""
    before = (await room.head())["size"]
    room.auditor.kill()
    for number in range(10):
        await room.say([model_created(number * 300 + each) for each in range(300)])
    room.auditor.start()
    head = await room.until_state("witnessed", size=before + 3000)
    assert head["gaps"] == [gap for gap in head["gaps"] if not gap["topic"].startswith("interlock.")]
    assert (await room.verify()).findings == []


async def test_the_role_can_neither_change_nor_remove_a_row(room: Room) -> None:
    """UPDATE, DELETE and TRUNCATE are refused to the auditor's role, and by trigger even to the owner."""
    for dsn in (room.dsn, room.owner_dsn):
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute("SET search_path = auditor")
            for statement in ("UPDATE entries SET actor = 'x'", "DELETE FROM entries", "TRUNCATE entries"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)
        finally:
            await connection.close()


async def test_records_that_kafka_has_dropped_are_told_as_a_gap(room: Room) -> None:
    """Records deleted while nobody read them are missing for ever: the log says which, and goes on behind them."""
    name = f"e{uuid7()[-8:]}"
    await room.endpoint(name, partitions=1)
    await room.say([batch(name, 0, 0, 5)])

    async def entered() -> bool:
        return bool(await room.get("/v1/entries", endpoint=name, action="BatchAnswered"))

    await until(entered, 90)
    room.auditor.stop()
    for number in range(1, 5):
        await room.say([batch(name, 0, number * 5, number * 5 + 5)])
    admin = AIOKafkaAdminClient(bootstrap_servers=room.settings.kafka_bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(f"{name}.batches", 0): RecordsToDelete(before_offset=6)})
    finally:
        await admin.close()
    room.auditor.start()

    async def told() -> bool:
        gaps = (await room.head()).get("gaps", [])
        return {(gap["topic"], gap["next_offset"]) for gap in gaps} >= {
            (f"{name}.batches", 6),
            (f"{name}.requests", 15),
        }

    await until(told, 90)
    await room.until_state("witnessed")


def _build(number: int) -> BuildStarted:
    return BuildStarted(model=f"m{number}", version=1, digest=DIGEST, attempt=1, at=datetime.now(UTC))
