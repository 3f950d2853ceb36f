"""Drift as the service tells it: detected with the features to blame, cleared, and quiet where there is no evidence."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from interlock.blobs import Blobs
from tests.integration.monitor.rig import (
    BASE,
    WINDOW,
    Feed,
    Monitor,
    Room,
    counted,
    endpoint_name,
    profile,
    sample,
    until,
)

pytestmark = pytest.mark.timeout(240)

ROWS = 400


async def built(room: Room, feed: Feed) -> None:
    """Give version 1 a reference profile."""
    digest = Blobs(room.settings.blob_folder).put(profile(sample(99, 20_000)))
    await feed.built(1, digest)


async def window(feed: Feed, number: int, features: Any) -> None:
    """Fill one window."""
    await feed.batch(0, BASE + number * WINDOW + np.arange(len(features)), features)


async def told(room: Room, kind: str) -> list[dict[str, Any]]:
    """Return the events of a kind that were appended."""
    found = await room.fetch("SELECT event FROM journal WHERE type LIKE '%' || $1 || '%' ORDER BY position", kind)
    return [msgspec.json.decode(row["event"]) for row in found]


async def judged(monitor: Monitor, feed: Feed, windows: int) -> None:
    """Wait until so many windows are closed."""

    async def look() -> bool:
        found = (await monitor.answer(f"{feed.endpoint}/windows"))["windows"]
        return len(found) == windows and not any(each["open"] for each in found)

    await until(look)


async def test_a_shift_is_detected_with_its_feature_and_cleared(room: Room) -> None:
    """Half a sigma in one of three features: said once, with that feature (and the score, which follows it) blamed."""
    async with Feed(room.settings, endpoint_name(), partitions=1) as feed:
        await feed.route()
        await built(room, feed)
        for number, shift in enumerate((0.0, 0.0, 0.5, 0.5, 0.0, 0.0, 0.0)):
            await window(feed, number, sample(number, 1000, shift))
        monitor = await room.start()
        try:
            await counted(monitor, feed)
            await judged(monitor, feed, 7)
            (detected,) = await told(room, "drift_detected")
            assert {each["feature"] for each in detected["features"]} == {"amount", "score"}
            (cleared,) = await told(room, "drift_cleared")
            assert set(cleared["features"]) == {"amount", "score"}
            (version,) = (await monitor.answer(f"{feed.endpoint}/drift"))["versions"]
            assert version["state"] == "clear" and {each["feature"] for each in version["features"]} >= {"hour", "age"}
            shares = version["features"][0]["histogram"]
            assert sum(shares["window"]) == pytest.approx(1) and sum(shares["reference"]) == pytest.approx(1)
        finally:
            await monitor.stop()


async def test_no_evidence_no_alarm(room: Room) -> None:
    """Three events far off are too few; a version without profile has no reference; both are said and alarm nobody."""
    async with Feed(room.settings, endpoint_name(), partitions=1) as feed:
        await feed.route()
        await built(room, feed)
        await window(feed, 0, sample(1, 3, 50.0))
        await feed.batch(0, BASE + np.arange(ROWS), sample(2, ROWS, 50.0), version=2)
        monitor = await room.start()
        try:
            await counted(monitor, feed)
            await judged(monitor, feed, 2)
            states = {each["version"]: each for each in (await monitor.answer(f"{feed.endpoint}/drift"))["versions"]}
            assert states[1]["state"] == "too_few_rows" and states[1]["blamed"] == []
            assert states[2]["state"] == "no_reference" and states[2]["features"] == []
            assert not await told(room, "drift_detected")
        finally:
            await monitor.stop()


async def test_a_feature_that_turns_into_nothing_or_one_value(room: Room) -> None:
    """One feature becomes NaN and another constant: both are named, by what happened to them."""
    async with Feed(room.settings, endpoint_name(), partitions=1) as feed:
        await feed.route()
        await built(room, feed)
        features = sample(5, ROWS)
        features[:, 1] = np.nan
        features[:, 2] = 40.0
        await window(feed, 0, features)
        monitor = await room.start()
        try:
            await counted(monitor, feed)
            await judged(monitor, feed, 1)
            (version,) = (await monitor.answer(f"{feed.endpoint}/drift"))["versions"]
            assert version["state"] == "drift" and set(version["blamed"]) == {"hour", "age"}
            measured = {each["feature"]: each for each in version["features"]}
            assert measured["hour"]["statistic"] == "missing" and measured["hour"]["missing_rate"] == 1.0
            assert measured["age"]["statistic"] == "ks" and measured["age"]["drifted"]
        finally:
            await monitor.stop()
