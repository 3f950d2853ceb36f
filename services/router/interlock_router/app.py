"""Read this first: the router follows the routes, owns a lane per assigned partition, and keeps no database."""

from __future__ import annotations

from interlock import memory
from interlock.cache import Cache
from interlock.service import Host, Service
from interlock.serving.cluster import Handles
from interlock_router.features_feed import Feeder
from interlock_router.features_store import Features, FeatureStore
from interlock_router.lanes import Lanes
from interlock_router.live import Live
from interlock_router.model import Routes
from interlock_router.routes import RouteFollower
from interlock_router.score import Scorer
from interlock_router.settings import Settings
from interlock_router.writer_schemas import WriterSchemas

__all__ = ["USES", "Settings", "build"]

USES: tuple[str, ...] = ()
"""The servers the process runner brings up for this service; the router has no tables."""


async def build(host: Host) -> Service:
    """Put the router together."""
    memory.settle()
    settings: Settings = host.settings
    routes = Routes()
    follower = RouteFollower(settings, routes, host.stopping)
    schemas = WriterSchemas(settings, host.clock)
    live = Live(settings, host.cache, host.clock, host.stopping)
    url, connections = settings.redis_url.get_secret_value(), settings.features_connections_max
    quick = Cache(url, settings.features_seconds_max, connections)
    features = Features(settings, FeatureStore(quick, settings.features_ttl_seconds), host.clock)
    patient = FeatureStore(host.cache, settings.features_ttl_seconds)
    feeder = Feeder(settings, patient, routes, host.clock, host.stopping)
    scorer = Scorer(settings, Handles(settings.ray_address), host.clock, features)
    lanes = Lanes(settings, host.clock, follower, routes, scorer, schemas, live, host.stopping)
    return Service(
        name="router",
        loops=[follower.run, lanes.run, live.run, feeder.run],
        ready=[lanes.ready],
        close=[schemas.close, quick.close],
    )
