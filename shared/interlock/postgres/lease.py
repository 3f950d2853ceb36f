"""A lease: one holder at a time, by the database's clock, and an epoch that rises with every holder."""

from __future__ import annotations

from interlock import metrics
from interlock.errors import Transient
from interlock.postgres.pool import Connection, Pool, borrowed

_ACQUIRE = """
INSERT INTO lease AS held (name, holder, epoch, expires_at)
VALUES ($1, $2, 1, clock_timestamp() + make_interval(secs => $3))
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, epoch = held.epoch + 1, expires_at = excluded.expires_at
WHERE held.expires_at <= clock_timestamp()
RETURNING epoch
"""
_RENEW = """
UPDATE lease SET expires_at = clock_timestamp() + make_interval(secs => $4)
WHERE name = $1 AND holder = $2 AND epoch = $3 AND expires_at > clock_timestamp() RETURNING true
"""
_RELEASE = "UPDATE lease SET expires_at = '-infinity' WHERE name = $1 AND holder = $2 AND epoch = $3"
_FENCE = """
SELECT true FROM lease
WHERE name = $1 AND holder = $2 AND epoch = $3 AND expires_at > clock_timestamp() FOR SHARE
"""


class Lease:
    """One process's claim to a named lease; `holder` must be unique to the process (a uuid7 will do)."""

    def __init__(self, pool: Pool, name: str, holder: str, seconds: float) -> None:
        self._pool = pool
        self._name = name
        self._holder = holder
        self._seconds = seconds
        self.epoch: int | None = None

    async def acquire(self) -> int | None:
        """Take the lease if it is free or has run out; return the new epoch, or None while another holds it."""
        if self.epoch is not None and await self.renew():
            return self.epoch
        async with borrowed(self._pool) as connection:
            self._note(await connection.fetchval(_ACQUIRE, self._name, self._holder, self._seconds))
        return self.epoch

    async def renew(self) -> bool:
        """Extend the lease by its length from now; False (and epoch None) if it ran out or another took it."""
        if self.epoch is None:
            return False
        async with borrowed(self._pool) as connection:
            kept = await connection.fetchval(_RENEW, self._name, self._holder, self.epoch, self._seconds)
        if not kept:
            self._note(None)
        return bool(kept)

    async def release(self) -> None:
        """Give the lease up, so that the next may take it at once; its epoch stays used."""
        if self.epoch is not None:
            async with borrowed(self._pool) as connection:
                await connection.execute(_RELEASE, self._name, self._holder, self.epoch)
            self._note(None)

    async def fence(self, connection: Connection) -> int:
        """Hold the lease's row to the end of the caller's transaction and return the epoch; raises Transient if lost.

        What commits behind a fence was decided by the leader of that epoch: nobody can take over in between.
        """
        if self.epoch is None or not await connection.fetchval(_FENCE, self._name, self._holder, self.epoch):
            self._note(None)
            raise Transient(f"The lease {self._name} is no longer held here.")
        return self.epoch

    def _note(self, epoch: int | None) -> None:
        self.epoch = epoch
        metrics.LEASE_EPOCH.labels(self._name).set(epoch or 0)
