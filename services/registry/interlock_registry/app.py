"""The registry: read this first. What it listens to, serves and repeats."""

from __future__ import annotations

from datetime import timedelta

from interlock.postgres.pool import passing
from interlock.service import Host, Service
from interlock_registry import console_http, git_http, http, schema_registry, schema_registry_http
from interlock_registry.git_push import Pushes
from interlock_registry.git_repositories import Repositories
from interlock_registry.handlers import CONSUMES
from interlock_registry.settings import Settings
from interlock_registry.timeline import Timeline

__all__ = ["Settings", "build"]


async def build(host: Host) -> Service:
    """Put the registry together; raises Transient while Postgres is away."""
    settings: Settings = host.settings
    pool = host.pool
    assert pool is not None
    async with passing(), pool.acquire() as connection, connection.transaction():
        await schema_registry.seed(connection)
    timeline = Timeline(pool, poll_seconds=settings.timeline_poll_seconds, entries_max=settings.timeline_entries_max)
    repositories = Repositories(settings.git_folder)
    repositories.sweep(host.clock.now() - timedelta(seconds=settings.staging_keep_seconds))
    pushes = Pushes(settings, pool, host.blobs, repositories, timeline, host.clock)
    return Service(
        name="registry",
        consumes=CONSUMES,
        routers=[
            http.router(settings, pool, host.blobs, host.cache, timeline),
            git_http.router(settings, repositories, pushes),
            schema_registry_http.router(settings, pool),
            console_http.router(settings, host.stopping),
        ],
        loops=[lambda: timeline.watch(host.stopping)],
        streams=("/git/",),
    )
