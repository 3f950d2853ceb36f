"""Those who answer the requests: the reference loops, Interlock's lanes, and how each is started."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import fastavro

from interlock import cores
from interlock.codec.framing import HEADER_BYTES
from interlock.schemas import endpoint_topic
from interlock.schemas.topics import ENDPOINT_RESULTS
from interlock.settings import LIBRARIES
from tests.bench import work
from tests.bench.rounds import Contender
from tests.bench.topics import Kafka

EXACTLY_ONCE: Final = "exactly once"
AT_LEAST_ONCE: Final = "at least once"


def score_reader(schema: dict[str, Any]) -> Callable[[bytes], float]:
    """Return what reads the score out of a framed result of a schema."""
    parsed = fastavro.parse_schema(schema)

    def read(value: bytes) -> float:
        record: Any = fastavro.schemaless_reader(io.BytesIO(value[HEADER_BYTES:]), parsed, None)
        return float(record["score"])

    return read


def loop(kind: str, schema_file: Path) -> Contender:
    """Return a reference loop, `echo` or `bare`."""

    def command(kafka: Kafka, requests: str, results: str, group: str) -> list[str]:
        words = {
            "bootstrap": kafka.bootstrap,
            "requests": requests,
            "results": results,
            "group": group,
            "model": str(work.model_file()),
            "schema": str(schema_file),
        }
        arguments = [word for name, value in words.items() for word in ("--" + name, value)]
        return [sys.executable, "-m", "tests.bench.loops", kind, *arguments]

    reader = None if kind == "echo" else score_reader(work.RESULT_SCHEMA)
    return Contender(kind, EXACTLY_ONCE, command, score=reader)


def lanes(
    name: str,
    environment: Mapping[str, str],
    arms: Sequence[dict[str, Any]],
    schema_registry: str,
    endpoint: str = work.ENDPOINT,
    processes: int = 0,
    **settings: Any,
) -> Contender:
    """Return Interlock's lanes over Ray Serve, with a route of these arms and some settings changed.

    They run in one process for each core unless `processes` says otherwise.
    """

    def command(kafka: Kafka, requests: str, results: str, group: str) -> list[str]:
        assert (requests, results) == tuple(
            endpoint_topic(kind, endpoint) for kind in ("{endpoint}.requests", ENDPOINT_RESULTS)
        )
        told = {
            "kafka_bootstrap_servers": kafka.bootstrap,
            "schema_registry_url": schema_registry,
            "ray_address": environment["INTERLOCK_RAY_ADDRESS"],
            "group": group,
        }
        given = {
            "settings": told | settings,
            "endpoint": endpoint,
            "arms": list(arms),
            "processes": processes or cores.usable(),
        }
        return [sys.executable, "-m", "tests.bench.lanes", json.dumps(given)]

    guarantee = AT_LEAST_ONCE if settings.get("guarantee") == "at_least_once" else EXACTLY_ONCE
    return Contender(
        name,
        guarantee,
        command,
        environment=LIBRARIES | os.environ | dict(environment),
        results=endpoint_topic(ENDPOINT_RESULTS, endpoint),
        score=score_reader(work.INTERLOCK_RESULT_SCHEMA),
    )
