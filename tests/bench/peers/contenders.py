"""The list of peers: what each is, what it guarantees, how it is started, how far Interlock must be ahead of it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.bench.peers import environments
from tests.bench.peers.work import read_result as read_framed

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Contender:
    """One peer of the bench."""

    name: str
    """The folder under tests/bench/peers."""
    package: str
    """The distribution whose version is shown."""
    title: str
    """How the report calls it."""
    guarantee: Literal["exactly once", "at least once", "none"]
    must: float | None
    """Interlock's exactly-once rate over this peer's: at least this. None where the issue asks for no ratio."""
    hope: float | None
    encoding: Literal["avro", "v2-json"] = "avro"
    """How its requests are written."""
    reads_from: Literal["earliest", "latest"] = "earliest"
    """Whether requests may lie there before it starts, or have to be sent once it is ready."""
    unanswered_max: int | None = None
    """How many requests may be sent ahead of the answers, where more than that are lost. None: any number."""
    arguments: tuple[str, ...] = ()
    """What its command line has more."""

    @property
    def version(self) -> str:
        """Return the pinned version."""
        return environments.pins(self.name)[self.package]


CONTENDERS: tuple[Contender, ...] = (
    Contender("quix", "quixstreams", "Quix Streams, row-wise, commit each 100 ms", "exactly once", 6, 10),
    Contender("faust", "faust-streaming", "Faust, take(512), one model call a batch", "at least once", 25, 45),
    Contender("faststream", "faststream", "FastStream, batches of 512", "at least once", 3, 5),
    Contender("bytewax", "bytewax", "Bytewax, collect(512)", "at least once", 2.5, 4),
    Contender(
        "mlserver",
        "mlserver",
        "MLServer, Kafka mode, JSON",
        "none",
        40,
        60,
        encoding="v2-json",
        reads_from="latest",
        unanswered_max=2000,
    ),
    Contender("ray_serve", "ray", "Ray Serve behind a plain consumer", "at least once", None, None),
)


def command(
    name: str,
    *,
    bootstrap: str,
    requests: str,
    results: str,
    group: str,
    model: Path,
    schema: Path,
    partitions: int = 4,
    more: Sequence[str] = (),
) -> list[str]:
    """Return the command that runs a peer; its environment must have been prepared, its working directory is ROOT."""
    contender = next(each for each in CONTENDERS if each.name == name)
    return [
        str(environments.python(name)),
        "-m",
        f"tests.bench.peers.{name}.peer",
        *("--bootstrap", bootstrap, "--requests", requests, "--results", results, "--group", group),
        *("--model", str(model), "--schema", str(schema), "--partitions", str(partitions)),
        *(more or contender.arguments),
    ]


def environment() -> dict[str, str]:
    """Return the environment variables for a peer: nothing of the platform's, one thread for numeric libraries."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("INTERLOCK_", "PYTHON", "VIRTUAL_"))
    }
    return kept | {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DISABLE_IMPORT_WARNING": "1",
    }


def encode_v2(request_id: str, requested_at_milliseconds: int, row: Sequence[float]) -> bytes:
    """Return a request in the Open Inference Protocol's JSON, for MLServer."""
    tensor = {"name": "X", "shape": [1, len(row)], "datatype": "FP64", "data": list(row)}
    body = {"id": request_id, "parameters": {"requested_at": requested_at_milliseconds}, "inputs": [tensor]}
    return json.dumps(body, separators=(",", ":")).encode()


V2_HEADERS: list[tuple[str, str | bytes | None]] = [("mlserver-model", b"peer")]
"""What each record for MLServer bears. It must have no key: MLServer would take that for the request's id."""


def read_result(name: str, value: bytes) -> tuple[str, float]:
    """Return the request id and the score that a peer's result holds."""
    if name != "mlserver":
        return read_framed(value)
    answer = json.loads(value)
    return answer["id"], answer["outputs"][0]["data"][0]
