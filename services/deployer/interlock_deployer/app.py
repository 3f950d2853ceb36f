"""The deployer: what it listens to, serves and repeats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from interlock.ids import uuid7
from interlock.kafka import admin
from interlock.postgres.lease import Lease
from interlock.schemas import endpoint_topics
from interlock.schemas.topics import MODEL_EVENTS
from interlock.service import Host, Service, Step
from interlock.serving.cluster import Handles, ServeControl, disconnect
from interlock_deployer import handlers, http
from interlock_deployer.rollout import Limits
from interlock_deployer.serve import Keeper
from interlock_deployer.settings import Settings
from interlock_deployer.store import Store
from interlock_deployer.subjects import Subjects
from interlock_deployer.warming import SchemaIds, Warming

__all__ = ["USES", "Settings", "assemble", "build"]

USES: Final = ("postgres",)
LEASE: Final = "deployer"


async def build(host: Host) -> Service:
    """Put the deployer together, with the platform's schema registry."""
    settings = host.settings
    subjects = Subjects(settings.schema_registry_url.get_secret_value(), settings.schema_registry_seconds_max)
    return assemble(host, subjects.id_of, close=(subjects.close,))


def assemble(host: Host, schema_ids: SchemaIds, close: Sequence[Step] = ()) -> Service:
    """Put the deployer together; `schema_ids` gives the id of a schema under a subject."""
    settings = host.settings
    assert host.pool is not None, "USES asks for Postgres"
    store = Store(host.pool)
    handles = Handles(settings.ray_address)
    limits = Limits(
        warm_versions_max=settings.warm_versions_max,
        route_drain_seconds=settings.route_drain_seconds,
        deploy_retry_seconds=settings.deploy_retry_seconds,
        deploy_retry_seconds_max=settings.deploy_retry_seconds_max,
        shadow_approved=settings.shadow_approved,
    )

    async def ensure_topics(endpoint: str, partitions: int) -> None:
        await admin.ensure_topics(settings, endpoint_topics(endpoint, partitions))

    keeper = Keeper(
        host.pool,
        store,
        ServeControl(settings.ray_address),
        handles,
        Warming(host.blobs, handles, schema_ids, host.clock, settings),
        Lease(host.pool, LEASE, uuid7(), settings.lease_seconds),
        ensure_topics,
        limits,
        settings,
        host.clock,
        host.stopping,
    )
    return Service(
        name="deployer",
        consumes={MODEL_EVENTS: handlers.MODEL},
        routers=(http.router(store),),
        loops=(keeper.lead, keeper.run),
        ready=(keeper.ready,),
        needs={"store": store, "keeper": keeper, "limits": limits},
        close=(*close, disconnect),
    )
