"""Raw Ray Serve behind a plain consumer, at least once: consume a batch, call the handle, produce, commit.

This is what teams write who run models on Ray Serve and requests on Kafka: Ray does not touch topics. What a competent
user turns: one handle call for a whole batch of rows (a call costs 2 ms whatever it carries), the next batch consumed
and decoded while the replica scores this one, no dashboard, the model's thread pinned to one. The batch is larger than
the other peers' (a handle call is dear), and offsets are committed after the results are flushed.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
from confluent_kafka import Consumer, Message, Producer
from numpy.typing import NDArray
from ray import serve

from tests.bench.peers.work import WAIT_SECONDS_MAX, Assignment, Work, encode, ready

ROWS_MAX = 2048
"""How many requests one handle call carries at most."""

FLUSH_SECONDS_MAX = 30.0


def listen_on_loopback_only() -> None:
    """Make a worker's gRPC servers open their ports on 127.0.0.1: a replica's is on every interface otherwise.

    It changes nothing of what is measured: calls from the same machine go over loopback either way.
    """
    from grpc.aio import _server

    original = _server.Server.add_insecure_port

    def add_insecure_port(self: Any, address: str) -> int:
        return int(original(self, address.replace("[::]:", "127.0.0.1:")))

    _server.Server.add_insecure_port = add_insecure_port


class Model:
    """One replica's model."""

    def __init__(self, model: str, schema: str) -> None:
        self._work = Work(Path(model), Path(schema))

    def __call__(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the scores of a matrix of rows."""
        return self._work.score_matrix(matrix)


class Loop:
    """The consumer around the handle."""

    def __init__(self, assignment: Assignment, handle: Any) -> None:
        self._work = assignment.work()
        self._results = assignment.results
        self._handle = handle
        self._stopped = False
        self._consumer = Consumer(
            {
                "bootstrap.servers": assignment.bootstrap,
                "group.id": assignment.group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "fetch.wait.max.ms": 10,
            }
        )
        self._consumer.subscribe([assignment.requests], on_assign=lambda *_: ready())
        self._producer = Producer({"bootstrap.servers": assignment.bootstrap, "linger.ms": 5})

    def stop(self, *_: object) -> None:
        """End after the batch that is under way."""
        self._stopped = True

    def run(self) -> None:
        """Consume, call, and while the replica scores, consume the next."""
        waiting: tuple[list[Message], list[str], Any] | None = None
        while not self._stopped or waiting:
            following = None if self._stopped else self._ask()
            if waiting:
                self._answer(*waiting)
            waiting = following
        self._consumer.close()

    def _ask(self) -> tuple[list[Message], list[str], Any] | None:
        messages = [each for each in self._consumer.consume(ROWS_MAX, WAIT_SECONDS_MAX) if each.error() is None]
        if not messages:
            return None
        request_ids, matrix = self._work.read([message.value() or b"" for message in messages])
        return messages, request_ids, self._handle.remote(matrix)

    def _answer(self, messages: Sequence[Message], request_ids: Sequence[str], response: Any) -> None:
        for message, request_id, score in zip(messages, request_ids, response.result().tolist(), strict=True):
            self._producer.produce(self._results, encode(request_id, score), message.key())
        if self._producer.flush(FLUSH_SECONDS_MAX):
            raise TimeoutError("results were not written")
        for message in messages:
            self._consumer.store_offsets(message)
        self._consumer.commit(asynchronous=False)


def main() -> None:
    """Run until SIGTERM."""
    assignment = Assignment.read()
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        logging_level=logging.ERROR,
        log_to_driver=False,
        runtime_env={"worker_process_setup_hook": listen_on_loopback_only},
    )
    serve.start(logging_config={"log_level": "ERROR", "enable_access_log": False}, proxy_location="Disabled")
    deployment = serve.deployment(num_replicas=1, max_ongoing_requests=4, ray_actor_options={"num_cpus": 1})(Model)
    handle = serve.run(
        deployment.bind(str(assignment.model.resolve()), str(assignment.schema.resolve())),
        name="peer",
        route_prefix=None,
    )
    loop = Loop(assignment, handle)
    signal.signal(signal.SIGTERM, loop.stop)
    loop.run()
    ray.shutdown()


if __name__ == "__main__":
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    main()
