"""The Ray Serve deployment that runs one version: proves what it loaded, scores, and never hangs for ever."""

from __future__ import annotations

import asyncio
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from ray import serve

from interlock.blobs import Blobs
from interlock.errors import Refusal
from interlock.ids import version_digest
from interlock.manifest import Manifest
from interlock.serving import runtime
from interlock.serving.failures import ModelTimedOut, raised
from interlock.serving.traces import ReplicaTraces
from interlock.signature import Matrix

CALL_SECONDS_MAX: Final = 5.0
ONGOING_CALLS_MAX: Final = 2
#: After the caller was told of a time-out, so long until the process ends with its stuck thread.
_LAST_WORDS_SECONDS: Final = 0.25
_HEALTH_PERIOD_SECONDS: Final = 2.0
_HEALTH_SECONDS_MAX: Final = 10.0
_SHUTDOWN_LOOP_SECONDS: Final = 0.1
_SHUTDOWN_SECONDS_MAX: Final = 10.0
_MIB: Final = 1024 * 1024


class Replica:
    """One version in memory. Scoring runs in a thread of its own, one call at a time, under a kernel timer.

    The timer (ITIMER_REAL with the default action of SIGALRM) ends the process even when native code hangs
    holding the interpreter's lock, which no Python watchdog could.
    """

    def __init__(
        self,
        digest: str,
        manifest_digest: str,
        artifact_digest: str,
        blob_folder: str,
        call_seconds_max: float,
        gpu: bool,
    ) -> None:
        blobs = Blobs(Path(blob_folder))
        manifest_bytes, artifact = blobs.get(manifest_digest), blobs.get(artifact_digest)
        self._digest = version_digest(manifest_bytes, artifact)
        if self._digest != digest:
            raise Refusal(runtime.ARTIFACT_INVALID, f"the bytes loaded are version {self._digest}, not {digest}.")
        manifest = Manifest.parse(manifest_bytes)
        self._model = runtime.load(manifest.artifact.format, artifact, manifest.signature, gpu=gpu)
        self._call_seconds_max = call_seconds_max
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="score")
        self._turn = asyncio.Lock()
        self._timed_out = False
        self._traces = ReplicaTraces(manifest.name, manifest.version, digest)

    async def __call__(self, matrix: Matrix, traceparent: str | None = None) -> tuple[str, Matrix]:
        """Score float64 (rows, inputs); return the digest of what is loaded and float64 (rows, outputs).

        A `traceparent` is the trace to go on with. Raises ModelTimedOut when the model takes longer than
        `call_seconds_max`, and ModelRaised for whatever the model raises.
        """
        with self._traces.span(traceparent, len(matrix)):
            return await self._answer(matrix)

    async def _answer(self, matrix: Matrix) -> tuple[str, Matrix]:
        async with self._turn:
            scoring = asyncio.get_running_loop().run_in_executor(self._thread, self._score, matrix)
            done, _ = await asyncio.wait({scoring}, timeout=self._call_seconds_max)
            if not done:
                self._timed_out = True
                raise ModelTimedOut(f"the model did not answer {len(matrix)} rows within {self._call_seconds_max:g} s")
            return self._digest, scoring.result()

    def check_health(self) -> None:
        """Tell Serve that a replica whose model hangs is to be replaced."""
        if self._timed_out:
            raise ModelTimedOut("the model hangs")

    def _score(self, matrix: Matrix) -> Matrix:
        signal.setitimer(signal.ITIMER_REAL, self._call_seconds_max + _LAST_WORDS_SECONDS)
        try:
            return self._model.score(matrix)
        except Exception as error:  # noqa: BLE001 - a model may raise anything
            raise raised(error) from None
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def application(
    model: str,
    version: int,
    digest: str,
    *,
    manifest_digest: str,
    artifact_digest: str,
    blob_folder: Path,
    cpus: float = 0.1,
    gpus: float = 0.0,
    memory_mib: int | None = None,
    replicas: int = 1,
    call_seconds_max: float = CALL_SECONDS_MAX,
    ongoing_calls_max: int = ONGOING_CALLS_MAX,
) -> serve.Application:
    """Return the Serve application of one version; it takes CPU and GPU fractions and MiB of memory for placement.

    The replica refuses to start unless the blobs of `manifest_digest` and `artifact_digest` make up `digest`.
    """
    options: dict[str, Any] = {"num_cpus": cpus, "num_gpus": gpus}
    if memory_mib is not None:
        options["memory"] = memory_mib * _MIB
    deployment = serve.deployment(
        name=f"{model}-v{version}",
        num_replicas=replicas,
        max_ongoing_requests=ongoing_calls_max,
        ray_actor_options=options,
        health_check_period_s=_HEALTH_PERIOD_SECONDS,
        health_check_timeout_s=_HEALTH_SECONDS_MAX,
        graceful_shutdown_wait_loop_s=_SHUTDOWN_LOOP_SECONDS,
        graceful_shutdown_timeout_s=_SHUTDOWN_SECONDS_MAX,
    )(Replica)
    return deployment.bind(
        digest, manifest_digest, artifact_digest, str(blob_folder.resolve()), call_seconds_max, gpus > 0
    )
