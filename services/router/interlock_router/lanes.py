"""The lanes of this process: one for each set of partitions that the group assigns, begun and ended as it does."""

from __future__ import annotations

import asyncio

import structlog

from interlock.clock import Clock
from interlock.errors import Transient
from interlock.kafka.member import Member
from interlock.kafka.partition import TopicPartition, named
from interlock.kafka.together import sets
from interlock.kafka.transaction import Offsets
from interlock.schemas import endpoint_topic
from interlock.schemas.topics import ENDPOINT_REQUESTS
from interlock_router.lane import Lane, Parts
from interlock_router.live import Live
from interlock_router.model import Routes
from interlock_router.routes import RouteFollower
from interlock_router.score import Scorer
from interlock_router.settings import Settings
from interlock_router.turns import Turns
from interlock_router.writer_schemas import WriterSchemas

CLOSE_SECONDS_MAX = 3.0
IDLE_SECONDS = 0.05

log = structlog.get_logger("interlock.router")


class Lanes:
    """All lanes of this process, and its membership in the router group."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        follower: RouteFollower,
        routes: Routes,
        scorer: Scorer,
        schemas: WriterSchemas,
        live: Live,
        stopping: asyncio.Event,
    ) -> None:
        self._settings = settings
        self._follower = follower
        self._routes = routes
        self._live = live
        self._stopping = stopping
        self._parts = Parts(
            settings,
            clock,
            routes,
            scorer,
            schemas,
            live,
            Turns(),
            self._known,
            self._newest_routes,
            self._committed,
            self._commit,
        )
        self._member: Member | None = None
        self._lanes: dict[TopicPartition, tuple[Lane, asyncio.Task[None]]] = {}  # by the first partition of each

    async def run(self) -> None:
        """Be a member until told to stop, then let every lane finish its batch.

        Waits for the first route. Raises Transient when Kafka goes away, and may then be run again; what a lane
        raises beyond that is a bug.
        """
        while not (self._follower.known.is_set() and self._routes.endpoints):
            if self._stopping.is_set():
                return
            await asyncio.sleep(IDLE_SECONDS)
        settings = self._settings
        member = Member(settings, settings.group, settings.lane_partitions, self._begin, self._revoke)
        await member.start()
        self._member = member
        try:
            await self._stay(member)
        finally:
            await self._end(list(self._lanes), self._settings.drain_seconds / 2)
            self._member = None
            await member.close()

    async def ready(self) -> None:
        """Return if the routes are known and, where there are any, partitions may come; else raise Transient."""
        if not self._follower.known.is_set():
            raise Transient("the routes are not known yet")
        if self._routes.endpoints and self._member is None:
            raise Transient("the router is not yet in its group")

    async def _stay(self, member: Member) -> None:
        """Be a member, of the topics of all endpoints that have a route, until told to stop."""
        subscribed: frozenset[str] = frozenset()
        while not self._stopping.is_set():
            if self._routes.endpoints != subscribed:
                subscribed = self._routes.endpoints
                member.subscribe(endpoint_topic(ENDPOINT_REQUESTS, each) for each in subscribed)
            await member.tick(self._settings.poll_seconds)
            self._raise_bugs()

    async def _revoke(self, revoked: list[TopicPartition]) -> None:
        """End the lanes of the partitions, each after the batch in hand, within `revoke_seconds_max`."""
        await self._end(revoked, self._settings.revoke_seconds_max)

    async def _begin(self, assigned: list[TopicPartition]) -> None:
        """Begin a lane for each set; one that is still there from an assignment before is ended first."""
        await self._end(assigned, self._settings.revoke_seconds_max)
        for sources in (lanes := sets(assigned, self._settings.lane_partitions)):
            lane = Lane(sources, self._endpoint(sources[0]), self._parts)
            self._lanes[sources[0]] = lane, asyncio.create_task(lane.run(), name=f"lane {named(sources)}")
        log.info("lanes.assigned", lanes=[named(sources) for sources in lanes])

    def _joined(self) -> Member:
        if self._member is None:
            raise Transient("the router is not in its group")
        return self._member

    async def _known(self) -> None:
        await self._joined().known(self._settings.transaction_seconds_max)

    async def _newest_routes(self) -> None:
        seconds_max = self._settings.transaction_seconds_max
        ends = await self._joined().ends(self._follower.partitions, seconds_max)
        await self._follower.reached(ends, seconds_max)

    async def _committed(self, partition: TopicPartition) -> int | None:
        return await self._joined().committed(partition, self._settings.transaction_seconds_max)

    async def _commit(self, offsets: Offsets) -> None:
        await self._joined().commit(offsets, self._settings.transaction_seconds_max)

    def _raise_bugs(self) -> None:
        """Raise what a lane raised that ended although nobody stopped it: it was not written for what it met.

        A cancelled one raises CancelledError, which the process runner knows for what it is.
        """
        for _, task in self._lanes.values():
            if task.done():
                task.result()

    async def _end(self, partitions: list[TopicPartition], seconds_max: float) -> None:
        """Stop lanes; what does not finish in time is cut off, and its transaction with it."""
        ending = [self._lanes.pop(each) for each in partitions if each in self._lanes]
        for lane, _ in ending:
            lane.stop()
        if not ending:
            return
        tasks = [task for _, task in ending]
        _, late = await asyncio.wait(tasks, timeout=seconds_max)
        for task in late:
            task.cancel()
        if late:
            log.warning("lanes.cut", lanes=[task.get_name() for task in late], after_seconds=seconds_max)
            await asyncio.wait(late, timeout=CLOSE_SECONDS_MAX)
        for lane, task in ending:
            for source in lane.sources:
                self._live.drop_lag(self._endpoint(source), source.partition)
            if task.done() and not task.cancelled() and task.exception() is not None:
                self._lanes[lane.sources[0]] = (lane, task)  # the member's own loop raises it

    @staticmethod
    def _endpoint(partition: TopicPartition) -> str:
        return str(partition.topic).removesuffix(endpoint_topic(ENDPOINT_REQUESTS, ""))
