"""A router in this process, on a real Kafka; its versions answer here too, so that they can be made to fail."""

from __future__ import annotations

import asyncio
import io
import json
import math
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import fastavro
import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

from interlock.clock import SystemClock
from interlock.codec.contract import request_schema, result_schema
from interlock.codec.framing import frame
from interlock.codec.rows import decode
from interlock.errors import Transient
from interlock.ids import application_name, digest_of, uuid7
from interlock.kafka.admin import ensure_topics
from interlock.schemas import endpoint_topics
from interlock.schemas.events import Arm, DeadLetter, Route
from interlock.signature import Input, Matrix, Output, Signature
from interlock_router.features_store import Lookup
from interlock_router.lanes import Lanes
from interlock_router.live import Live
from interlock_router.model import Routes
from interlock_router.routes import RouteFollower
from interlock_router.score import Scorer
from interlock_router.settings import Settings
from interlock_router.writer_schemas import WriterSchemas

REQUEST_SCHEMA_ID = 1001
RESULT_SCHEMA_ID = 1002
FEATURES = 5
SIGNATURE = Signature(
    inputs=(*(Input(f"f{index}", "double") for index in range(FEATURES)), Input("maybe", "double", nullable=True)),
    outputs=(Output("score", "double", 0.0, 1e9),),
)
Behaviour = Callable[[Matrix], Awaitable[Matrix]]


def version_digest(version: int) -> str:
    """Return the made-up digest of a version."""
    return digest_of(f"version {version}".encode())


def route_arms(shares: Sequence[tuple[int, int]], signature: Signature) -> tuple[Arm, ...]:
    """Return the arms of a route of (version, weight), the first of them the champion."""
    return tuple(
        Arm(
            arm="champion" if index == 0 else f"arm{index}",
            model="m",
            version=version,
            digest=version_digest(version),
            application=application_name("m", version, version_digest(version)),
            weight=weight,
            signature=signature.to_json(),
        )
        for index, (version, weight) in enumerate(shares)
    )


async def sums(matrix: Matrix, version: int) -> Matrix:
    """Answer with the first feature in whole numbers and the version in the low digits, so that a wrong label shows."""
    return np.floor(matrix[:, :1]) + version / 1000


@dataclass
class LocalServing:
    """Versions in this process behind the same protocol as `Handles`; a behaviour may raise what Serve would."""

    behaviours: dict[str, tuple[str, Behaviour]] = field(default_factory=dict)
    calls: list[tuple[str, int]] = field(default_factory=list)

    async def call(self, name: str, matrix: Matrix, seconds_max: float) -> tuple[str, Matrix]:
        """Score like a replica."""
        self.calls.append((name, len(matrix)))
        if name not in self.behaviours:
            raise Transient(f"application {name} is not there")
        digest, behaviour = self.behaviours[name]
        try:
            return digest, await asyncio.wait_for(behaviour(matrix), seconds_max)
        except TimeoutError:
            raise Transient(f"application {name} did not answer") from None

    def add(self, model: str, version: int, behaviour: Behaviour | None = None) -> str:
        """Add a version and return its application's name."""
        name = application_name(model, version, version_digest(version))
        self.behaviours[name] = (version_digest(version), behaviour or (lambda matrix: sums(matrix, version)))
        return name


@contextmanager
def schema_registry(schemas: dict[int, Any]) -> Iterator[str]:
    """Serve schemas by id over HTTP on loopback, as any Confluent registry does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that the base class calls
            schema = schemas.get(int(self.path.rpartition("/")[2]))
            status, answer = (
                (200, {"schema": json.dumps(schema)})
                if schema
                else (404, {"error_code": 40403, "message": "not found"})
            )
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class NoCache:
    """A cache that is away."""

    async def put_live(self, name: str, value: dict[str, Any], ttl_seconds: float) -> None:
        """Refuse, as a Valkey that is down does."""
        raise Transient("away")


class Rig:
    """One endpoint with its topics, its route and a way to write requests and read results."""

    def __init__(self, settings: Settings, partitions: int = 2, signature: Signature = SIGNATURE) -> None:
        self.settings = settings
        self.endpoint = "e" + uuid7().replace("-", "")[-12:]
        self.signature = signature
        self.partitions = partitions
        self.lanes = math.ceil(partitions / settings.lane_partitions)
        self.serving = LocalServing()
        self.routes = Routes()
        self.epoch = 0
        self.result_schema = result_schema(self.endpoint, signature)
        self._request_schema = fastavro.parse_schema(request_schema(self.endpoint, signature))
        self._producer = Producer(
            {
                "bootstrap.servers": settings.kafka_bootstrap_servers,
                "linger.ms": 2,
                "message.max.bytes": 2**24,
                "log_level": 0,
            }
        )

    async def create(self) -> None:
        """Create the endpoint's topics."""
        await ensure_topics(self.settings, endpoint_topics(self.endpoint, self.partitions))

    def topic(self, kind: str) -> str:
        """Return the name of one of the endpoint's topics."""
        return f"{self.endpoint}.{kind}"

    def route(self, *versions: tuple[int, int], signature: Signature | None = None) -> Route:
        """Publish nothing, but make a route of (version, weight) with the next epoch, and let the router have it."""
        self.epoch += 1
        signature = signature or self.signature
        arms = route_arms(versions, signature)
        route = Route(
            endpoint=self.endpoint,
            epoch=self.epoch,
            promotion=self.epoch,
            result_schema=json.dumps(self.result_schema),
            result_schema_id=RESULT_SCHEMA_ID,
            arms=arms,
            at=SystemClock().now(),
        )
        self.routes.apply(route)
        return route

    def value(self, number: int, **features: float | None) -> bytes:
        """Return a framed request whose first feature is its number."""
        row: dict[str, Any] = {f"f{index}": number * (index == 0) + index / 10 for index in range(FEATURES)}
        if any(each.name == "maybe" for each in self.signature.inputs):
            row["maybe"] = None
        return self.write(row | {"request_id": f"r{number}", "requested_at": 1_700_000_000_000 + number, **features})

    def write(self, row: dict[str, Any]) -> bytes:
        """Return a request framed."""
        stream = io.BytesIO()
        fastavro.schemaless_writer(stream, self._request_schema, row)
        return frame(REQUEST_SCHEMA_ID, stream.getvalue())

    def produce(
        self, values: Sequence[bytes | None], keys: Callable[[int], str] = lambda index: f"k{index % 50}"
    ) -> None:
        """Write requests by librdkafka, an independent client."""
        for index, value in enumerate(values):
            while True:
                try:
                    self._producer.produce(self.topic("requests"), key=keys(index), value=value)
                    break
                except BufferError:
                    self._producer.poll(0.1)
        assert self._producer.flush(30) == 0

    def read(self, kind: str, count: int, seconds_max: float = 30.0, quiet_seconds: float = 0.5) -> list[Any]:
        """Read committed records by librdkafka until `count` have come, then a moment more, in which none may come."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.settings.kafka_bootstrap_servers,
                "group.id": uuid7(),
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "fetch.message.max.bytes": 2**24,
            }
        )
        consumer.assign([TopicPartition(self.topic(kind), each, 0) for each in range(self.partitions)])
        found: list[Any] = []
        deadline = time.monotonic() + seconds_max
        while len(found) < count and time.monotonic() < deadline:
            found.extend(consumer.consume(5000, 0.2))
        found.extend(consumer.consume(5000, quiet_seconds))
        consumer.close()
        return found

    async def results(self, count: int, seconds_max: float = 30.0) -> list[dict[str, Any]]:
        """Read results and decode them by fastavro."""
        schema = fastavro.parse_schema(self.result_schema)
        records = await asyncio.to_thread(self.read, "results", count, seconds_max)
        decoded = []
        for record in records:
            assert int.from_bytes(record.value()[1:5], "big") == RESULT_SCHEMA_ID
            stream = io.BytesIO(record.value()[5:])
            row = fastavro.schemaless_reader(stream, schema, None)
            assert isinstance(row, dict) and stream.tell() == len(record.value()) - 5
            decoded.append({**row, "_key": record.key(), "_partition": record.partition(), "_offset": record.offset()})
        return decoded

    async def letters(self, count: int) -> list[DeadLetter]:
        """Read dead letters."""
        return [decode(record.value()) for record in await asyncio.to_thread(self.read, "dead-letters", count)]


class RunningRouter:
    """The router's lanes, running in this process until the block is left.

    They know the rig's route at once, or, `routes` being their own, what `follower` reads while the test runs it.
    """

    def __init__(self, rig: Rig, features: Lookup | None = None, routes: Routes | None = None, **changes: Any) -> None:
        self.rig = rig
        settings = rig.settings.model_copy(update=changes)
        clock = SystemClock()
        self.stopping = asyncio.Event()
        given, routes = routes, rig.routes if routes is None else routes
        self.follower = RouteFollower(settings, routes, self.stopping)
        if given is None:
            self.follower.known.set()
        self.schemas = WriterSchemas(settings, clock)
        self.live = Live(settings, NoCache(), clock, self.stopping)
        self.scorer = Scorer(settings, rig.serving, clock, features)
        self.lanes = Lanes(settings, clock, self.follower, routes, self.scorer, self.schemas, self.live, self.stopping)

    async def __aenter__(self) -> Self:
        """Start."""
        self.task = asyncio.create_task(self.lanes.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Drain, and raise what the lanes raised."""
        self.stopping.set()
        await asyncio.wait_for(self.task, 20)
        await self.schemas.close()


def exactly_once(results: Sequence[dict[str, Any]], requests: int) -> None:
    """Check that every request number has exactly one result, with its own coordinates."""
    names = [row["request_id"] for row in results]
    assert len(names) == len(set(names)), f"{len(names) - len(set(names))} duplicates"
    assert set(names) == {f"r{number}" for number in range(requests)}
    assert len({(row["partition"], row["offset"]) for row in results}) == requests
    assert all(row["partition"] == row["_partition"] for row in results)
