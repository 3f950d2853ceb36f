"""Leases on a real Postgres: one holder, the database's clock, epochs that only rise."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from interlock.errors import Transient
from interlock.postgres.lease import Lease


async def test_only_one_of_many_takes_a_free_lease(database: Any) -> None:
    """Eight at once: one gets epoch 1, seven get nothing."""
    leases = [Lease(database, "leader", f"holder-{number}", 30) for number in range(8)]
    epochs = await asyncio.gather(*(lease.acquire() for lease in leases))
    assert sorted(epoch for epoch in epochs if epoch is not None) == [1]


async def test_a_lease_that_ran_out_goes_to_the_next_with_a_higher_epoch(database: Any) -> None:
    """The old holder learns of it at its next renewal, and what it fences fails."""
    old, new = Lease(database, "leader", "old", 0.2), Lease(database, "leader", "new", 30)
    assert await old.acquire() == 1
    assert await new.acquire() is None
    async with asyncio.timeout(5):
        while await new.acquire() is None:
            await asyncio.sleep(0.02)
    assert new.epoch == 2
    with pytest.raises(Transient):
        async with database.acquire() as connection, connection.transaction():
            await old.fence(connection)
    assert not await old.renew()
    assert old.epoch is None


async def test_a_released_lease_is_free_at_once_and_its_epoch_stays_used(database: Any) -> None:
    """Release, take again: the epoch has risen."""
    lease = Lease(database, "leader", "me", 30)
    assert await lease.acquire() == 1
    await lease.release()
    other = Lease(database, "leader", "other", 30)
    assert await other.acquire() == 2


async def test_renewing_keeps_the_epoch(database: Any) -> None:
    """A holder that renews, or asks again, keeps lease and epoch."""
    lease = Lease(database, "leader", "me", 30)
    assert await lease.acquire() == 1
    assert await lease.renew()
    assert await lease.acquire() == 1


async def test_a_fence_holds_the_lease_until_the_transaction_ends(database: Any) -> None:
    """Nobody takes over between a fence and its commit, even when the time is up."""
    old, new = Lease(database, "leader", "old", 0.3), Lease(database, "leader", "new", 30)
    await old.acquire()
    async with database.acquire() as connection, connection.transaction():
        assert await old.fence(connection) == 1
        taking = asyncio.create_task(new.acquire())
        await connection.fetchval("SELECT pg_sleep(0.5)")
        blocked = not taking.done()
    assert await taking in (2, None)
    async with asyncio.timeout(5):
        while await new.acquire() is None:
            await asyncio.sleep(0.02)
    assert new.epoch == 2
    assert blocked or new.epoch == 2
