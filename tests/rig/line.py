"""One endpoint under the rig: a group of its own, numbered requests that keep coming, routers that are hurt."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.group import LeaveGroupRequest
from confluent_kafka import ConsumerGroupTopicPartitions, Message, Producer, TopicPartition
from confluent_kafka import KafkaError as ClientError
from confluent_kafka.admin import AdminClient

from interlock.codec.contract import request_schema
from interlock.ids import uuid7
from interlock_router.settings import Settings
from tests.integration.router.rig import REQUEST_SCHEMA_ID, RESULT_SCHEMA_ID, Rig, version_digest
from tests.rig.history import Arm, Request, Rules, Sent, Violation
from tests.rig.history_check import check
from tests.rig.history_reading import gather
from tests.rig.nursery import Hurt, Nursery

KEYS: Final = 50
TICK_SECONDS: Final = 0.02
FLUSH_SECONDS_MAX: Final = 90.0
ASK_SECONDS_MAX: Final = 10.0
UNSAID: Final = -1
"""The offset of a request that a repetition found there already: Kafka then says that it has it, but not where."""
VERSIONS: Final = ((1, 7_000), (2, 3_000))
"""Two versions, so that a score under the wrong label shows."""


def _key(number: int) -> bytes:
    return b"k%d" % (number % KEYS)


class Feed:
    """Writes numbered requests at an even rate up to a number, by librdkafka, idempotently."""

    def __init__(self, rig: Rig, requests_max: float) -> None:
        self._rig = rig
        self._requests_max = requests_max
        self._producer = Producer(
            {
                "bootstrap.servers": rig.settings.kafka_bootstrap_servers,
                "enable.idempotence": True,
                "acks": "all",
                # With more, a record may be lost although it is acknowledged: where the first request to a partition
                # that is just being made fails, the second is taken for the first, and the first for a repetition.
                "max.in.flight.requests.per.connection": 1,
                "linger.ms": 2,
                "reconnect.backoff.max.ms": 500,
                "message.timeout.ms": 300_000,
                "log_level": 0,
            }
        )
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._acknowledged: dict[int, Sent] = {}
        self.failed: Counter[str] = Counter()
        self.written = 0

    @property
    def sent(self) -> list[Sent]:
        """Return what Kafka acknowledged, in the order of sending."""
        return [self._acknowledged[number] for number in sorted(self._acknowledged)]

    def start(self, per_second: float) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(per_second))

    async def stop(self) -> int:
        """End, see everything acknowledged, and return how many requests there are. Fails where one was given up."""
        assert self._task is not None
        self._stopping.set()
        await self._task
        assert await asyncio.to_thread(self._producer.flush, FLUSH_SECONDS_MAX) == 0
        assert not self.failed and len(self._acknowledged) == self.written, self.failed
        return self.written

    def write(self, count: int) -> None:
        """Hand the next requests to the client library."""
        for number in range(self.written, self.written + count):
            value = self._rig.value(number, requested_at=round(time.time() * 1000))
            self._hand_over(number, value)
        self.written += count
        self._producer.poll(0)

    def _hand_over(self, number: int, value: bytes) -> None:
        """Give one request to the library; where it holds as many as it can, wait until it has got rid of some."""
        topic, taken = self._rig.topic("requests"), partial(self._taken, number)
        while True:
            try:
                self._producer.produce(topic, key=_key(number), value=value, on_delivery=taken)
            except BufferError:
                self._producer.poll(TICK_SECONDS)
            else:
                return

    def _taken(self, number: int, error: ClientError | None, message: Message) -> None:
        if error is None:
            offset = message.offset()
            place = (message.partition() or 0, UNSAID if offset is None or offset < 0 else offset)
            self._acknowledged[number] = Sent(f"r{number}", _key(number), *place)
        else:
            self.failed[error.name()] += 1

    async def _run(self, per_second: float) -> None:
        began, before = time.monotonic(), self.written
        while not self._stopping.is_set():
            due = min((time.monotonic() - began) * per_second, self._requests_max) - (self.written - before)
            self.write(max(0, int(due)))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), TICK_SECONDS)


class Line:
    """An endpoint with its group, its routers and its requests."""

    def __init__(self, settings: Settings, nursery: Nursery, partitions: int, requests_max: float = math.inf) -> None:
        changes = {"group": f"line-{uuid7()[-12:]}"}
        self.rig = Rig(settings.model_copy(update=changes), partitions)
        self.feed = Feed(self.rig, requests_max)
        self._nursery = nursery
        self._admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers, "log_level": 0})
        self.routers: list[Hurt] = []

    async def start(self, crash: str = "", plant: str = "") -> Hurt:
        """Start a router."""
        plain = self.rig.settings.model_dump(exclude_defaults=True, mode="json", exclude={"schema_registry_url"})
        plain["schema_registry_url"] = self.rig.settings.schema_registry_url.get_secret_value()
        router = await self._nursery.start(
            "router", json.dumps(plain), self.rig.endpoint, str(self.rig.partitions), json.dumps(VERSIONS),
            crash=crash, plant=plant,
        )  # fmt: skip
        self.routers.append(router)
        return router

    async def committed(self) -> int:
        """Return the sum of the group's committed offsets; one of which a transaction is open does not count."""
        settings, topic = self.rig.settings, self.rig.topic("requests")
        wanted = ConsumerGroupTopicPartitions(
            settings.group, [TopicPartition(topic, each) for each in range(self.rig.partitions)]
        )
        asked = self._admin.list_consumer_group_offsets([wanted], request_timeout=ASK_SECONDS_MAX)[settings.group]
        found = await asyncio.to_thread(asked.result, ASK_SECONDS_MAX)
        return sum(max(0, each.offset) for each in found.topic_partitions)

    async def judge(self, seconds_max: float = 60.0) -> list[Violation]:
        """Return what is wrong with the history, once the group has passed the last request or the time is over."""
        rig, settings = self.rig, self.rig.settings
        schemas = {REQUEST_SCHEMA_ID: request_schema("any", rig.signature), RESULT_SCHEMA_ID: rig.result_schema}
        collected = await asyncio.to_thread(
            gather,
            settings.kafka_bootstrap_servers,
            rig.endpoint,
            settings.group,
            schemas.__getitem__,
            seconds_max=seconds_max,
        )
        collected.sent = _found(self.feed.sent, collected.requests)
        arms = [
            Arm("champion" if not place else f"arm{place}", version, version_digest(version), weight)
            for place, (version, weight) in enumerate(VERSIONS)
        ]
        return await asyncio.to_thread(check, collected, Rules(routes={1: arms}))

    async def bury(self) -> None:
        """Tell the coordinator that all members are gone, so that the next need not wait for their sessions."""
        await bury(self.rig.settings.kafka_bootstrap_servers, self.rig.settings.group)


def _found(sent: Sequence[Sent], requests: Sequence[Request]) -> list[Sent]:
    """Return what was sent, with the offsets that Kafka did not say as the topic shows them, where it has them."""
    places = {each.request_id: each.offset for each in requests}
    return [
        each._replace(offset=places.get(each.request_id, UNSAID)) if each.offset == UNSAID else each for each in sent
    ]


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float, what: str) -> float:
    """Wait until a condition (plain or awaitable) holds and return how long it took; fails with `what`."""
    began = time.monotonic()
    while True:
        found = condition()
        if found if isinstance(found, bool) else await found:
            return time.monotonic() - began
        assert time.monotonic() - began < seconds, f"not within {seconds:.0f} s: {what}"
        await asyncio.sleep(TICK_SECONDS)


async def bury(bootstrap: str, group: str) -> None:
    """Take every member out of a group in its name; only right where all of them are dead."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    asked = admin.describe_consumer_groups([group], request_timeout=ASK_SECONDS_MAX)[group]
    described = await asyncio.to_thread(asked.result, ASK_SECONDS_MAX)
    if not described.members:
        return
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    await client.bootstrap()
    try:
        node = await client.coordinator_lookup(CoordinationType.GROUP, group)
        await client.ready(node, group=ConnectionGroup.COORDINATION)
        for member in described.members:
            answer: Any = await client.send(
                node, LeaveGroupRequest(group, member.member_id), group=ConnectionGroup.COORDINATION
            )
            if answer.error_code:
                raise KafkaError(f"{group}: {for_code(answer.error_code).__name__}")
    finally:
        await client.close()
