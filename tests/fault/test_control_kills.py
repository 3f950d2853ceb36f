"""kill -9 in the middle of the control plane's work: a build, a promotion, a registration; none of it is lost."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from interlock.schemas.events import BuildStarted, BuildSucceeded, RouteChanged, VersionPromoted, VersionRegistered
from interlock.schemas.topics import MODEL_EVENTS
from tests.fault import numbered
from tests.fault.victims import Stack, kill_9
from tests.fault.victims import until as until_seen
from tests.integration.client.journey import people, push, until
from tests.integration.embedded.rig import psql

pytestmark = [pytest.mark.fault, pytest.mark.timeout(300)]

HOLDOUT_ROWS = 1_000_000
BACK_SECONDS_MAX = 90.0


async def test_build_whose_builder_is_killed_is_taken_over(killable: Stack, tmp_path: Path) -> None:
    """The builder dies in the middle of a build: after the lease another attempt proves the version, and only that."""
    model = "slow"
    async with people(killable.environment) as crew:
        tree = numbered.write(tmp_path / "tree", model, 1, HOLDOUT_ROWS)
        pushing = asyncio.create_task(push(killable.environment, tree, model, "1"))
        await until(lambda: numbered.heard(crew, BuildStarted, model=model), "the build has begun")
        pid = killable.pid("builder")
        kill_9(pid)
        assert not await numbered.heard(crew, BuildSucceeded, model=model), "killed too late: this proves nothing"
        await until_seen(lambda: killable.is_back("builder", pid), BACK_SECONDS_MAX, "the builder is back")
        await until(lambda: numbered.is_proven(crew, model, 1), "version 1 is proven")
        accepted, lines = await pushing
        assert accepted, lines
        assert [each["attempt"] for each in await numbered.heard(crew, BuildStarted, model=model)] == [1, 2]
        assert [each["attempt"] for each in await numbered.heard(crew, BuildSucceeded, model=model)] == [2]


async def test_route_arrives_although_the_deployer_dies_on_the_promotion(killable: Stack, tmp_path: Path) -> None:
    """The deployer is frozen, then killed, before it hears of a promotion: the next one sets the route, once."""
    model = "frozen"
    async with people(killable.environment) as crew:
        await numbered.two_versions(killable.environment, crew, tmp_path, model)
        pid = killable.pid("deployer")
        os.kill(pid, signal.SIGSTOP)
        await crew.olga.promote(model, 2)
        await until(lambda: numbered.heard(crew, VersionPromoted, endpoint=model), "the promotion is written")
        assert (await crew.olga.endpoint_details(model))["champion"]["version"] == 1
        kill_9(pid)

        async def answers() -> bool:
            return bool((await crew.olga.endpoint_details(model))["champion"]["version"] == 2)

        await until(answers, "version 2 answers")
        await until_seen(lambda: killable.is_back("deployer", pid), BACK_SECONDS_MAX, "the deployer is back")
        changes = await numbered.heard(crew, RouteChanged, endpoint=model)
        assert [(each["champion_version"], each["epoch"]) for each in changes] == [(1, 1), (2, 2)]


async def test_registration_survives_the_registry(killable: Stack, tmp_path: Path) -> None:
    """The registry dies with a registration in its outbox that Kafka had not taken: it is published all the same."""
    model = "unheard"
    unpublished = (
        "SELECT count(*) FROM registry.outbox JOIN registry.journal USING (position) "
        f"WHERE published_at IS NULL AND type = '{VersionRegistered.TYPE}' AND key = '{model}'"
    )
    async with people(killable.environment) as crew:
        tree = numbered.write(tmp_path / "tree", model, 1)
        kafka, registry = killable.pid("kafka"), killable.pid("registry")
        os.kill(kafka, signal.SIGSTOP)
        try:
            pushing = asyncio.create_task(push(killable.environment, tree, model, "1"))
            await until_seen(
                lambda: psql(killable.environment, unpublished) == "1", BACK_SECONDS_MAX, "the registration is written"
            )
            kill_9(registry)
        finally:
            os.kill(kafka, signal.SIGCONT)
        await asyncio.gather(pushing, return_exceptions=True)
        await until_seen(lambda: killable.is_back("registry", registry), BACK_SECONDS_MAX, "the registry is back")
        await until(lambda: numbered.is_proven(crew, model, 1), "the version is proven")
        (tree / "note.txt").write_text("the same version again")
        accepted, lines = await push(killable.environment, tree, model, "again")
        assert accepted, lines
        assert len(await crew.olga.versions(model)) == 1
    assert len(await asyncio.to_thread(_registrations, killable, model)) == 1


def _registrations(stack: Stack, model: str) -> set[str | bytes | None]:
    """Return the event ids of a model's registrations as a stranger reads them; a repetition has the same id."""
    consumer = Consumer(
        {
            "bootstrap.servers": stack.environment["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"],
            "group.id": "stranger",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
        }
    )
    consumer.assign([TopicPartition(MODEL_EVENTS, 0, OFFSET_BEGINNING)])
    found: set[str | bytes | None] = set()
    while True:
        message = consumer.poll(20.0)
        assert message is not None
        if message.error():
            consumer.close()
            return found
        headers = dict(message.headers() or [])
        if message.key() == model.encode() and headers["ce_type"] == VersionRegistered.TYPE.encode():
            found.add(headers["ce_id"])
