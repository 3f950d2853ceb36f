"""MLServer in Kafka mode, no guarantee: a custom runtime around onnxruntime, JSON in the Open Inference Protocol.

MLServer's Kafka mode knows JSON alone, joins no group, commits no offset and starts at the end of the topic, so its
requests are sent once it listens. Each record becomes a task of its own, without bound: of 20,000 sent at once it
lost 10,352 (its producer's buffer fills, and what cannot be answered in time is logged and dropped), so no more than
2,000 are kept unanswered. What a competent user turns: no worker processes (the hop to one costs more than this
model), quiet logs (it logs each record), no gzip, no metrics server. Its adaptive batching is at hand as
`--form batch`; with a model so small it measured the same (450 against 465 microseconds of CPU an event).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from mlserver import MLModel, MLServer, ModelSettings, Settings  # type: ignore[import-not-found]
from mlserver.codecs import NumpyCodec  # type: ignore[import-not-found]  # not in our environment
from mlserver.settings import ModelParameters  # type: ignore[import-not-found]  # not in our environment
from mlserver.types import InferenceResponse  # type: ignore[import-not-found]  # not in our environment

from tests.bench.peers.work import BATCH_ROWS_MAX, WAIT_SECONDS_MAX, Assignment, ready

MODEL = "peer"
READY_SECONDS_MAX = 60.0
LOOK_SECONDS = 0.05


class OnnxModel(MLModel):  # type: ignore[misc]  # not in our environment
    """The model, as MLServer's guide to custom runtimes has it."""

    async def load(self) -> bool:
        """Open the session."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            self.settings.parameters.uri, sess_options=options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[-1].name
        return True

    async def predict(self, payload: Any) -> Any:
        """Answer a request, or a batch of them that MLServer merged."""
        rows = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32)
        scores = np.asarray(self._session.run([self._output], {self._input: rows})[0], dtype=np.float64)
        column = scores.reshape(len(rows), -1)[:, -1:]
        return InferenceResponse(
            model_name=self.name, id=payload.id, outputs=[NumpyCodec.encode_output("score", column)]
        )


def free_port() -> int:
    """Return a port on loopback that nobody listens on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


async def serve(assignment: Assignment) -> None:
    """Run until SIGTERM, which MLServer answers itself."""
    server = MLServer(
        Settings(
            debug=False,
            host="127.0.0.1",
            http_port=free_port(),
            grpc_port=free_port(),
            metrics_endpoint=None,
            gzip_enabled=False,
            parallel_workers=0,
            kafka_enabled=True,
            kafka_servers=assignment.bootstrap,
            kafka_topic_input=assignment.requests,
            kafka_topic_output=assignment.results,
        )
    )
    for name in ("mlserver", "uvicorn", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.ERROR)
    batched = assignment.form == "batch"
    model = ModelSettings(
        name=MODEL,
        implementation=OnnxModel,
        parameters=ModelParameters(uri=str(Path(assignment.model).resolve())),
        max_batch_size=BATCH_ROWS_MAX if batched else 0,
        max_batch_time=WAIT_SECONDS_MAX if batched else 0,
    )
    serving = asyncio.create_task(server.start([model]))
    async with asyncio.timeout(READY_SECONDS_MAX):
        await listening(server)
    ready()
    await serving


async def listening(server: Any) -> None:
    """Wait until the model is loaded and the position in each partition is known: what is sent from then on is read."""
    while not await server._model_repository_handlers._model_registry.get_models():
        await asyncio.sleep(LOOK_SECONDS)
    while not (consumer := getattr(server._kafka_server, "_consumer", None)) or not consumer.assignment():
        await asyncio.sleep(LOOK_SECONDS)
    for partition in consumer.assignment():
        await consumer.position(partition)


if __name__ == "__main__":
    asyncio.run(serve(Assignment.read()))
