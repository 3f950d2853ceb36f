"""Following the compacted topic of routes: all of it at the start, then every change."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import structlog

from interlock.codec import rows
from interlock.errors import Poison
from interlock.kafka.follow import follow
from interlock.schemas.topics import ROUTES
from interlock_router.handlers import HANDLERS
from interlock_router.model import Routes
from interlock_router.settings import Settings

log = structlog.get_logger("interlock.router")


class RouteFollower:
    """Keeps `Routes` at the newest of the topic; `known` is set once it has been read to its end."""

    def __init__(self, settings: Settings, routes: Routes, stopping: asyncio.Event) -> None:
        self._settings = settings
        self._routes = routes
        self._stopping = stopping
        self.known = asyncio.Event()

    async def run(self) -> None:
        """Follow until told to stop; raises Transient when Kafka goes away, and may then be run again."""
        async with aclosing(follow(self._settings, ROUTES)) as steps:
            async for values, complete in steps:
                for value in values:
                    self._take(value)
                if complete:
                    self.known.set()
                if self._stopping.is_set():
                    return

    def _take(self, value: bytes | None) -> None:
        if value is None:
            return  # an endpoint that is no more: its lanes end when its topics do
        try:
            event = rows.decode(value)
        except Poison as poison:
            log.error("route.poisoned", reason=str(poison.reason), detail=poison.detail)
            return
        handler = HANDLERS.get(type(event))
        if handler is not None:
            handler(event, self._routes)
