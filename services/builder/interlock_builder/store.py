"""How the builder keeps its builds and what it knows of champions."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from interlock.cause import Cause
from interlock.postgres.journal import Unit
from interlock.postgres.pool import Pool, borrowed
from interlock.schemas.events import VersionRegistered
from interlock_builder.model import Build, ChampionBuild

_ADD: Final = """
INSERT INTO builds (model, version, digest, manifest, manifest_digest, artifact_digest, files, cause)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (model, version) DO NOTHING
"""
_OPEN: Final = """
SELECT true FROM builds WHERE state = 'waiting' OR (state = 'running' AND lease_until < clock_timestamp()) LIMIT 1
"""
_CLAIM: Final = """
UPDATE builds SET state = 'running', attempt = attempt + 1, holder = $1,
    lease_until = clock_timestamp() + make_interval(secs => $2)
WHERE (model, version) = (
    SELECT model, version FROM builds
    WHERE state = 'waiting' OR (state = 'running' AND lease_until < clock_timestamp())
    ORDER BY registered_at FOR UPDATE SKIP LOCKED LIMIT 1)
RETURNING model, version, digest, manifest, manifest_digest, artifact_digest, files, cause, attempt
"""
_RENEW: Final = """
UPDATE builds SET lease_until = clock_timestamp() + make_interval(secs => $4)
WHERE model = $1 AND version = $2 AND attempt = $3 AND state = 'running' RETURNING true
"""
_RELEASE: Final = """
UPDATE builds SET state = 'waiting', holder = NULL, lease_until = NULL
WHERE model = $1 AND version = $2 AND attempt = $3 AND state = 'running'
"""
_FINISH: Final = """
UPDATE builds SET state = $4, code = $5, detail = $6, evidence_digest = $7, profile_digest = $8,
    holder = NULL, lease_until = NULL, finished_at = $9
WHERE model = $1 AND version = $2 AND attempt = $3 AND state = 'running' RETURNING true
"""
_CROWN: Final = """
INSERT INTO champions (endpoint, model, version, digest, promotion, since) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (endpoint) DO UPDATE SET model = excluded.model, version = excluded.version, digest = excluded.digest,
    promotion = excluded.promotion, since = excluded.since
WHERE champions.promotion < excluded.promotion
"""
_CHAMPION: Final = """
SELECT builds.version, builds.digest, builds.manifest_digest, builds.artifact_digest
FROM champions JOIN builds USING (model, version, digest)
WHERE model = $1 ORDER BY since DESC, promotion DESC LIMIT 1
"""


async def add(unit: Unit, event: VersionRegistered) -> None:
    """Keep a build to be done; the first registration of a number stands."""
    await unit.connection.execute(
        _ADD,
        event.model,
        event.version,
        event.digest,
        event.manifest,
        event.manifest_digest,
        event.artifact_digest,
        _json(event.files),
        _json(unit.cause),
    )


async def crown(
    unit: Unit, endpoint: str, model: str, version: int, digest: str, promotion: int, since: datetime
) -> None:
    """Remember an endpoint's champion, unless a newer promotion is known."""
    await unit.connection.execute(_CROWN, endpoint, model, version, digest, promotion, since)


class Store:
    """The builds, for the worker: claimed under a lease, finished only by the attempt that holds them."""

    def __init__(self, pool: Pool, holder: str) -> None:
        self._pool = pool
        self._holder = holder

    async def is_any_open(self) -> bool:
        """Say whether there is a build that nobody works on; a hint, without locks."""
        async with borrowed(self._pool) as connection:
            return bool(await connection.fetchval(_OPEN))

    async def claim(self, unit: Unit, lease_seconds: float) -> Build | None:
        """Take the oldest build that waits, or whose holder gave no sign of life; its attempt rises by one."""
        row = await unit.connection.fetchrow(_CLAIM, self._holder, lease_seconds)
        if row is None:
            return None
        fields = dict(row)
        fields["files"] = msgspec.json.decode(fields["files"])
        fields["cause"] = msgspec.json.decode(fields["cause"], type=Cause)
        return Build(**fields)

    async def renew(self, build: Build, lease_seconds: float) -> bool:
        """Give a sign of life; False when the build is no longer this attempt's."""
        async with borrowed(self._pool) as connection:
            return bool(await connection.fetchval(_RENEW, build.model, build.version, build.attempt, lease_seconds))

    async def release(self, build: Build) -> None:
        """Put the build back to be taken at once, as when this process ends."""
        async with borrowed(self._pool) as connection:
            await connection.execute(_RELEASE, build.model, build.version, build.attempt)

    async def finish(
        self,
        unit: Unit,
        build: Build,
        *,
        code: str | None = None,
        detail: str | None = None,
        evidence_digest: str | None = None,
        profile_digest: str | None = None,
    ) -> bool:
        """Write the end of a build (failed if there is a code); False, and nothing, when another attempt holds it."""
        state = "failed" if code else "succeeded"
        return bool(
            await unit.connection.fetchval(
                _FINISH,
                build.model,
                build.version,
                build.attempt,
                state,
                code,
                detail,
                evidence_digest,
                profile_digest,
                unit.clock.now(),
            )
        )

    async def champion(self, model: str) -> ChampionBuild | None:
        """Return the version that the model's newest promotion or rollback made champion, if any."""
        async with borrowed(self._pool) as connection:
            row = await connection.fetchrow(_CHAMPION, model)
        return ChampionBuild(**dict(row)) if row else None


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
