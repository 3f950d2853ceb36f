"""One version behind Ray Serve, in a Ray of the bench's own, and how lanes that a rig puts together ask it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import ray

from interlock.blobs import Blobs
from interlock.serving import cluster, replica
from interlock.signature import Matrix
from tests.integration.router import rig as rigs
from tests.integration.serving import graphs

UP_SECONDS_MAX: Final = 90.0
LOOK_SECONDS: Final = 0.2


@contextmanager
def replica_of(model: str, inputs: Sequence[str], artifact: bytes) -> Iterator[str]:
    """Serve an ONNX model as version 1; yields the cluster's address."""
    context = ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, namespace=cluster.NAMESPACE)
    address = str(context.address_info["gcs_address"])  # type: ignore[attr-defined]  # of the local context
    try:
        with tempfile.TemporaryDirectory() as folder:
            blobs, text = Path(folder), graphs.manifest_text(model, 1, list(inputs))
            digest, manifest_digest, artifact_digest = graphs.stored(Blobs(blobs), text, artifact)
            application = replica.application(
                model, 1, digest, manifest_digest=manifest_digest, artifact_digest=artifact_digest, blob_folder=blobs
            )
            asyncio.run(_deploy(cluster.ServeControl(address), application, model))
            yield address
    finally:
        ray.shutdown()


async def _deploy(control: cluster.ServeControl, application: Any, model: str) -> None:
    await control.deploy(application, model)
    async with asyncio.timeout(UP_SECONDS_MAX):
        while not ((state := (await control.status()).get(model)) and state.running):
            await asyncio.sleep(LOOK_SECONDS)


class Served(rigs.LocalServing):
    """The version behind Ray Serve, under the digest that the rig's route gives it."""

    def __init__(self, address: str, model: str) -> None:
        super().__init__()
        self._handles = cluster.Handles(address)
        self._model = model

    async def call(self, name: str, matrix: Matrix, seconds_max: float) -> tuple[str, Matrix]:
        """Ask the replica."""
        _, outputs = await self._handles.call(self._model, matrix, seconds_max)
        return rigs.version_digest(1), outputs
