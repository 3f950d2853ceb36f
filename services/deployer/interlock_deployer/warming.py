"""Warming: a running version answers its self-test vectors before it may serve, and says which bytes it loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import numpy as np

from interlock.blobs import Blobs
from interlock.clock import Clock
from interlock.codec import contract
from interlock.errors import Refusal
from interlock.manifest import Manifest
from interlock.serving import vectors
from interlock.serving.cluster import Handles
from interlock.serving.failures import ModelDied, ModelRaised, ModelTimedOut
from interlock.signature import Matrix, Signature
from interlock_deployer.errors import DIGEST_DIFFERS, WARMING_FAILED
from interlock_deployer.rollout import Proof
from interlock_deployer.settings import Settings
from interlock_deployer.store import Registered

SchemaIds = Callable[[str, str], Awaitable[int]]
"""Gives the id of a schema (JSON text) under a subject: `subjects.Subjects.id_of`."""


class Warming:
    """Proves running versions. All HTTP that a route needs is done here, so that a flip needs none."""

    def __init__(self, blobs: Blobs, handles: Handles, schema_ids: SchemaIds, clock: Clock, settings: Settings) -> None:
        self._blobs = blobs
        self._handles = handles
        self._schema_ids = schema_ids
        self._clock = clock
        self._settings = settings

    async def prove(self, registered: Registered, endpoint: str, application: str) -> Proof:
        """Return the proof that `application` is this version and answers as declared.

        Raises Refusal with the code for DeployFailed, or Transient if a server is away.
        """
        began = self._clock.monotonic()
        manifest = Manifest.parse(registered.manifest)
        signature = manifest.signature
        schema, schema_id = await self._contract(endpoint, signature)
        content = await asyncio.to_thread(self._blobs.get, registered.files[manifest.vectors.path])
        expected = vectors.parse(content, signature)
        answer = await self._answer(application, expected.inputs, registered.digest)
        disagreement = expected.disagreement(answer, manifest.vectors.tolerance, signature)
        if disagreement is not None:
            raise Refusal(vectors.VECTORS_DISAGREE, disagreement)
        return Proof(
            signature=signature.to_json(),
            result_schema=schema,
            result_schema_id=schema_id,
            vectors=len(expected.inputs),
            seconds=self._clock.monotonic() - began,
        )

    async def _contract(self, endpoint: str, signature: Signature) -> tuple[str, int]:
        """Register what callers write and read; return the schema of results with its id."""
        requests = msgspec.json.encode(contract.request_schema(endpoint, signature)).decode()
        results = msgspec.json.encode(contract.result_schema(endpoint, signature)).decode()
        await self._schema_ids(f"{endpoint}.requests-value", requests)
        return results, await self._schema_ids(f"{endpoint}.results-value", results)

    async def _answer(self, application: str, inputs: Matrix, digest: str) -> Matrix:
        try:
            async with asyncio.timeout(self._settings.warm_seconds_max):
                return await self._score(application, inputs, digest)
        except TimeoutError:
            detail = f"{len(inputs)} vectors took longer than {self._settings.warm_seconds_max:g} s."
            raise Refusal(WARMING_FAILED, detail) from None
        except (ModelRaised, ModelTimedOut, ModelDied) as error:
            raise Refusal(WARMING_FAILED, error.detail) from error

    async def _score(self, application: str, inputs: Matrix, digest: str) -> Matrix:
        """Score in calls of bounded size, each of which must name the digest that was approved."""
        answers = []
        for start in range(0, len(inputs), self._settings.warm_rows_max):
            rows = inputs[start : start + self._settings.warm_rows_max]
            # The time limit around all calls comes first: slowness is the version's fault, not a server's.
            loaded, outputs = await self._handles.call(application, rows, 2 * self._settings.warm_seconds_max)
            if loaded != digest:
                raise Refusal(DIGEST_DIFFERS, f"The replica loaded {loaded}; approved is {digest}.")
            answers.append(outputs)
        try:
            return answers[0] if len(answers) == 1 else np.concatenate(answers)
        except (ValueError, TypeError) as error:
            raise Refusal(
                WARMING_FAILED, f"The model's answers to {len(inputs)} vectors do not fit together."
            ) from error
