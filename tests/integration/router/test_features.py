"""Online features on a real Kafka and Valkey: fed by the topic, joined in the lane, and what was used is said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from interlock.codec.observations import columns
from interlock.codec.rows import decode, encode
from interlock.ids import uuid7
from interlock.schemas.events import FeatureUpdated
from tests.integration.router.feature_rig import DEFAULTS, FeatureRig, FeatureRouter, check, feature_rig, missing_of
from tests.integration.router.rig import exactly_once

EVERYTHING = {"spent": 80.5, "visits": 7.0, "home": 0.0, "mood": 0.25}


@pytest.fixture
async def rig(servers: dict[str, str]) -> AsyncIterator[FeatureRig]:
    """An endpoint with online inputs."""
    with feature_rig(servers["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"], servers["INTERLOCK_REDIS_URL"]) as made:
        await made.create()
        yield made


async def ask(rig: FeatureRig, *keys: str) -> list[dict[str, Any]]:
    """Send one request for each key, numbered on from what was sent; return their results in order."""
    first = rig.asked
    rig.asked += len(keys)
    rig.produce([rig.value(number) for number in range(first, rig.asked)], lambda index: keys[index])
    results = {int(row["request_id"][1:]): row for row in await rig.results(rig.asked)}
    assert len(results) == rig.asked
    found = [results[number] for number in range(first, rig.asked)]
    for row in found:
        check(row)
    return found


async def test_what_the_topic_says_is_what_the_model_gets(rig: FeatureRig) -> None:
    """Each entity its own values; one nobody knows gets the declared defaults, and its result says so."""
    async with FeatureRouter(rig):
        for number in range(200):
            rig.feed(f"card-{number}", 2.0, **{**EVERYTHING, "spent": float(number)})
        await rig.fed()
        results = await ask(rig, *(f"card-{number}" for number in range(200)), "stranger")
    exactly_once(results, 201)
    _observed_as_said(rig, results)
    for number, row in enumerate(results[:200]):
        assert (row["online_spent"], row["online_visits"], row["online_home"], row["online_mood"]) == (
            float(number),
            7.0,
            0.0,
            0.25,
        )
        assert row["features_missing"] == 0 and 2_000 <= row["features_age_milliseconds"] < 20_000
    assert missing_of(results[200]) == set(DEFAULTS) and results[200]["features_age_milliseconds"] is None


def _observed_as_said(rig: FeatureRig, results: list[dict[str, Any]]) -> None:
    """Check that the monitor is told the values that the results name."""
    spent = {(row["partition"], row["offset"]): row["online_spent"] for row in results}
    seen = {}
    for record in rig.read("observations", 2):
        told = decode(record.value())
        for group in told.groups:
            read = columns(group)
            assert read.features is not None
            place = group.feature_names.index("spent")
            offsets = [told.from_offset + offset for offset in read.offsets.tolist()]
            seen.update({(told.partition, at): value for at, value in zip(offsets, read.features[place], strict=True)})
    assert seen == spent


async def test_older_never_replaces_newer_whatever_the_order(rig: FeatureRig) -> None:
    """Updates arrive newest first; names not named keep theirs; null takes a value away, for older ones too."""
    async with FeatureRouter(rig):
        rig.feed("a", 10.0, spent=10.0, visits=1.0)
        rig.feed("a", 60.0, spent=60.0, home=0.0)
        rig.feed("a", 30.0, spent=30.0, mood=None)
        rig.feed("a", 40.0, mood=0.5)
        rig.feed("b", 5.0, **EVERYTHING)
        await rig.fed()
        first, second = await ask(rig, "a", "b")
        rig.feed_bytes("b", None)
        await rig.fed()
        third = (await ask(rig, "b"))[0]
    assert (first["online_spent"], first["online_visits"], first["online_home"]) == (10.0, 1.0, 0.0)
    assert missing_of(first) == {"mood"} and 60_000 <= first["features_age_milliseconds"] < 75_000
    assert not missing_of(second)
    assert missing_of(third) == set(DEFAULTS), "a tombstone takes the whole entity away"


async def test_too_old_and_unfit_values_are_missing(rig: FeatureRig) -> None:
    """Older than age_seconds_max, a broken count, a boolean of one half: the default, and the bit."""
    async with FeatureRouter(rig):
        rig.feed("old", 601.0, **EVERYTHING)
        rig.feed("odd", 1.0, **{**EVERYTHING, "visits": 2.5, "home": 0.5})
        await rig.fed()
        old, odd = await ask(rig, "old", "odd")
    assert missing_of(old) == {"visits"} and old["online_visits"] == DEFAULTS["visits"]
    assert missing_of(odd) == {"visits", "home"}


async def test_records_that_say_nothing_sensible_are_left_out_and_the_rest_is_fed(rig: FeatureRig) -> None:
    """Rubbish, another endpoint's, infinity, the future, no entity: none is stored, and none stops the feeder."""
    async with FeatureRouter(rig):
        at = rig.feed("good", 1.0, **EVERYTHING)
        rig.feed_bytes("good", b"rubbish")
        rig.feed_bytes("good", encode(FeatureUpdated(endpoint="other", entity="good", values={"spent": 1.0}, at=at)))
        rig.feed("good", 0.0, spent=float("inf"))
        rig.feed("good", -7200.0, spent=99.0)
        rig.feed("", 0.0, spent=1.0)
        rig.feed("x" * 2000, 0.0, spent=1.0)
        rig.feed("good", 0.5, visits=8.0)
        await rig.fed()
        row = (await ask(rig, "good"))[0]
    assert (row["online_spent"], row["online_visits"]) == (80.5, 8.0)


async def test_a_flushed_store_is_noticed_and_filled_again(rig: FeatureRig) -> None:
    """FLUSHALL: the feeder reads the topic again from its beginning, and the values are what they were."""
    entities = [f"card-{number}" for number in range(300)]
    async with FeatureRouter(rig):
        for number, entity in enumerate(entities):
            rig.feed(entity, 1.0, **{**EVERYTHING, "spent": float(number)})
        await rig.fed()
        rig.valkey.flushall()
        await rig.fed()
        results = await ask(rig, *entities)
    assert [row["online_spent"] for row in results] == [float(number) for number in range(300)]
    assert not any(missing_of(row) for row in results)


async def test_a_store_that_came_back_older_is_brought_forward(rig: FeatureRig) -> None:
    """An older copy of store and marker, as a restored snapshot is: the feeder goes on from where the copy stands."""
    async with FeatureRouter(rig):
        rig.feed("a", 30.0, **EVERYTHING)
        await rig.fed()
        copy = {name: rig.valkey.get(name) for name in rig.valkey.keys(f"*{rig.endpoint}*")}
        rig.feed("a", 20.0, spent=20.0)
        await rig.fed()
        for name, value in copy.items():
            rig.valkey.set(name, value or b"")
        rig.feed("a", 10.0, visits=10.0)
        await rig.fed()
        row = (await ask(rig, "a"))[0]
    assert (row["online_spent"], row["online_visits"]) == (20.0, 10.0)


async def test_two_feeders_and_a_restart_agree(rig: FeatureRig) -> None:
    """Partitions go from feeder to feeder; whoever takes one over goes on from the store's marker."""
    async with FeatureRouter(rig):
        for number in range(100):
            rig.feed(f"card-{number}", 5.0, spent=float(number))
        await rig.fed()
        async with FeatureRouter(rig, group="router-" + uuid7()[-12:]):
            for number in range(100):
                rig.feed(f"card-{number}", 4.0, visits=float(number))
            await rig.fed(40.0)
        for number in range(100):
            rig.feed(f"card-{number}", 3.0, home=0.0)
        await rig.fed(40.0)
    async with FeatureRouter(rig, group="router-" + uuid7()[-12:]):
        for number in range(100):
            rig.feed(f"card-{number}", 2.0, mood=float(number))
        await rig.fed(40.0)
    for number in range(100):
        content: Any = rig.valkey.get(f"features:{rig.endpoint}:card-{number}")
        assert len(content) == 4 * 24


async def test_a_request_without_key_has_no_entity(rig: FeatureRig) -> None:
    """An entity that happens to be called as the request is none of its business."""
    async with FeatureRouter(rig):
        rig.feed("r0", 1.0, **EVERYTHING)
        await rig.fed()
        rig._producer.produce(rig.topic("requests"), value=rig.value(0))
        rig._producer.flush(10)
        row = (await rig.results(1))[0]
    check(row)
    assert missing_of(row) == set(DEFAULTS)


async def test_a_store_that_is_away_costs_defaults_and_not_time(rig: FeatureRig) -> None:
    """Nobody listens: every request is answered, from defaults, and the lane does not wait for each batch again."""
    away = "redis://127.0.0.1:9/0"
    async with FeatureRouter(rig, redis_url=_secret(away)):
        began = asyncio.get_running_loop().time()
        results = await ask(rig, *(f"card-{number}" for number in range(500)))
        assert asyncio.get_running_loop().time() - began < 15
    exactly_once(results, 500)
    assert all(missing_of(row) == set(DEFAULTS) for row in results)


def _secret(url: str) -> Any:
    from pydantic import SecretStr

    return SecretStr(url)
