"""A version as a Ray Serve application: right answers, its own digest, and every way of failing, bounded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import ray

from interlock.blobs import Blobs
from interlock.errors import InterlockError, Reason, Transient
from interlock.manifest import Manifest
from interlock.serving import cluster, replica, runtime
from interlock.serving.failures import ModelDied, ModelRaised, ModelTimedOut
from tests.integration.serving import graphs

UP_SECONDS_MAX = 60.0
CALL_SECONDS_MAX = 1.0
BOTH_WAYS = pytest.mark.parametrize(
    "in_call_bytes_max", [cluster.IN_CALL_BYTES_MAX, 0], ids=["in the call", "through memory"], indirect=True
)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Give the address of a Ray cluster of this module's own."""
    context = ray.init(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=80 * 1024 * 1024,
        log_to_driver=False,
        namespace=cluster.NAMESPACE,
    )
    yield str(context.address_info["gcs_address"])  # type: ignore[attr-defined]  # of the local context
    ray.shutdown()


@pytest.fixture
async def control(address: str) -> AsyncIterator[cluster.ServeControl]:
    """Give the control side, and delete what a test deployed."""
    control = cluster.ServeControl(address)
    yield control
    for name in await control.status():
        await control.delete(name)


async def _running(control: cluster.ServeControl, name: str) -> None:
    until = time.monotonic() + UP_SECONDS_MAX
    while time.monotonic() < until:
        state = (await control.status()).get(name)
        if state is not None and state.running:
            return
        assert state is None or state.state != "DEPLOY_FAILED", state.message
        await asyncio.sleep(0.1)
    pytest.fail(f"{name} is not up after {UP_SECONDS_MAX} s: {await control.status()}")


async def _deployed(
    control: cluster.ServeControl, folder: Path, name: str, artifact: bytes, inputs: list[str]
) -> tuple[str, Manifest]:
    blobs = Blobs(folder)
    text = graphs.manifest_text(name, 1, inputs)
    digest, manifest_digest, artifact_digest = graphs.stored(blobs, text, artifact)
    application = replica.application(
        name,
        1,
        digest,
        manifest_digest=manifest_digest,
        artifact_digest=artifact_digest,
        blob_folder=folder,
        call_seconds_max=CALL_SECONDS_MAX,
    )
    await control.deploy(application, name)
    await _running(control, name)
    return digest, Manifest.parse(text)


@pytest.fixture
def in_call_bytes_max(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send matrices of at most so many bytes within the call."""
    monkeypatch.setattr(cluster, "IN_CALL_BYTES_MAX", request.param)


async def test_scores_and_echoes_the_digest_of_what_it_loaded(
    address: str, control: cluster.ServeControl, tmp_path: Path
) -> None:
    """A deployed version answers as the artifact does, with the digest computed from its own bytes, either way."""
    digest, manifest = await _deployed(control, tmp_path, "sound", graphs.linear([2.0, -1.0], 0.5), ["a", "b"])
    handles = cluster.Handles(address)
    for rows in (1, 700, cluster.IN_CALL_BYTES_MAX // 16, cluster.IN_CALL_BYTES_MAX // 16 + 1):
        matrix = np.random.default_rng(1).normal(size=(rows, 2))
        echoed, outputs = await handles.call("sound", matrix, 10)
        assert echoed == digest
        assert runtime.problem_of(outputs, rows, manifest.signature) is None
        np.testing.assert_allclose(outputs[:, 0], matrix @ [2.0, -1.0] + 0.5, rtol=1e-5, atol=1e-6)


async def test_a_version_whose_bytes_are_others_never_runs(control: cluster.ServeControl, tmp_path: Path) -> None:
    """A replica refuses to start when the blobs do not make up the digest it was deployed as."""
    text = graphs.manifest_text("swapped", 1, ["a"])
    _, manifest_digest, artifact_digest = graphs.stored(Blobs(tmp_path), text, graphs.linear([1.0]))
    application = replica.application(
        "swapped",
        1,
        "sha256:" + "0" * 64,
        manifest_digest=manifest_digest,
        artifact_digest=artifact_digest,
        blob_folder=tmp_path,
    )
    await control.deploy(application, "swapped")
    until = time.monotonic() + UP_SECONDS_MAX
    while time.monotonic() < until:
        state = (await control.status()).get("swapped")
        if state is not None and "the bytes loaded are version" in state.message:
            assert not state.running
            return
        await asyncio.sleep(0.2)
    pytest.fail(f"the mismatch was not reported: {state}")


@BOTH_WAYS
@pytest.mark.usefixtures("in_call_bytes_max")
async def test_every_way_of_failing_is_told_apart_and_bounded(
    address: str, control: cluster.ServeControl, tmp_path: Path
) -> None:
    """Raising, NaN, missing rows and a hang each surface as what they are, and afterwards the version answers again."""
    _, manifest = await _deployed(control, tmp_path, "odd", graphs.misbehaving(), ["x"])
    handles = cluster.Handles(address)

    with pytest.raises(ModelRaised) as raised:
        await handles.call("odd", np.array([[1.0], [-1.0]]), 10)
    assert "Gather" in raised.value.detail

    _, outputs = await handles.call("odd", np.array([[1.0], [-2.0], [3.0]]), 10)
    problem = runtime.problem_of(outputs, 3, manifest.signature)
    assert problem is not None
    assert problem[0] is Reason.MODEL_NOT_FINITE

    _, outputs = await handles.call("odd", np.array([[1.0], [500.0]]), 10)
    problem = runtime.problem_of(outputs, 2, manifest.signature)
    assert problem is not None
    assert problem[0] is Reason.MODEL_WRONG_SHAPE

    started = time.monotonic()
    with pytest.raises(ModelTimedOut):
        await handles.call("odd", np.array([[1e6]]), 10)
    assert time.monotonic() - started < CALL_SECONDS_MAX + 2

    _, outputs = await _once_back(handles, "odd", np.array([[4.0]]))
    np.testing.assert_allclose(outputs, [[0.4]], atol=1e-6)


async def _once_back(handles: cluster.Handles, name: str, matrix: np.ndarray) -> tuple[str, np.ndarray]:
    until = time.monotonic() + UP_SECONDS_MAX
    last: InterlockError | None = None
    while time.monotonic() < until:
        try:
            return await handles.call(name, matrix, 5)
        except (ModelDied, Transient) as error:
            last = error
            await asyncio.sleep(0.1)
    raise AssertionError(f"{name} did not come back: {last}")


@BOTH_WAYS
@pytest.mark.usefixtures("in_call_bytes_max")
async def test_a_replica_killed_during_a_call_is_told_and_replaced(
    address: str, control: cluster.ServeControl, tmp_path: Path
) -> None:
    """Kill -9 while the model works: the caller hears ModelDied at once, and a new replica answers."""
    await _deployed(control, tmp_path, "killed", graphs.misbehaving(), ["x"])
    handles = cluster.Handles(address)
    await handles.call("killed", np.array([[1.0]]), 10)
    call = asyncio.create_task(handles.call("killed", np.array([[1e6]]), 10))
    until = time.monotonic() + CALL_SECONDS_MAX
    (replica_process,) = [
        process
        for process in psutil.process_iter(["cmdline"])
        if any("killed-v1" in part for part in process.info["cmdline"] or [])
    ]
    while replica_process.cpu_percent(0.1) < 30 and time.monotonic() < until:
        await asyncio.sleep(0)
    replica_process.kill()
    with pytest.raises(ModelDied):
        await call
    _, outputs = await _once_back(handles, "killed", np.array([[4.0]]))
    np.testing.assert_allclose(outputs, [[0.4]], atol=1e-6)


async def test_an_application_that_is_not_there_is_transient(address: str) -> None:
    """A call by a name that Serve does not know waits for nobody and says so."""
    with pytest.raises(Transient, match="nowhere"):
        await cluster.Handles(address).call("nowhere", np.zeros((1, 1)), 2)
