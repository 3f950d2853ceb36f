"""Results: what the encoder writes with constant heads and tails, fastavro reads back by the contract's schema."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import fastavro
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.codec.contract import result_schema
from interlock.errors import Reason
from interlock.kafka.partition import TopicPartition
from interlock.signature import Input, Output, Signature
from interlock_router.batch import Batch, Rejection, Share
from interlock_router.model import Arm, RouteTable
from interlock_router.results import Answer, Rejected, ResultEncoder

OUTPUTS = ("score", "margin")
SIGNATURE = Signature(inputs=(Input("x", "double"),), outputs=(Output("score"), Output("margin")))
SCORED_AT = datetime(2026, 11, 27, 8, 0, 0, 123_000, tzinfo=UTC)
SCHEMA = fastavro.parse_schema(result_schema("fraud-eu", SIGNATURE))


@dataclass
class Record:
    """A Kafka record as far as a batch looks."""

    offset: int
    timestamp: int = 5
    key: bytes | None = b"k"
    value: bytes | None = b""
    headers: Sequence[tuple[str, bytes]] = ()


def arm(version: int, outputs: tuple[str, ...] = OUTPUTS) -> Arm:
    """Make an arm whose version has these outputs."""
    signature = Signature(inputs=SIGNATURE.inputs, outputs=tuple(map(Output, outputs)))
    return Arm(f"arm{version}", "fraud", version, f"sha256:{version:064x}", f"fraud--v{version}", 5_000, signature)


def batch(ids: list[str], offsets: list[int], times: list[int], schema_ids: list[int]) -> Batch:
    """Make a batch that was read without faults."""
    records = [Record(offset) for offset in offsets]
    shares = [Share(TopicPartition("fraud.requests", 3), 0, len(records))]
    return Batch(records, shares, [each.encode() for each in ids], np.array(times), np.array(schema_ids))


def read(value: bytes) -> dict[str, Any]:
    """Read a framed result whole."""
    assert value[:5] == b"\x00\x00\x00\x03\xea"
    stream = io.BytesIO(value[5:])
    row = fastavro.schemaless_reader(stream, SCHEMA, None)
    assert isinstance(row, dict) and stream.tell() == len(value) - 5
    return row


ROWS = st.lists(
    st.tuples(
        st.text(max_size=80),
        st.integers(0, 2**40),
        st.integers(0, 2**43),
        st.sampled_from([1001, 1002]),
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=200, deadline=None)
@given(ROWS, st.randoms(use_true_random=False))
def test_every_result_reads_back_as_what_was_answered(rows: list[tuple[str, int, int, int, int]], chance: Any) -> None:
    """Any ids, offsets, times, schemas, arms and rejections: each row has its own values and its arm's provenance."""
    whole = batch(*(list(column) for column in list(zip(*rows, strict=True))[:4]))
    table = RouteTable("fraud-eu", 42, (arm(1), arm(2, ("score",))), 1002, OUTPUTS)
    answers = []
    for index, asked in enumerate(table.arms):
        places = np.array([row for row, values in enumerate(rows) if values[4] == index], dtype=np.intp)
        if places.size:
            outputs = np.array([[chance.uniform(-1, 1) for _ in asked.signature.outputs] for _ in places])
            answers.append(Answer(asked, places, outputs, np.zeros((places.size, 0))))
    rejected = [
        Rejected(row, Rejection(Reason.MISSING_FEATURE, "x"), table.arms[0] if row % 2 else None)
        for row, values in enumerate(rows)
        if values[4] == 2
    ]
    values = ResultEncoder(table, "fraud-eu.requests", 3, SCORED_AT).encode(whole, answers, rejected)
    found = [read(value) for value in values]
    for row, (request_id, offset, time, schema_id, _) in zip(found, rows, strict=True):
        assert (row["request_id"], row["offset"], row["request_schema_id"]) == (request_id, offset, schema_id)
        assert round(row["requested_at"].timestamp() * 1000) == time
        assert (row["topic"], row["partition"], row["endpoint"], row["epoch"]) == (
            "fraud-eu.requests",
            3,
            "fraud-eu",
            42,
        )
        assert row["scored_at"] == SCORED_AT
    for answer in answers:
        for place, outputs in zip(answer.rows.tolist(), answer.outputs.tolist(), strict=True):
            row = found[place]
            assert (row["version"], row["digest"], row["arm"]) == (
                answer.arm.version,
                answer.arm.digest,
                answer.arm.name,
            )
            assert row["score"] == outputs[0] and row["margin"] == (outputs[1] if len(outputs) > 1 else None)
            assert row["rejection"] is None and row["dead_letter"] is None
    for each in rejected:
        row = found[each.row]
        assert (row["score"], row["margin"], row["rejection"]) == (None, None, "MISSING_FEATURE")
        assert row["dead_letter"] == f"fraud-eu.requests/3/{rows[each.row][1]}"
        assert (row["model"], row["version"]) == (("fraud", 1) if each.arm else ("", 0))


def test_the_contract_of_an_endpoint_is_stable() -> None:
    """Requests and results of one signature, field by field: clients are built on this."""
    schema = json.loads(json.dumps(result_schema("fraud-eu", SIGNATURE)))
    assert (schema["namespace"], schema["name"]) == ("io.interlock.fraud_eu", "Result")
    assert [each["name"] for each in schema["fields"]] == [
        *(
            "request_id",
            "offset",
            "requested_at",
            "score",
            "margin",
            "topic",
            "partition",
            "endpoint",
            "model",
            "version",
        ),
        *("digest", "epoch", "arm", "request_schema_id", "scored_at", "rejection", "dead_letter"),
    ]
