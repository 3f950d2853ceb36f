"""How Faust reads Kafka here: only committed records, from where Postgres says, with offsets that decide nothing.

Faust's own consumer reads aborted records, acknowledges what lies behind a transaction's marker before it was
processed, and commits one offset too far. So its consumer comes from `interlock.kafka`, and every offset from
`Positions`. Verified against faust-streaming 0.15.3.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, Protocol, cast

from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from faust.types import TP
from mode.threads import WorkerThread

from interlock.kafka.closing import closed
from interlock.kafka.consumer import make_consumer
from interlock.kafka.lag import lags
from interlock_monitor.model import Place
from interlock_monitor.settings import Settings

STOP_SECONDS_MAX: Final = 3.0
THREAD_SECONDS_MAX: Final = 5.0


class Positions(Protocol):
    """Where reading begins, and how far what was read is safe."""

    async def begin(self, places: Collection[Place], generation: int) -> dict[Place, int]:
        """Return where to read on."""

    async def flush(self) -> None:
        """Make what was read safe."""

    def durable(self, place: Place) -> int | None:
        """Return up to where it is safe."""


class _Worker(WorkerThread):
    """The consumer's thread. It never holds the process back: Faust would wait for it without a bound."""

    def __init__(self, service: Any, **arguments: Any) -> None:
        super().__init__(service, **arguments)
        self.daemon = True

    def stop(self) -> None:
        """Wait for the thread for a while."""
        self.is_stopped.wait(THREAD_SECONDS_MAX)


class _Thread(AIOKafkaConsumerThread):
    """Runs the client in a thread and an event loop of its own."""

    Worker = _Worker

    def __init__(self, consumer: Any, **arguments: Any) -> None:
        loop = type(asyncio.get_running_loop())()  # Faust would take asyncio's own, which copies every byte once more
        super().__init__(consumer, thread_loop=loop, **arguments)
        self._close_thread_loop_on_stop = True

    def _create_worker_consumer(self, transport: Transport) -> Any:
        settings = cast("ReadingTransport", transport).settings
        return make_consumer(
            settings,
            settings.stream_group,
            client_id=settings.stream_group,
            max_poll_records=settings.stream_records_max,
            max_partition_fetch_bytes=settings.stream_fetch_bytes_max,
            max_poll_interval_ms=int(settings.progress_seconds_max * 1000),
            rebalance_timeout_ms=int(settings.kafka_session_seconds * 2000),
        )

    async def on_thread_stop(self) -> None:
        """End the client within a bound, whatever state Kafka is in."""
        consumer, self._consumer = self._consumer, None
        await super().on_thread_stop()
        if consumer is not None:
            await closed(consumer, STOP_SECONDS_MAX)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Look at nothing: the stream has a watch of its own, and this one takes an idle partition for a stuck one."""

    def on_crash(self, msg: str, *fmt: Any, **kwargs: Any) -> None:
        """Say nothing: the stream looks at the app's crash itself, and tells of it once."""


class ReadingConsumer(Consumer):
    """Keeps to `Positions`, whatever Faust believes to be acknowledged."""

    def _new_consumer_thread(self) -> _Thread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    @property
    def _positions(self) -> Positions:
        return cast("ReadingTransport", self.transport).positions

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Go to where Postgres says; Faust asks for this after each assignment and wherever it lost its way."""
        places = {TP(*each): Place(*each) for each in self.assignment()}
        offsets = await self._positions.begin(places.values(), self.app.consumer_generation_id)
        found = {tp: offsets[place] for tp, place in places.items()}
        await self.seek_wait(found)
        return found

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Make safe what was read before somebody else may begin there."""
        if revoked:
            await self._positions.flush()
        await super().on_partitions_revoked(revoked)

    def _new_offset(self, tp: TP) -> int | None:
        """Return what may be committed: what is safe. Faust's own book of acknowledgements is emptied, unread."""
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        return self._positions.durable(Place(*tp))

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Keep no book of gaps: behind every transaction lies one."""

    def lags(self) -> dict[Place, int | None]:
        """Return how many offsets wait in each place; None where nothing was fetched yet."""
        consumer = self._thread._consumer  # noqa: SLF001 - the thread is this consumer's own
        return {} if consumer is None else {Place(*tp): lag for tp, lag in lags(consumer).items()}


class ReadingTransport(Transport):
    """Faust's transport with the consumer above."""

    Consumer = ReadingConsumer

    def __init__(self, urls: Iterable[Any], app: Any, settings: Settings, positions: Positions) -> None:
        super().__init__(list(urls), app)
        self.settings = settings
        self.positions = positions
