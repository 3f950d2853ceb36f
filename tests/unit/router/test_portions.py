"""A batch of several partitions: cut by bytes, read and scored as one, taken apart again for what is written."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.codec.contract import request_schema
from interlock.codec.framing import frame
from interlock.codec.plan import Plan, compile_plan
from interlock.errors import Reason
from interlock.kafka.partition import Taken, TopicPartition
from interlock.signature import Input, Output, Signature
from interlock_router.batch import Batch, Rejection, read
from interlock_router.lane import _pieces
from interlock_router.model import Arm, RouteTable
from interlock_router.results import Answer, Rejected
from interlock_router.score import Scored
from tests.unit.router.requests import Request

SIGNATURE = Signature((Input("a", "double"),), (Output("score", "double"),))
PLAN = compile_plan(request_schema("fraud", SIGNATURE))
ARM = Arm("champion", "m", 1, "sha256:1", "m-1", 10_000, SIGNATURE)
TABLE = RouteTable("fraud", 3, (ARM,), 1002, ("score",))


def _taken(partition: int, first: int, values: list[bytes | None], behind: int = 0) -> Taken:
    records = [Request(first + index, value) for index, value in enumerate(values)]
    return Taken(TopicPartition("fraud.requests", partition), records, first + len(values) + behind, 0)


def _value(number: int) -> bytes:
    name = f"r{number}".encode()
    return frame(1001, bytes([2 * len(name)]) + name + b"\x02" + np.array([number], dtype="<f8").tobytes())


async def _plans(schema_id: int) -> Plan | None:
    return PLAN if schema_id == 1001 else None


def _read(*taken: Taken) -> Batch:
    return asyncio.run(read(taken, _plans, 1_000_000))


@given(
    sizes=st.lists(st.lists(st.integers(0, 9), max_size=8), min_size=1, max_size=4).filter(any),
    bytes_max=st.integers(1, 30),
)
def test_pieces_have_every_record_once_in_order_and_end_where_the_next_begins(
    sizes: list[list[int]], bytes_max: int
) -> None:
    """Whatever lies in which partition: the last piece of each ends behind what was taken of it."""
    taken = [_taken(number, 10 * number, [bytes(size) for size in each], 2) for number, each in enumerate(sizes)]
    pieces = list(_pieces(taken, bytes_max))
    parts = [each for piece in pieces for each in piece]
    assert [(each.source, record.offset) for each in parts for record in each.records] == [
        (each.source, record.offset) for each in taken for record in each.records
    ]
    for piece in pieces:
        sizes_of = [len(record.value) for each in piece for record in each.records]
        assert sizes_of and all(each.records for each in piece)
        assert sum(sizes_of) <= bytes_max or len([size for size in sizes_of if size]) == 1
    for each in taken:
        mine = [part for part in parts if part.source == each.source]
        assert [part.next_offset for part in mine[:-1]] == [part.records[0].offset for part in mine[1:]]
        assert not mine or mine[-1].next_offset == each.next_offset


@pytest.mark.parametrize("rows", [3, 200])
def test_each_partition_gets_its_own_part_of_batch_and_scores(rows: int) -> None:
    """Offsets, ids, times, rejections, answers: as if each partition had been read and scored alone."""
    values: list[bytes | None] = [_value(number) for number in range(rows)]
    others = [*values[:-1], b"rubbish"]
    portions = (_taken(0, 100, values), _taken(1, 7, others))
    whole = _read(*portions)
    scores = np.arange(2.0 * rows - 1)[:, None]
    answered = np.arange(2 * rows - 1)
    parts = (slice(rows, None), slice(rows))  # as a version that failed is asked in parts, in any order
    scored = Scored(
        TABLE,
        [Answer(ARM, answered[part], scores[part], -scores[part]) for part in parts],
        [Rejected(2 * rows - 1, Rejection(Reason.UNKNOWN_SCHEMA, "no schema"), None)],
    )
    first, second = whole.shares
    for share, portion in ((first, portions[0]), (second, portions[1])):
        part, alone = whole.part(share), _read(portion)
        assert part.offsets.tolist() == alone.offsets.tolist()
        assert list(part.ids) == list(alone.ids)
        assert part.values == alone.values
        assert part.contents is not None and alone.contents is not None
        assert list(part.contents) == list(alone.contents)
        assert part.requested_at.tolist() == alone.requested_at.tolist()
        assert part.schema_ids.tolist() == alone.schema_ids.tolist()
        assert {row: each.reason for row, each in part.rejections.items()} == {
            row: each.reason for row, each in alone.rejections.items()
        }
        assert part.shares == alone.shares
    [of_first] = scored.part(first).answers
    assert of_first.rows.tolist() == list(range(rows)) and of_first.outputs[:, 0].tolist() == list(range(rows))
    assert scored.part(first).rejected == []
    [of_second] = scored.part(second).answers
    assert of_second.rows.tolist() == list(range(rows - 1))
    assert of_second.features[:, 0].tolist() == [-float(number) for number in range(rows, 2 * rows - 1)]
    assert [each.row for each in scored.part(second).rejected] == [rows - 1]


def test_a_batch_of_one_partition_is_its_own_part() -> None:
    """Nothing is copied where there is nothing to take apart."""
    batch = _read(_taken(4, 0, [_value(0), _value(1)]))
    assert batch.part(batch.shares[0]) is batch
