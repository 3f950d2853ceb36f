"""The proxy before a real Kafka: stock clients work through it unchanged, and each action does what it says."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as AioPlace
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError, KafkaError, RequestTimedOutError, TopicAlreadyExistsError
from aiokafka.protocol.admin import CreateTopicsRequest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # it is there

from interlock.ids import uuid7
from tests.rig.line import until
from tests.rig.proxy import Cut, Delay, DropRequest, DropResponse, Hold, KafkaProxy, Side
from tests.rig.proxy_frames import FrameError, framed
from tests.rig.proxy_process import ProxyProcess

log = logging.getLogger(__name__)

PARTITIONS = 2
ROWS = 500
WAIT_SECONDS_MAX = 20.0
PATIENCE_MILLISECONDS = 1_500
LATE_SECONDS = 0.5
BULK_ROWS = 20_000
BULK_BYTES = 260
OVERHEAD_MAX = 12.0
"""How many times as long a bulk may take through the proxy; a guard against a stall, far from what is measured."""


@pytest.fixture
def bootstrap(servers: dict[str, str]) -> str:
    """The broker itself."""
    return servers["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"]


@pytest.fixture
async def proxy(bootstrap: str) -> AsyncIterator[KafkaProxy]:
    """A proxy in this process."""
    async with KafkaProxy(bootstrap) as proxy:
        yield proxy


@pytest.fixture
async def topic(bootstrap: str) -> str:
    """A topic of the test's own."""
    name = f"proxy-{uuid7()[-12:]}"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    made = admin.create_topics([NewTopic(name, PARTITIONS, 1)])
    await asyncio.to_thread(made[name].result, WAIT_SECONDS_MAX)
    return name


def values(count: int) -> list[bytes]:
    """Return that many values."""
    return [b"value %d" % number for number in range(count)]


def produce(bootstrap: str, topic: str, rows: Sequence[bytes], **settings: Any) -> None:
    """Write by librdkafka, to partition 0, and wait until all are acknowledged."""
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0} | settings)
    for row in rows:
        while True:
            try:
                producer.produce(topic, row, partition=0)
                break
            except BufferError:
                producer.poll(0.05)
    assert producer.flush(WAIT_SECONDS_MAX) == 0


def consume(bootstrap: str, topic: str, count: int, isolation: str = "read_committed", group: str = "") -> list[bytes]:
    """Read by librdkafka from the beginning: as a member of a group, where one is named."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group or uuid7(),
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": isolation,
            "log_level": 0,
        }
    )
    if group:
        consumer.subscribe([topic])
    else:
        consumer.assign([TopicPartition(topic, each, 0) for each in range(PARTITIONS)])
    found: list[bytes] = []
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while len(found) < count and time.monotonic() < deadline:
        found += [message.value() or b"" for message in consumer.consume(count - len(found), 0.2)]
    if group:
        consumer.commit(asynchronous=False)
    consumer.close()
    return found


def transact(bootstrap: str, topic: str, rows: Sequence[bytes], *, commit: bool) -> None:
    """Write in one transaction of librdkafka's, with a group's offset in it, and end it."""
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": uuid7(), "log_level": 0})
    group = Consumer({"bootstrap.servers": bootstrap, "group.id": uuid7(), "log_level": 0})
    producer.init_transactions(WAIT_SECONDS_MAX)
    producer.begin_transaction()
    for row in rows:
        producer.produce(topic, row, partition=0)
    producer.send_offsets_to_transaction([TopicPartition(topic, 1, 7)], group.consumer_group_metadata(), 10)
    if commit:
        producer.commit_transaction(WAIT_SECONDS_MAX)
    else:
        producer.abort_transaction(WAIT_SECONDS_MAX)
    group.close()


async def test_librdkafka_works_through_it_and_stays_behind_it(bootstrap: str, proxy: KafkaProxy, topic: str) -> None:
    """Produce, a group with its commits, a committed and an aborted transaction; every kind of request came by here."""
    await asyncio.to_thread(produce, proxy.bootstrap, topic, values(ROWS))
    await asyncio.to_thread(transact, proxy.bootstrap, topic, [b"committed"], commit=True)
    await asyncio.to_thread(transact, proxy.bootstrap, topic, [b"aborted"], commit=False)
    expected = [*values(ROWS), b"committed"]
    assert await asyncio.to_thread(consume, proxy.bootstrap, topic, ROWS + 1, group="of-" + topic) == expected
    assert await asyncio.to_thread(consume, bootstrap, topic, ROWS + 1) == expected
    admin = AdminClient({"bootstrap.servers": proxy.bootstrap})
    listed = await asyncio.to_thread(admin.list_topics, timeout=WAIT_SECONDS_MAX)
    assert {f"{each.host}:{each.port}" for each in listed.brokers.values()} == {proxy.bootstrap}
    asked = admin.describe_cluster(request_timeout=WAIT_SECONDS_MAX)
    described = await asyncio.to_thread(asked.result, WAIT_SECONDS_MAX)
    assert {f"{each.host}:{each.port}" for each in described.nodes} == {proxy.bootstrap}
    for name in (
        "Produce", "Fetch", "Metadata", "FindCoordinator", "JoinGroup", "SyncGroup", "OffsetCommit", "OffsetFetch",
        "InitProducerId", "AddPartitionsToTxn", "TxnOffsetCommit", "EndTxn",
    ):  # fmt: skip
        assert proxy.seen[name], name
    assert set(proxy.acks) == {-1}


async def test_aiokafka_works_through_it_and_stays_behind_it(proxy: KafkaProxy, topic: str) -> None:
    """A transaction with an offset in it, and a group that reads its records."""
    producer = AIOKafkaProducer(bootstrap_servers=proxy.bootstrap, transactional_id=uuid7())
    async with producer, producer.transaction():
        for row in values(ROWS):
            await producer.send(topic, row, partition=0)
        await producer.send_offsets_to_transaction({AioPlace(topic, 1): 7}, "of-" + topic)
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=proxy.bootstrap, group_id="of-" + topic, auto_offset_reset="earliest",
        isolation_level="read_committed", enable_auto_commit=False,
    )  # fmt: skip
    async with consumer:
        found = [(await asyncio.wait_for(anext(consumer), WAIT_SECONDS_MAX)).value for _ in range(ROWS)]
        await consumer.commit()
    assert found == values(ROWS)
    for name in ("Produce", "EndTxn", "AddOffsetsToTxn", "TxnOffsetCommit", "JoinGroup", "OffsetCommit", "LeaveGroup"):
        assert proxy.seen[name], name


async def test_delay_keeps_a_request_and_all_behind_it_in_their_order(proxy: KafkaProxy, topic: str) -> None:
    """The first produce is late, so is everything on its connection; nothing else is, and nothing changes places."""
    rule = proxy.on("Produce", Delay(LATE_SECONDS), times=1)
    began = time.monotonic()
    await asyncio.to_thread(produce, proxy.bootstrap, topic, values(ROWS), **{"batch.num.messages": 10})
    assert time.monotonic() - began >= LATE_SECONDS
    began = time.monotonic()
    await asyncio.to_thread(produce, proxy.bootstrap, topic, [b"after"])
    assert time.monotonic() - began < LATE_SECONDS
    assert rule.count == 1
    assert await asyncio.to_thread(consume, proxy.bootstrap, topic, ROWS + 1) == [*values(ROWS), b"after"]


async def test_delays_run_side_by_side_as_on_a_long_line(proxy: KafkaProxy, topic: str) -> None:
    """Twenty answers, each 0.2 s late, take 0.2 s and not four: what is on its way waits at the same time."""
    proxy.on("Produce", Delay(0.2, Side.RESPONSE))
    settings = {"batch.num.messages": 1, "enable.idempotence": False, "max.in.flight": 20}
    began = time.monotonic()
    await asyncio.to_thread(produce, proxy.bootstrap, topic, values(20), **settings)
    assert proxy.seen["Produce"] >= 20
    assert 0.2 <= time.monotonic() - began < 20 * 0.2


@pytest.mark.parametrize("side", list(Side))
async def test_held_is_held_until_released(bootstrap: str, proxy: KafkaProxy, topic: str, side: Side) -> None:
    """A held request has not come to the broker, a held answer has come from it; released, the client goes on."""
    rule = proxy.on("Produce", Hold(side), times=1)
    writing = asyncio.create_task(asyncio.to_thread(produce, proxy.bootstrap, topic, [b"held"]))
    await rule.acted(1, WAIT_SECONDS_MAX)
    assert rule.holds == proxy.waiting == 1
    if side is Side.RESPONSE:
        assert await asyncio.to_thread(consume, bootstrap, topic, 1) == [b"held"]
    else:
        assert await asyncio.to_thread(end_of, bootstrap, topic) == 0
    assert not writing.done()
    assert proxy.release() == 1
    await asyncio.wait_for(writing, WAIT_SECONDS_MAX)
    assert await asyncio.to_thread(end_of, bootstrap, topic) == 1


@asynccontextmanager
async def asking(bootstrap: str) -> AsyncIterator[Callable[[str], Awaitable[Any]]]:
    """Give a function that creates a topic by one plain request of aiokafka's client, which never asks twice."""
    client = AIOKafkaClient(bootstrap_servers=bootstrap, request_timeout_ms=PATIENCE_MILLISECONDS)
    await client.bootstrap()
    [broker] = client.cluster.brokers()

    async def create(name: str) -> Any:
        return await client.send(broker.nodeId, CreateTopicsRequest([(name, 1, 1, [], [])], 5_000, validate_only=False))

    try:
        yield create
    finally:
        await client.close()


async def is_there(bootstrap: str, topic: str) -> bool:
    """Ask the broker itself whether it has a topic."""
    listed = await asyncio.to_thread(AdminClient({"bootstrap.servers": bootstrap}).list_topics, timeout=10.0)
    return topic in listed.topics


async def test_held_request_comes_to_the_broker_though_its_client_has_left(bootstrap: str, proxy: KafkaProxy) -> None:
    """That is what a late request is: whoever asked has long given it up, and the broker does it all the same."""
    name = f"late-{uuid7()[-12:]}"
    rule = proxy.on("CreateTopics", Hold(), times=1)
    async with asking(proxy.bootstrap) as create:
        with pytest.raises(RequestTimedOutError):
            await create(name)
    assert rule.holds == 1
    assert not await is_there(bootstrap, name)
    assert rule.release() == 1
    await until(lambda: is_there(bootstrap, name), WAIT_SECONDS_MAX, "the late request has come")
    await until(lambda: not proxy.connections, WAIT_SECONDS_MAX, "nothing is left of it")


@pytest.mark.parametrize(
    ("action", "error", "is_done"),
    [
        (DropRequest(), RequestTimedOutError, False),
        (DropResponse(), RequestTimedOutError, True),
        (Cut(), KafkaConnectionError, False),
        (Cut(Side.RESPONSE), KafkaConnectionError, True),
    ],
)
async def test_what_the_client_hears_and_what_the_broker_does(
    bootstrap: str, proxy: KafkaProxy, action: Any, error: type[KafkaError], is_done: bool
) -> None:
    """Dropped: nothing but a timeout. Cut: a broken connection. The broker does it only where the answer is hurt."""
    name = f"hurt-{uuid7()[-12:]}"
    rule = proxy.on("CreateTopics", action, times=1)
    async with asking(proxy.bootstrap) as create:
        with pytest.raises(error):
            await create(name)
        assert rule.count == 1
        assert await is_there(bootstrap, name) is is_done
        answer = await create(name)
        assert answer.topic_errors[0][1] == (TopicAlreadyExistsError.errno if is_done else 0)


async def test_rules_skip_count_and_choose(proxy: KafkaProxy, topic: str) -> None:
    """The first two are let by, then each second one is taken, twice; only of the client and transaction named."""
    rule = proxy.on("Produce", Delay(0.0), skip=2, every=2, times=2, client_id="chosen")
    other = proxy.on("EndTxn", Delay(0.0), transactional_id="chosen-" + topic)
    for number in range(8):
        if number == 3:
            await asyncio.to_thread(produce, proxy.bootstrap, topic, [b"by another"])
        settings = {"client.id": "chosen"}
        await asyncio.to_thread(produce, proxy.bootstrap, topic, [b"%d" % number], **settings)
    assert rule.count == 2
    await asyncio.to_thread(transact, proxy.bootstrap, topic, [b"in a transaction"], commit=True)
    assert other.count == 0
    producer = AIOKafkaProducer(bootstrap_servers=proxy.bootstrap, transactional_id="chosen-" + topic)
    async with producer, producer.transaction():
        await producer.send_and_wait(topic, b"chosen", partition=0)
    assert other.count == 1
    rule.end()
    with pytest.raises(ValueError, match="every"):
        proxy.on("Produce", Hold(), every=0)


async def test_bytes_that_are_no_frames_are_told(bootstrap: str) -> None:
    """The connection ends, and so does the test that caused it."""
    proxy = KafkaProxy(bootstrap)
    await proxy.__aenter__()
    host, port = proxy.bootstrap.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(framed(b"\0"))
    assert await asyncio.wait_for(reader.read(), WAIT_SECONDS_MAX) == b""
    writer.close()
    with pytest.raises(FrameError):
        await proxy.__aexit__(None, None, None)


async def test_cluster_that_is_away_is_a_broken_connection(proxy: KafkaProxy) -> None:
    """A client of a proxy before nobody is refused at once and does not hang."""
    nobody = proxy.translate("127.0.0.1", 9)
    await asyncio.gather(*proxy._opening)
    reader, writer = await asyncio.open_connection(*nobody)
    assert await asyncio.wait_for(reader.read(), WAIT_SECONDS_MAX) == b""
    writer.close()


async def test_client_that_does_not_read_makes_the_broker_wait(proxy: KafkaProxy, topic: str) -> None:
    """Answers of 12 MB asked for and not read: what is kept here stays bounded, and comes whole once it is read."""
    rows = [bytes([number % 256]) * 400_000 for number in range(30)]
    await asyncio.to_thread(produce, proxy.bootstrap, topic, rows, **{"message.max.bytes": 2**24})
    rule = proxy.on("Fetch", Hold(Side.RESPONSE), times=1)
    reading = asyncio.create_task(asyncio.to_thread(consume, proxy.bootstrap, topic, len(rows)))
    await rule.acted(1, WAIT_SECONDS_MAX)
    kept = sum(len(each.content) for one in proxy._connections for each in one.answers.queue)
    assert kept < 12_000_000
    rule.release()
    assert await asyncio.wait_for(reading, WAIT_SECONDS_MAX) == rows


async def test_process_of_its_own_obeys_the_same_words(bootstrap: str, topic: str) -> None:
    """Rules, counts, holds and releases over its standard input; a nonsense is an answer, not an end."""
    async with ProxyProcess(bootstrap) as proxy:
        rule = await proxy.on("Produce", Hold(), times=1)
        writing = asyncio.create_task(asyncio.to_thread(produce, proxy.bootstrap, topic, [b"held"]))
        await rule.acted(1, WAIT_SECONDS_MAX)
        assert (await rule.count(), await rule.holds(), await proxy.waiting()) == (1, 1, 1)
        assert await asyncio.to_thread(end_of, bootstrap, topic) == 0
        assert await proxy.release() == 1
        await asyncio.wait_for(writing, WAIT_SECONDS_MAX)
        with pytest.raises(RuntimeError, match="skip"):
            await proxy.ask("on", api="Produce", action="Hold", skip=-1)
        with pytest.raises(RuntimeError, match="dance"):
            await proxy.ask("dance")
        assert (await proxy.seen())["Produce"] >= 1
        assert await proxy.acks() == {-1: (await proxy.seen())["Produce"]}
        await rule.end()


async def test_what_it_costs(bootstrap: str, topic: str) -> None:
    """A bulk written and read through the proxy's own process, against the same without (--log-cli-level=INFO)."""
    rows = [bytes(BULK_BYTES)] * BULK_ROWS
    seconds: dict[str, list[float]] = {"direct": [], "proxied": []}
    async with ProxyProcess(bootstrap) as proxy:
        for name, address in (("direct", bootstrap), ("proxied", proxy.bootstrap)) * 2:
            began = time.monotonic()
            await asyncio.to_thread(produce, address, topic, rows, **{"linger.ms": 5})
            await asyncio.to_thread(consume, address, topic, BULK_ROWS)
            seconds[name].append(time.monotonic() - began)
    ratio = min(seconds["proxied"]) / min(seconds["direct"])
    rate = BULK_ROWS / min(seconds["proxied"])
    log.info("through the proxy: %.2f times as long as without, %.0f records written and read a second", ratio, rate)
    assert ratio < OVERHEAD_MAX


def end_of(bootstrap: str, topic: str) -> int:
    """Return the offset behind the last record of partition 0."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": uuid7(), "log_level": 0})
    try:
        return int(consumer.get_watermark_offsets(TopicPartition(topic, 0), WAIT_SECONDS_MAX)[1])
    except KafkaException as error:
        raise AssertionError(f"{topic} cannot be asked") from error
    finally:
        consumer.close()
