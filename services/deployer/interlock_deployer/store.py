"""How the deployer keeps what it knows: versions as registered, and one rollout an endpoint."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from interlock.postgres.journal import Unit
from interlock.postgres.pool import Pool, passing
from interlock.schemas.events import VersionRegistered
from interlock_deployer.rollout import Rollout, Step

_KEEP_VERSION: Final = """
INSERT INTO versions (model, version, digest, manifest, manifest_digest, artifact_digest, artifact_format, files)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (model, version) DO NOTHING
"""
_VERSION: Final = """
SELECT model, version, digest, manifest, manifest_digest, artifact_digest, files
FROM versions WHERE model = $1 AND version = $2 AND digest = $3
"""
_BEGIN: Final = "INSERT INTO rollouts (endpoint, model, state) VALUES ($1, $2, $3) ON CONFLICT (endpoint) DO NOTHING"
_LOCK: Final = "SELECT state FROM rollouts WHERE endpoint = $1 FOR UPDATE"
_SAVE: Final = """
UPDATE rollouts SET epoch = $2, promotion = $3, champion = $4, previous = $5, state = $6, changed_at = clock_timestamp()
WHERE endpoint = $1 AND epoch = $7 RETURNING true
"""
_ALL: Final = "SELECT state FROM rollouts ORDER BY endpoint"


class Registered(msgspec.Struct, frozen=True):
    """What the deployer must know of a version to run it: manifest text, and content addresses."""

    model: str
    version: int
    digest: str
    manifest: str
    manifest_digest: str
    artifact_digest: str
    files: dict[str, str]


class Store:
    """The deployer's tables. Whoever changes a rollout holds its row's lock from reading to commit."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def keep_version(self, unit: Unit, event: VersionRegistered) -> None:
        """Keep a version as registered; the first registration of a number stands."""
        await unit.connection.execute(
            _KEEP_VERSION,
            event.model,
            event.version,
            event.digest,
            event.manifest,
            event.manifest_digest,
            event.artifact_digest,
            event.artifact_format,
            _json(event.files),
        )

    async def version(self, model: str, version: int, digest: str) -> Registered | None:
        """Return a version as registered, or None if that number was not heard of with that digest."""
        async with passing():
            row = await self._pool.fetchrow(_VERSION, model, version, digest)
        if row is None:
            return None
        return Registered(**{**row, "files": msgspec.json.decode(row["files"], type=dict[str, str])})

    async def rollout(self, unit: Unit, endpoint: str, model: str) -> Rollout:
        """Lock and return the endpoint's rollout, beginning one if there is none."""
        await unit.connection.execute(_BEGIN, endpoint, model, _json(Rollout(endpoint, model)))
        return _rollout(await unit.connection.fetchval(_LOCK, endpoint))

    async def rollouts(self) -> list[Rollout]:
        """Return all rollouts as they stand, unlocked, by endpoint."""
        async with passing():
            rows = await self._pool.fetch(_ALL)
        return [_rollout(row["state"]) for row in rows]

    async def keep(self, unit: Unit, before: Rollout, step: Step) -> None:
        """Write a step's rollout (locked by this unit as `before`) and append its events."""
        after = step.rollout
        if after != before:
            kept = await unit.connection.fetchval(
                _SAVE,
                after.endpoint,
                after.epoch,
                after.applied,
                after.champion,
                after.previous,
                _json(after),
                before.epoch,
            )
            assert kept, "the row is locked, so its epoch is the one that was read"
        for event in step.events:
            await unit.append(f"endpoint/{after.endpoint}", event)


def _rollout(state: str) -> Rollout:
    return msgspec.json.decode(state, type=Rollout)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
