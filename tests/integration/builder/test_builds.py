"""A build from registration to verdicts: real Postgres, real confined children."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from interlock.schemas.events import BuildFailed, BuildStarted, BuildSucceeded, GateEvaluated, Verdict
from tests.integration.builder.forge import ROWS, Forge, Version, gate, holdout

Maker = Callable[..., Any]


@pytest.fixture
async def working(make_worker: Maker) -> AsyncIterator[None]:
    """Have one worker at work while the test runs."""
    worker, stop = make_worker()
    task = asyncio.create_task(worker.run())
    yield
    stop.set()
    await task


@pytest.mark.usefixtures("working")
async def test_a_sound_version_is_proved_measured_and_profiled(forge: Forge) -> None:
    """BuildStarted, BuildSucceeded, then each gate in order; the numbers are scikit-learn's; evidence holds them."""
    csv, matrix, labels = holdout()
    gates = (
        gate() + gate("few", bounds=f"minimum = 0.5\nrows_minimum = {ROWS + 1}") + gate("wide", "mae", "maximum = 0.1")
    )
    event = await forge.register(Version(gates=gates, files={"holdout.csv": csv}))
    row = await forge.ended()
    assert row["state"] == "succeeded", row["detail"]
    said = await forge.said()
    assert [type(one) for one in said] == [BuildStarted, BuildSucceeded, GateEvaluated, GateEvaluated, GateEvaluated]
    assert {one.digest for one in said} == {event.digest}
    assert said[1].gates == ("ranks", "few", "wide")
    assert said[1].vectors == 8
    ranks, few, wide = said[2:]
    assert ranks.verdict is Verdict.PASS
    assert ranks.value == pytest.approx(roc_auc_score(labels, matrix[:, 0]), abs=1e-9)
    assert ranks.rows == ROWS
    assert few.verdict is Verdict.NOT_ENOUGH_EVIDENCE
    assert wide.verdict is Verdict.FAIL
    assert "above the maximum 0.1" in wide.detail

    evidence = forge.blob(said[1].evidence_digest)
    assert evidence["digest"] == event.digest
    assert evidence["gates"][0]["value"] == ranks.value
    assert evidence["libraries"]["onnxruntime"]
    assert evidence["confinement"]["network"] == "none"
    profile = forge.blob(said[1].profile_digest)
    assert profile["source"] == "holdout.csv"
    assert [feature["name"] for feature in profile["features"]] == ["a", "b"]
    assert sum(profile["features"][0]["histogram"]["counts"]) == ROWS
    assert profile["features"][0]["deciles"][5] == pytest.approx(float(np.median(matrix[:, 0])), rel=1e-9)


@pytest.mark.usefixtures("working")
async def test_the_profile_is_taken_on_the_data_that_the_manifest_names(forge: Forge) -> None:
    """`[profile]` rules even where a gate has more rows; features and outputs are over the same rows."""
    csv, _, _ = holdout()
    reference, matrix, _ = holdout(rows=ROWS // 2)
    files = {"holdout.csv": csv, "reference.csv": reference}
    await forge.register(Version(gates=gate() + '[profile]\ndata = "reference.csv"\n', files=files))
    assert (await forge.ended())["state"] == "succeeded"
    profile = forge.blob((await forge.said())[1].profile_digest)
    assert (profile["format"], profile["source"], profile["rows"]) == (
        "interlock.profile.v2",
        "reference.csv",
        ROWS // 2,
    )
    assert profile["features"][1]["minimum"] == matrix[:, 1].min()
    assert profile["outputs"][0]["count"] == sum(profile["outputs"][0]["cells"]["counts"]) == ROWS // 2


@pytest.mark.usefixtures("working")
async def test_a_margin_is_measured_against_the_champion_of_now(forge: Forge) -> None:
    """A worse version fails by the champion's own number on the same data; after a rollback the older one rules."""
    csv, matrix, labels = holdout()
    margin = gate(bounds="margin = 0.0")
    first = await forge.register(Version(1, weights=[1.0, 3.0], gates=margin, files={"holdout.csv": csv}))
    await forge.ended(1)
    await forge.promote(first, 1)
    better = await forge.register(Version(2, weights=[1.0, 0.0], gates=margin, files={"holdout.csv": csv}))
    await forge.ended(2)
    await forge.promote(better, 2)
    await forge.register(Version(3, weights=[1.0, 1.0], gates=margin, files={"holdout.csv": csv}))
    await forge.ended(3)
    await forge.roll_back(2, first, 3)
    await forge.promote(better, 2)
    await forge.register(Version(4, weights=[1.0, 1.0], gates=margin, files={"holdout.csv": csv}))
    await forge.ended(4)
    verdicts = {one.version: one for one in await forge.said() if isinstance(one, GateEvaluated)}
    assert "no champion yet" in verdicts[1].detail
    assert [verdicts[number].verdict for number in (1, 2, 3, 4)] == ["PASS", "PASS", "FAIL", "PASS"]
    assert verdicts[3].champion_version == 2
    assert verdicts[3].champion_value == pytest.approx(roc_auc_score(labels, matrix[:, 0]), abs=1e-9)
    assert verdicts[4].champion_version == 1


@pytest.mark.usefixtures("working")
async def test_a_champion_that_cannot_be_measured_on_the_data_is_no_evidence(forge: Forge) -> None:
    """Data without a column that the champion needs gives NOT_ENOUGH_EVIDENCE, naming the column."""
    old = await forge.register(Version(1, inputs=["a", "zip"]))
    await forge.ended(1)
    await forge.promote(old, 1)
    await forge.register(Version(2, gates=gate(bounds="margin = 0.0"), files={"holdout.csv": holdout()[0]}))
    assert (await forge.ended(2))["state"] == "succeeded"
    verdict = (await forge.said())[-1]
    assert verdict.verdict is Verdict.NOT_ENOUGH_EVIDENCE
    assert "no column zip" in verdict.detail


async def test_a_build_whose_builder_died_is_taken_over_and_its_late_result_refused(
    forge: Forge, make_worker: Maker
) -> None:
    """The second attempt's result counts; the first one's, arriving late, changes nothing and says nothing."""
    await forge.register(Version())
    dead, _ = make_worker(build_lease_seconds=1.1)
    abandoned = await dead._claim()
    assert abandoned is not None
    worker, stop = make_worker()
    task = asyncio.create_task(worker.run())
    row = await forge.ended()
    stop.set()
    await task
    assert (row["state"], row["attempt"]) == ("succeeded", 2)
    before = await forge.said()
    assert [one.attempt for one in before] == [1, 2, 2]
    result = await dead._child(dead._order(abandoned, None))
    await dead._succeed(abandoned, None, result, 1.0)
    assert await forge.said() == before
    assert (await forge.state())["evidence_digest"] == row["evidence_digest"]


async def test_a_build_that_loses_its_lease_stops_its_child(forge: Forge, make_worker: Maker) -> None:
    """When another builder has taken the build, the first one ends its child and writes nothing."""
    await forge.register(Version(artifact=_hanging(), inputs=["x"], vectors={"inputs": [[1e6]], "outputs": [[0.0]]}))
    worker, stop = make_worker(build_lease_seconds=1.2)
    task = asyncio.create_task(worker.run())
    while (await forge.state())["attempt"] != 1:
        await asyncio.sleep(0.02)
    await forge.database.execute(
        "UPDATE builds SET attempt = attempt + 1, lease_until = clock_timestamp() + interval '1 hour'"
    )
    stop_after = asyncio.create_task(_idle(worker))
    await asyncio.wait_for(stop_after, 20)
    stop.set()
    await asyncio.wait_for(task, 20)
    assert [type(one) for one in await forge.said()] == [BuildStarted]


async def _idle(worker: Any) -> None:
    """Wait until the worker polls again, which it does only when it has let the build go."""
    polled = asyncio.Event()
    original = worker._store.is_any_open

    async def watched() -> bool:
        polled.set()
        return bool(await original())

    worker._store.is_any_open = watched
    await polled.wait()


def _hanging() -> bytes:
    from tests.integration.serving import graphs

    return graphs.misbehaving()


async def test_a_builder_told_to_end_puts_its_build_back(forge: Forge, make_worker: Maker) -> None:
    """SIGTERM during a build: the child ends, the build waits for the next builder at once."""
    await forge.register(Version(artifact=_hanging(), inputs=["x"], vectors={"inputs": [[1e6]], "outputs": [[0.0]]}))
    worker, stop = make_worker()
    task = asyncio.create_task(worker.run())
    while (await forge.state())["state"] != "running":
        await asyncio.sleep(0.02)
    stop.set()
    await asyncio.wait_for(task, 20)
    row = await forge.state()
    assert (row["state"], row["attempt"], row["holder"]) == ("waiting", 1, None)


async def test_a_build_that_kills_every_builder_is_given_up(forge: Forge, make_worker: Maker) -> None:
    """After the bounded number of attempts the version fails with a sentence, instead of a build without end."""
    await forge.register(Version())
    for _ in range(2):
        dead, _ = make_worker(build_lease_seconds=1.1)
        assert await dead._claim() is not None
        await forge.database.execute("UPDATE builds SET lease_until = clock_timestamp() - interval '1 second'")
    worker, stop = make_worker(build_attempts_max=2)
    task = asyncio.create_task(worker.run())
    row = await forge.ended()
    stop.set()
    await task
    assert (row["state"], row["code"]) == ("failed", "BUILD_ABANDONED")
    assert isinstance((await forge.said())[-1], BuildFailed)
