"""The lane on a real Kafka: every request exactly one result, whatever is in it and whatever its version does."""

from __future__ import annotations

from collections import Counter, defaultdict

from tests.integration.router.rig import Rig, RunningRouter, exactly_once, version_digest


async def test_every_request_is_answered_once_in_order_and_says_by_whom(rig: Rig) -> None:
    """5,000 requests: one result each, key order kept, provenance right, the version's own low digits agree."""
    rig.serving.add("m", 1)
    rig.route((1, 10_000))
    async with RunningRouter(rig):
        rig.produce([rig.value(number) for number in range(5000)])
        results = await rig.results(5000)
    exactly_once(results, 5000)
    offsets: dict[bytes, list[int]] = defaultdict(list)
    for row in sorted(results, key=lambda each: (each["_partition"], each["_offset"])):
        number = int(row["request_id"][1:])
        assert row["score"] == number + 0.001
        assert (row["endpoint"], row["model"], row["version"], row["arm"]) == (rig.endpoint, "m", 1, "champion")
        assert (row["digest"], row["epoch"], row["topic"]) == (version_digest(1), 1, rig.topic("requests"))
        assert row["requested_at"].timestamp() * 1000 == 1_700_000_000_000 + number
        assert row["request_schema_id"] == 1001 and row["rejection"] is None and row["dead_letter"] is None
        offsets[row["_key"]].append(row["offset"])
    assert all(found == sorted(found) for found in offsets.values())
    assert len(rig.serving.calls) < 500  # rows went to the version in batches


async def test_arms_share_the_keys_by_weight_and_a_key_keeps_its_arm(rig: Rig) -> None:
    """Two arms at 7:3: each key is answered by one of them, the shares are near the weights."""
    rig.serving.add("m", 1)
    rig.serving.add("m", 2)
    rig.route((1, 7_000), (2, 3_000))
    async with RunningRouter(rig):
        rig.produce([rig.value(number) for number in range(4000)], keys=lambda index: f"card-{index % 1000}")
        results = await rig.results(4000)
    exactly_once(results, 4000)
    versions: dict[bytes, set[int]] = defaultdict(set)
    for row in results:
        versions[row["_key"]].add(row["version"])
        assert round(row["score"] % 1 * 1000) == row["version"]
    assert all(len(each) == 1 for each in versions.values())
    share = Counter(next(iter(each)) for each in versions.values())[2] / 1000
    assert 0.25 < share < 0.35


async def test_a_new_route_changes_the_version_between_batches_and_an_old_one_changes_nothing(rig: Rig) -> None:
    """After epoch 2 every answer comes from version 2; a late epoch 1 is not taken."""
    rig.serving.add("m", 1)
    rig.serving.add("m", 2)
    old = rig.route((1, 10_000))
    async with RunningRouter(rig):
        rig.produce([rig.value(number) for number in range(200)])
        await rig.results(200)
        rig.route((2, 10_000))
        assert not rig.routes.apply(old)
        rig.produce([rig.value(number) for number in range(200, 400)])
        results = await rig.results(400)
    exactly_once(results, 400)
    for row in results:
        assert (row["version"], row["epoch"]) == ((1, 1) if int(row["request_id"][1:]) < 200 else (2, 2))
        assert round(row["score"] % 1 * 1000) == row["version"]
