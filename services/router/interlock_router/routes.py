"""Following the compacted topic of routes: all of it at the start, then every change."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing

import structlog

from interlock.codec import rows
from interlock.errors import Poison, Transient
from interlock.kafka.follow import follow
from interlock.kafka.partition import TopicPartition
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
        self._positions: Mapping[TopicPartition, int] = {}
        self._moved = asyncio.Condition()
        self.known = asyncio.Event()

    @property
    def partitions(self) -> list[TopicPartition]:
        """The partitions of the topic, as far as they are known."""
        return list(self._positions)

    async def reached(self, ends: Mapping[TopicPartition, int], seconds_max: float) -> None:
        """Return once every route before these offsets is taken; raises Transient where that takes longer."""
        try:
            async with asyncio.timeout(seconds_max), self._moved:
                await self._moved.wait_for(lambda: all(self._positions.get(each, 0) >= ends[each] for each in ends))
        except TimeoutError as error:
            raise Transient(f"the newest routes could not be read in {seconds_max:g} s") from error

    async def run(self) -> None:
        """Follow until told to stop; raises Transient when Kafka goes away, and may then be run again."""
        async with aclosing(follow(self._settings, ROUTES)) as steps:
            async for step in steps:
                for value in step.values:
                    self._take(value)
                await self._move(step.positions)
                if step.complete:
                    self.known.set()
                if self._stopping.is_set():
                    return

    async def _move(self, positions: Mapping[TopicPartition, int]) -> None:
        async with self._moved:
            self._positions = positions
            self._moved.notify_all()

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
