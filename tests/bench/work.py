"""The work that every contender of the bench does: requests of thirty doubles, and one model of 100 trees.

All of it comes from fixed seeds; the digests of rows and model stand in the report.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from interlock.codec import varints
from interlock.codec.contract import request_schema, result_schema
from interlock.codec.framing import frame
from interlock.embedded.home import cache_folder, write_whole
from interlock.signature import Input, Matrix, Output, Signature

ENDPOINT: Final = "bench"
PARTITIONS: Final = 4
KEYS: Final = 5_000
SCHEMA_ID: Final = 1001
RESULT_SCHEMA_ID: Final = 1002
FEATURES: Final = 30
ROWS: Final = 8_192
"""Different rows: fewer, and the branch predictor learns them by heart."""
TREES: Final = 100
DEPTH: Final = 6
TRAINING_ROWS: Final = 4_000
SEED: Final = 20_261_127
SIGNATURE: Final = Signature(
    inputs=tuple(Input(f"f{index}", "double") for index in range(FEATURES)),
    outputs=(Output("score", "double", 0.0, 1.0),),
)
SCHEMA: Final[dict[str, Any]] = request_schema(ENDPOINT, SIGNATURE)
RESULT_SCHEMA: Final[dict[str, Any]] = {
    "type": "record",
    "name": "Result",
    "fields": [{"name": "request_id", "type": "string"}, {"name": "score", "type": "double"}],
}
"""What a contender has to answer."""
INTERLOCK_RESULT_SCHEMA: Final[dict[str, Any]] = result_schema(ENDPOINT, SIGNATURE)
"""What Interlock answers: the same, with coordinates and provenance."""

_NAME_DIGITS: Final = 9
_HEAD: Final = frame(SCHEMA_ID, varints.encode(1 + _NAME_DIGITS) + b"r")
_MODEL_NAME: Final = f"bench-{TREES}x{DEPTH}-{FEATURES}-{SEED}.onnx"


@cache
def rows() -> Matrix:
    """Return the features of the requests, float64 (ROWS, FEATURES)."""
    return np.random.default_rng(SEED).normal(size=(ROWS, FEATURES))


@cache
def model() -> bytes:
    """Return the model as ONNX (input `X` float [rows, 30], output `probabilities`); trained once, then kept."""
    kept = cache_folder() / "bench" / _MODEL_NAME
    if kept.is_file():
        return kept.read_bytes()
    artifact = _train()
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_whole(kept, artifact)
    return artifact


def model_file() -> Path:
    """Return the file of the model."""
    model()
    return cache_folder() / "bench" / _MODEL_NAME


def _train() -> bytes:
    from skl2onnx import to_onnx
    from sklearn.ensemble import GradientBoostingClassifier

    random = np.random.default_rng(SEED + 1)
    features = random.normal(size=(TRAINING_ROWS, FEATURES))
    noise = random.normal(size=TRAINING_ROWS)
    truth = features[:, :6].sum(axis=1) + np.sin(3 * features[:, 7]) + noise > 0
    trees = GradientBoostingClassifier(n_estimators=TREES, max_depth=DEPTH, subsample=0.5, random_state=1)
    trees.fit(features, truth.astype(int))
    converted = to_onnx(trees, features[:1].astype(np.float32), options={"zipmap": False}, target_opset=17)
    return bytes(converted.SerializeToString())


def session(artifact: bytes) -> Any:
    """Return an onnxruntime session of the model with one thread, as every contender is to use it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(artifact, options, providers=["CPUExecutionProvider"])


@cache
def expected() -> npt.NDArray[np.float64]:
    """Return the score of each of the rows."""
    answers = session(model()).run(["probabilities"], {"X": rows().astype(np.float32)})[0]
    return np.asarray(answers[:, 1], dtype=np.float64)


def name(number: int) -> str:
    """Return the request id of a request: fixed in length, so that it is found again in any encoding."""
    return f"r{number:0{_NAME_DIGITS}d}"


def request(number: int, requested_at_milliseconds: int = 1_700_000_000_000) -> bytes:
    """Return a framed request; its row is `rows()[number % ROWS]`."""
    digits = f"{number:0{_NAME_DIGITS}d}".encode()
    return b"".join((_HEAD, digits, _instant(requested_at_milliseconds), _cells()[number % ROWS]))


@cache
def _instant(milliseconds: int) -> bytes:
    return varints.encode(milliseconds)


@cache
def _cells() -> Sequence[bytes]:
    return [row.astype("<f8").tobytes() for row in rows()]


def keys(count: int, seed: int = SEED) -> list[bytes]:
    """Return random keys out of KEYS."""
    return [b"k%04d" % number for number in np.random.default_rng(seed).integers(0, KEYS, count).tolist()]


def digests() -> dict[str, str]:
    """Return what the work is made of, as digests."""
    return {
        "model": hashlib.sha256(model()).hexdigest(),
        "rows": hashlib.sha256(rows().tobytes()).hexdigest(),
    }
