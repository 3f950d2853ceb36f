"""What can be asked of the monitor: who may ask, JSON and Parquet alike, and answers to bad questions."""

from __future__ import annotations

import io
import json
from datetime import datetime

import numpy as np
import pytest
from pyarrow import parquet

from tests.integration.monitor.rig import BASE, WINDOW, Feed, Room, closed, counted, endpoint_name, sample

pytestmark = pytest.mark.timeout(240)


async def test_json_and_parquet_agree_and_a_token_is_asked_for(room: Room) -> None:
    """The same windows in both forms, figure by figure; filters; 401, 404 and 422 as problem documents."""
    async with Feed(room.settings, endpoint_name(), partitions=1) as feed:
        await feed.route()
        for number in range(4):
            await feed.batch(0, BASE + number * WINDOW + np.arange(50), sample(number, 50), version=1 + number % 2)
        monitor = await room.start()
        try:
            await counted(monitor, feed)
            await closed(monitor, feed)
            path = f"/v1/endpoints/{feed.endpoint}/windows"
            listed = (await monitor.ask(path)).json()["windows"]
            answer = await monitor.ask(path, accept="application/vnd.apache.parquet")
            assert answer.headers["content-type"] == "application/vnd.apache.parquet"
            table = parquet.read_table(io.BytesIO(answer.content)).to_pylist()
            assert len(table) == len(listed) == 4
            for row, window in zip(table, listed, strict=True):
                for name in ("endpoint", "model", "version", "digest", "arm", "rows", "rejected", "open", "score_mean"):
                    assert row[name] == window[name]
                assert row["window_start"] == datetime.fromisoformat(window["window_start"])
                assert row["total_p99"] == window["latency_milliseconds"]["total"]["p99"]
            assert (await monitor.ask(f"{path}?format=parquet")).content[:4] == b"PAR1"
            assert len((await monitor.ask(f"{path}?version=2&limit=1")).json()["windows"]) == 1
            second = listed[1]["window_start"]
            found = (await monitor.ask(f"{path}?from={second}&to={listed[2]['window_start']}")).json()["windows"]
            assert [each["window_start"] for each in found] == [second]
            for asked, status in (
                (f"{path}?limit=0", 422),
                (f"{path}?from=yesterday", 422),
                ("/v1/endpoints/none/windows", 404),
                ("/v1/endpoints/none/quality", 404),
                (f"{path}/2020-01-01T00:00:00Z/features", 404),
            ):
                refused = await monitor.ask(asked)
                assert refused.status_code == status, asked
                assert (
                    refused.headers["content-type"] == "application/problem+json"
                    and json.loads(refused.content)["code"]
                )
            assert (await monitor.ask(path, authorization="Bearer nobody")).status_code == 401
            assert (await monitor.ask("/livez")).status_code == 200
        finally:
            await monitor.stop()
