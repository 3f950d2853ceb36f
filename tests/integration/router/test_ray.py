"""The lane over real Ray Serve replicas: models that raise, hang, lie and die, and a replica killed from outside."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import ray

from interlock.blobs import Blobs
from interlock.clock import SystemClock
from interlock.codec.contract import request_schema
from interlock.ids import uuid7
from interlock.manifest import Manifest
from interlock.schemas.events import Arm, Route
from interlock.serving import cluster, replica
from interlock.signature import Signature
from interlock_router.settings import Settings
from tests.integration.router.rig import (
    REQUEST_SCHEMA_ID,
    RESULT_SCHEMA_ID,
    Rig,
    RunningRouter,
    exactly_once,
    schema_registry,
)
from tests.integration.serving import graphs

UP_SECONDS_MAX = 90.0
CALL_SECONDS_MAX = 1.0

pytestmark = pytest.mark.timeout(300)


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


class RayRig(Rig):
    """The rig whose version is a real one, with the one input `x`."""

    def value(self, number: int, **features: float | None) -> bytes:
        """Return a request whose x is 0..9, or what the test says."""
        return self.write(
            {"x": number % 10, "request_id": f"r{number}", "requested_at": 1_700_000_000_000 + number, **features}
        )


async def _deploy(address: str, folder: Path, model: str) -> tuple[str, Signature]:
    text = graphs.manifest_text(model, 1, ["x"])
    digest, manifest_digest, artifact_digest = graphs.stored(Blobs(folder), text, graphs.misbehaving())
    control = cluster.ServeControl(address)
    application = replica.application(
        model,
        1,
        digest,
        manifest_digest=manifest_digest,
        artifact_digest=artifact_digest,
        blob_folder=folder,
        call_seconds_max=CALL_SECONDS_MAX,
    )
    await control.deploy(application, model)
    until = time.monotonic() + UP_SECONDS_MAX
    while time.monotonic() < until:
        state = (await control.status()).get(model)
        if state is not None and state.running:
            return digest, Manifest.parse(text).signature
        await asyncio.sleep(0.2)
    pytest.fail(f"{model} did not come up")


async def _ray_rig(
    servers: dict[str, str], url: str, address: str, model: str, digest: str, signature: Signature
) -> RayRig:
    settings = Settings(
        kafka_bootstrap_servers=servers["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"],
        schema_registry_url=url,
        group="router-" + uuid7()[-12:],
    )
    rig = RayRig(settings, 2, signature)
    await rig.create()
    rig.serving = cluster.Handles(address)  # type: ignore[assignment]  # the same protocol
    arm = Arm(
        arm="champion",
        model=model,
        version=1,
        digest=digest,
        application=model,
        weight=10_000,
        signature=signature.to_json(),
    )
    rig.routes.apply(
        Route(
            endpoint=rig.endpoint,
            epoch=1,
            promotion=1,
            result_schema=json.dumps(rig.result_schema),
            result_schema_id=RESULT_SCHEMA_ID,
            arms=(arm,),
            at=SystemClock().now(),
        )
    )
    return rig


async def test_a_misbehaving_model_loses_its_rows_and_nobody_else_theirs(
    servers: dict[str, str], address: str, tmp_path: Path
) -> None:
    """Rows that raise, hang for ever, give NaN or make the answer short are dead-lettered with those reasons."""
    digest, signature = await _deploy(address, tmp_path, "odd")
    with schema_registry({REQUEST_SCHEMA_ID: request_schema("any", signature)}) as url:
        rig = await _ray_rig(servers, url, address, "odd", digest, signature)
        values = [rig.value(number) for number in range(300)]
        values[20], values[90] = rig.value(20, x=-1.0), rig.value(90, x=-2.0)
        values[150], values[220] = rig.value(150, x=500.0), rig.value(220, x=1e6)
        rig.produce(values)
        async with RunningRouter(rig, call_seconds_max=4.0):
            results = await rig.results(300, 120)
    exactly_once(results, 300)
    assert {row["request_id"]: row["rejection"] for row in results if row["rejection"]} == {
        "r20": "MODEL_RAISED",
        "r90": "MODEL_NOT_FINITE",
        "r150": "MODEL_WRONG_SHAPE",
        "r220": "MODEL_TIMEOUT",
    }
    for row in results:
        assert row["rejection"] or row["score"] == pytest.approx(int(row["request_id"][1:]) % 10 / 10, abs=1e-6)


async def test_an_innocent_replica_killed_twice_under_load_costs_no_answer(
    servers: dict[str, str], address: str, tmp_path: Path
) -> None:
    """The replica is killed while requests stream: another starts, the batch is asked again, no letter is written."""
    digest, signature = await _deploy(address, tmp_path, "innocent")
    with schema_registry({REQUEST_SCHEMA_ID: request_schema("any", signature)}) as url:
        rig = await _ray_rig(servers, url, address, "innocent", digest, signature)
        async with RunningRouter(rig, call_seconds_max=4.0):
            for start in range(0, 1000, 200):
                await asyncio.to_thread(rig.produce, [rig.value(number) for number in range(start, start + 200)])
                if start in (200, 600):
                    await asyncio.to_thread(rig.read, "results", start, UP_SECONDS_MAX, 0.0)
                    (await asyncio.to_thread(_replica, "innocent")).kill()
            results = await rig.results(1000, 120)
    exactly_once(results, 1000)
    assert not [row for row in results if row["rejection"]]


def _replica(model: str) -> psutil.Process:
    """Find the replica among the processes that this test started, waiting for one that is just being started."""
    until = time.monotonic() + UP_SECONDS_MAX
    while time.monotonic() < until:
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if child.name().startswith("ray::Serve") and model in " ".join(child.cmdline()):
                    return child
        time.sleep(0.1)
    pytest.fail(f"no replica of {model} among our processes")
