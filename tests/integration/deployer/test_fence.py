"""Two deployers: the one that lost the lease writes nothing, whatever it still has in hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from msgspec.structs import replace

from interlock.blobs import Blobs
from interlock.cause import Cause
from interlock.clock import SystemClock
from interlock.errors import Transient
from interlock.postgres import journal, migrate
from interlock.postgres import pool as postgres
from interlock.postgres.lease import Lease
from interlock.postgres.pool import Pool
from interlock.schemas.events import EndpointCreated
from interlock.serving.cluster import Handles, ServeControl
from interlock_deployer import model
from interlock_deployer.rollout import Limits, Rollout, Step
from interlock_deployer.serve import Keeper
from interlock_deployer.settings import Settings
from interlock_deployer.store import Store
from interlock_deployer.warming import Warming
from tests.integration.deployer.conftest import PASSWORD, SERVICE_SQL, as_role

LIMITS = Limits(4, 10.0, 2.0, 60.0)


@pytest.fixture
async def pool(servers: dict[str, str]) -> AsyncIterator[Pool]:
    """The deployer's own tables."""
    owner = servers["INTERLOCK_POSTGRES_OWNER_DSN"]
    await migrate.migrate(owner, "deployer", [SERVICE_SQL], PASSWORD)
    pool = await postgres.connect(as_role(owner))
    yield pool
    await pool.close()


def _keeper(pool: Pool, lease: Lease) -> Keeper:
    """Return a keeper that needs Postgres only: it opens endpoints, and its topics are there already."""

    async def no_topics(endpoint: str, partitions: int) -> None:
        return

    async def no_schemas(subject: str, schema: str) -> int:
        raise AssertionError("nothing is warmed here")

    settings = Settings()
    handles = Handles(settings.ray_address)
    warming = Warming(Blobs(Path("nowhere")), handles, no_schemas, SystemClock(), settings)
    return Keeper(
        pool, Store(pool), ServeControl(settings.ray_address), handles, warming, lease, no_topics, LIMITS, settings,
        SystemClock(), asyncio.Event(),
    )  # fmt: skip


async def _created(pool: Pool) -> str:
    """Write down a new endpoint as the handler does; return its name."""
    endpoint = f"e{uuid4().hex[:8]}"
    event = EndpointCreated(endpoint=endpoint, model=endpoint, partitions=1, created_by="olga", at=datetime.now(UTC))
    store = Store(pool)
    async with journal.unit(pool, Cause.start("olga")) as unit:
        rollout = await store.rollout(unit, endpoint, endpoint)
        await store.keep(unit, rollout, model.created(rollout, event))
    return endpoint


async def _is_open(pool: Pool, endpoint: str) -> bool:
    return next(each.opened for each in await Store(pool).rollouts() if each.endpoint == endpoint)


async def test_a_keeper_that_lost_the_lease_records_nothing(pool: Pool) -> None:
    """A leads, stalls beyond its lease, B takes over; A's record is refused in its transaction, B's goes through."""
    name = f"lease-{uuid4().hex[:8]}"
    first, second = Lease(pool, name, "a", 0.2), Lease(pool, name, "b", 10.0)
    stalled, leader = _keeper(pool, first), _keeper(pool, second)
    endpoint = await _created(pool)
    assert await first.acquire() == 1
    while await second.acquire() is None:  # A does not renew: by the database's clock its lease runs out
        await asyncio.sleep(0.02)
    assert second.epoch == 2

    def decide(rollout: Rollout, now: datetime) -> Step:
        return model.opened(rollout, now, LIMITS)

    with pytest.raises(Transient, match="no longer held"):
        await stalled._record(endpoint, None, decide)
    assert not await _is_open(pool, endpoint)
    await leader._record(endpoint, None, decide)
    assert await _is_open(pool, endpoint)
    await second.release()


async def test_simultaneous_steps_of_one_rollout_run_one_after_the_other(pool: Pool) -> None:
    """Twenty transactions raise one epoch at the same time: none is lost, because each holds the row's lock."""
    endpoint = await _created(pool)
    store = Store(pool)

    async def raise_epoch() -> None:
        async with journal.unit(pool, Cause.start("olga")) as unit:
            rollout = await store.rollout(unit, endpoint, endpoint)
            await store.keep(unit, rollout, Step(replace(rollout, epoch=rollout.epoch + 1)))

    await asyncio.gather(*(raise_epoch() for _ in range(20)))
    assert next(each.epoch for each in await store.rollouts() if each.endpoint == endpoint) == 20
