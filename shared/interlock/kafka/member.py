"""Membership in a consumer group that only assigns partitions; whoever gets them reads them by himself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import InconsistentGroupProtocolError, KafkaError

from interlock.errors import Transient
from interlock.kafka.closing import closed
from interlock.kafka.consumer import make_consumer
from interlock.kafka.together import assignor
from interlock.settings import PlatformSettings

CLOSE_SECONDS_MAX = 3.0
SESSIONS_IDLE_MAX = 10

Change = Callable[[list[TopicPartition]], Awaitable[None]]


class Member(ConsumerRebalanceListener):  # type: ignore[misc]  # the driver has no annotations
    """One member of a group. It fetches nothing: every assigned partition is paused at once.

    `revoked` is awaited before the group goes on, `assigned` after; what either raises comes out of `tick`, for the
    driver would swallow it.
    """

    def __init__(
        self, settings: PlatformSettings, group: str, together: int, assigned: Change, revoked: Change
    ) -> None:
        """So many neighbouring partitions of a topic are assigned `together`, to one member."""
        session = int(settings.kafka_session_seconds * 1000)
        self._consumer: AIOKafkaConsumer = make_consumer(
            settings,
            group,
            max_poll_interval_ms=SESSIONS_IDLE_MAX * session,
            partition_assignment_strategy=[assignor(together)],
        )
        self._group = group
        self._together = together
        self._assigned = assigned
        self._revoked = revoked
        self._raised: BaseException | None = None

    async def start(self) -> None:
        """Connect; raises Transient while Kafka is away."""
        try:
            await self._consumer.start()
        except (KafkaError, OSError) as error:
            await self.close()
            raise Transient(f"the group {self._group} is out of reach: {type(error).__name__}: {error}") from error

    def subscribe(self, topics: Iterable[str]) -> None:
        """Ask for a share of these topics instead of those before."""
        self._consumer.subscribe(sorted(topics), listener=self)

    async def tick(self, seconds: float) -> None:
        """Stay a member for a moment; raises what a callback raised, and Transient where the group is lost."""
        try:
            await self._consumer.getmany(timeout_ms=int(seconds * 1000))
        except InconsistentGroupProtocolError as error:
            raise Transient(
                f"other members of the group {self._group} do not keep {self._together} partitions together, as this "
                "one does: end them all, or give all the same INTERLOCK_LANE_PARTITIONS"
            ) from error
        except KafkaError as error:
            raise Transient(f"the group {self._group} is lost: {type(error).__name__}: {error}") from error
        if self._raised is not None:
            raise self._raised

    async def committed(self, partition: TopicPartition, seconds_max: float) -> int | None:
        """Return the group's committed offset, or None where nothing was ever committed; raises Transient."""
        try:
            offset: int | None = await asyncio.wait_for(self._consumer.committed(partition), seconds_max)
        except (KafkaError, OSError) as error:
            raise Transient(
                f"the committed offset of {partition} is unknown: {type(error).__name__}: {error}"
            ) from error
        return offset

    async def known(self, seconds_max: float) -> None:
        """Return if the group still counts on this member; raises Transient where it goes on without it.

        Who was stopped for longer than a session does not know it yet, and may think that its partitions are its own.
        """
        try:
            counted = await asyncio.wait_for(self._consumer._coordinator._do_heartbeat(), seconds_max)  # noqa: SLF001 - the driver has no other way
        except (KafkaError, OSError) as error:
            raise Transient(f"the group {self._group} is out of reach: {type(error).__name__}: {error}") from error
        if not counted:
            raise Transient(f"the group {self._group} goes on without this member")

    async def ends(self, partitions: Sequence[TopicPartition], seconds_max: float) -> dict[TopicPartition, int]:
        """Return where these partitions, of any topic, end for readers of committed records; raises Transient.

        A member fetches nothing, so the answer waits behind nothing; behind a reader's long poll it would.
        """
        try:
            ends: dict[TopicPartition, int] = await asyncio.wait_for(
                self._consumer.end_offsets(partitions), seconds_max
            )
        except (KafkaError, OSError) as error:
            raise Transient(f"the ends of {partitions} are unknown: {type(error).__name__}: {error}") from error
        return ends

    async def commit(self, offsets: Mapping[TopicPartition, int], seconds_max: float) -> None:
        """Move the group's offsets of partitions that this member has; raises Transient."""
        try:
            await asyncio.wait_for(self._consumer.commit(dict(offsets)), seconds_max)
        except (KafkaError, OSError) as error:
            raise Transient(f"the offsets {offsets} are not committed: {type(error).__name__}: {error}") from error

    async def close(self) -> None:
        """Leave the group, within a bound."""
        await closed(self._consumer, CLOSE_SECONDS_MAX)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Called by the driver before partitions go."""
        await self._call(self._revoked, list(revoked))

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Called by the driver when partitions came."""
        partitions = list(assigned)
        self._consumer.pause(*partitions)
        await self._call(self._assigned, partitions)

    async def _call(self, change: Change, partitions: list[TopicPartition]) -> None:
        try:
            await change(partitions)
        except BaseException as error:
            self._raised = error
            raise
