"""The work that every peer does: a framed Avro request in, a row of doubles, a score of the model, a framed result out.

Only the tool around it differs. Decoding is by fastavro, record by record, as the users of these tools do it; the rows
of a batch become one matrix and one call of the model where the tool hands over batches. `--decode columns` decodes
such a batch by columns, as Interlock does: what those peers could be with a decoder that few of their users know.
"""

from __future__ import annotations

import argparse
import io
import json
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import fastavro
import numpy as np
import onnxruntime
from numpy.typing import NDArray

BATCH_ROWS_MAX = 512
"""How many requests a peer asks its tool for at once, where the tool can be asked."""

WAIT_SECONDS_MAX = 0.005
"""How long a batch that is not full waits for more."""

RESULT_SCHEMA_ID = 2
RESULT_SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Result",
    "fields": [{"name": "request_id", "type": "string"}, {"name": "score", "type": "double"}],
}

_FRAME = struct.Struct(">bI")
_RESULT = fastavro.parse_schema(RESULT_SCHEMA)


@dataclass(frozen=True)
class Assignment:
    """What a peer is told on its command line."""

    bootstrap: str
    """Kafka's address, host:port."""
    requests: str
    """The topic to read."""
    results: str
    """The topic to write."""
    group: str
    """The consumer group; the name of the worker where the tool knows no groups."""
    model: Path
    """The model, an ONNX file that takes float32 rows."""
    schema: Path
    """The Avro schema of the requests."""
    partitions: int
    """How many partitions either topic has."""
    form: str = ""
    """Another form than the peer's own choice; its docstring names them."""
    decode: str = "rows"
    """`rows` by fastavro, or a whole batch into `columns` by pyruhvro, for peers that hand over batches."""

    @classmethod
    def read(cls, arguments: Sequence[str] | None = None) -> Self:
        """Return what the command line says."""
        parser = argparse.ArgumentParser()
        for name in ("bootstrap", "requests", "results", "group"):
            parser.add_argument("--" + name, required=True)
        parser.add_argument("--model", required=True, type=Path)
        parser.add_argument("--schema", required=True, type=Path)
        parser.add_argument("--partitions", type=int, default=4)
        parser.add_argument("--form", default="")
        parser.add_argument("--decode", choices=("rows", "columns"), default="rows")
        return cls(**vars(parser.parse_args(arguments)))

    def work(self) -> Work:
        """Return the work to do."""
        return Work(self.model, self.schema, self.decode == "columns")


class Work:
    """Decodes, scores, encodes."""

    def __init__(self, model: Path, schema: Path, columns: bool = False) -> None:
        written = json.loads(schema.read_text())
        # The logical type would make fastavro build a datetime of each instant, which nobody here looks at.
        fields = [{**field, "type": _plain(field["type"])} for field in written["fields"]]
        self._schema = fastavro.parse_schema({**written, "fields": fields})
        self._columns = json.dumps({**written, "fields": fields}) if columns else None
        self.features = tuple(field["name"] for field in fields if field["type"] == "double")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(model), sess_options=options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[-1].name

    def decode(self, value: bytes) -> dict[str, Any]:
        """Return the fields of a framed request."""
        stream = io.BytesIO(value)
        stream.seek(_FRAME.size)
        request: dict[str, Any] = fastavro.schemaless_reader(stream, self._schema, None)  # type: ignore[assignment]
        return request

    def row(self, request: dict[str, Any]) -> list[float]:
        """Return a request's features in the model's order."""
        return [request[name] for name in self.features]

    def score(self, rows: Sequence[Sequence[float]]) -> NDArray[np.float64]:
        """Return the scores of rows, one call of the model for all of them."""
        return self.score_matrix(np.array(rows, dtype=np.float32))

    def score_matrix(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the scores of a float32 matrix: the last column of the model's last output."""
        answer = self._session.run([self._output], {self._input: matrix})[0]
        return np.asarray(answer, dtype=np.float64).reshape(len(matrix), -1)[:, -1]

    def read(self, values: Sequence[bytes]) -> tuple[list[str], NDArray[np.float32]]:
        """Return the request ids and the features of framed requests, in their order."""
        if self._columns is not None:
            from pyruhvro import deserialize_array  # type: ignore[import-not-found]  # in the peers' environments

            batch = deserialize_array([value[_FRAME.size :] for value in values], self._columns)
            matrix = np.stack([batch.column(name).to_numpy() for name in self.features], axis=1, dtype=np.float32)
            return batch.column("request_id").to_pylist(), matrix
        requests = [self.decode(value) for value in values]
        matrix = np.array([self.row(request) for request in requests], dtype=np.float32)
        return [request["request_id"] for request in requests], matrix

    def answer(self, values: Sequence[bytes]) -> list[bytes]:
        """Return the framed results of framed requests, in their order."""
        request_ids, matrix = self.read(values)
        scores = self.score_matrix(matrix).tolist()
        return [encode(request_id, score) for request_id, score in zip(request_ids, scores, strict=True)]


def encode(request_id: str, score: float) -> bytes:
    """Return a framed result."""
    stream = io.BytesIO()
    stream.write(_FRAME.pack(0, RESULT_SCHEMA_ID))
    fastavro.schemaless_writer(stream, _RESULT, {"request_id": request_id, "score": score})
    return stream.getvalue()


def read_result(value: bytes) -> tuple[str, float]:
    """Return the request id and the score of a framed result."""
    stream = io.BytesIO(value)
    stream.seek(_FRAME.size)
    result: dict[str, Any] = fastavro.schemaless_reader(stream, _RESULT, None)  # type: ignore[assignment]
    return result["request_id"], result["score"]


def ready() -> None:
    """Tell whoever started this process that it consumes."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()


def _plain(kind: Any) -> Any:
    return kind["type"] if isinstance(kind, dict) and "logicalType" in kind else kind
